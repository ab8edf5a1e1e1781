//! What is known of every address, and who of them are members.

use super::Member;
use crate::Client;
use crate::client::normal_url;
use crate::wire::Gateway;
use std::collections::HashSet;
use std::sync::Arc;

/// Addresses kept beyond those given; further ones are passed over until others are forgotten.
const FOUND_MAX: usize = 64;

/// What came of asking one address.
#[derive(Debug)]
pub(super) enum Heard {
    /// The list.
    List(Vec<Gateway>),
    /// An answer, but no list: an older gateway, a missing scope, or no gateway at all.
    Refusal,
    /// Nothing in time.
    Silence,
}

#[derive(Debug)]
struct Known {
    member: Member,
    given: bool,
    /// Has answered as a gateway.
    proven: bool,
    /// And did so in this round.
    alive: bool,
    /// Goes by the address that the gateway names itself.
    own: bool,
    /// Named by a list of this round.
    listed: bool,
}

#[derive(Debug)]
pub(super) struct Book {
    known: Vec<Known>,
    /// Some list was heard in this round.
    heard: bool,
    full: bool,
}

impl Book {
    pub(super) fn new(given: Vec<Client>) -> Self {
        let known = given
            .into_iter()
            .map(|client| Known {
                member: Member::new("", client, true),
                given: true,
                proven: false,
                alive: false,
                own: false,
                listed: false,
            })
            .collect();
        Self { known, heard: false, full: false }
    }

    /// Whom to ask in a round.
    pub(super) fn addresses(&self) -> Vec<Client> {
        self.known.iter().map(|known| known.member.client().clone()).collect()
    }

    /// Takes down what was heard of one address. Answers the addresses that are named for the first time.
    pub(super) fn note(
        &mut self,
        url: &str,
        heard: Heard,
        reach: impl Fn(&str) -> Option<Client>,
    ) -> Vec<Client> {
        let Some(known) = self.known.iter_mut().find(|known| known.member.url() == url) else {
            return Vec::new();
        };
        known.member.set_answers(!matches!(heard, Heard::Silence));
        known.alive = false;
        let Heard::List(list) = heard else { return Vec::new() };
        if let Some(this) = list.iter().find(|gateway| gateway.this) {
            (known.proven, known.alive) = (true, true);
            known.own = own_url(this).is_some_and(|own| own == url);
            if known.member.id() != this.gateway {
                known.member = Member::new(&this.gateway, known.member.client().clone(), true);
            }
        } else if !known.given {
            // No gateway: those are in their own list.
            return Vec::new();
        }
        self.heard = true;
        list.iter().filter_map(|gateway| self.named(gateway, &reach)).collect()
    }

    fn named(&mut self, gateway: &Gateway, reach: impl Fn(&str) -> Option<Client>) -> Option<Client> {
        let url = own_url(gateway)?;
        if let Some(known) = self.known.iter_mut().find(|known| known.member.url() == url) {
            known.listed = true;
            return None;
        }
        // Without an id it could not be told from the address that answered.
        if gateway.this && gateway.gateway.is_empty() {
            return None;
        }
        if self.known.iter().filter(|known| !known.given).count() >= FOUND_MAX {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(%url, kept = FOUND_MAX, "too many gateways are listed; this one and others are passed over");
            }
            return None;
        }
        let client = reach(&url)?;
        let member = Member::new(&gateway.gateway, client.clone(), false);
        self.known.push(Known {
            member,
            given: false,
            proven: false,
            alive: false,
            own: false,
            listed: true,
        });
        Some(client)
    }

    /// Ends a round: forgets who neither answers as a gateway nor is named by anybody, and answers the members.
    pub(super) fn close_round(&mut self) -> Arc<[Member]> {
        // Where nobody could be heard, nobody was left out.
        if std::mem::take(&mut self.heard) {
            self.known.retain(|known| known.given || known.listed || known.alive);
        }
        for known in &mut self.known {
            known.listed = false;
        }
        self.members()
    }

    /// Each gateway once, those that answer first.
    pub(super) fn members(&self) -> Arc<[Member]> {
        let mut members: Vec<&Known> =
            self.known.iter().filter(|known| known.given || known.proven).collect();
        members.sort_by_key(|known| (!known.member.answers(), !known.own));
        let mut ids = HashSet::new();
        members
            .into_iter()
            .map(|known| &known.member)
            .filter(|member| member.id().is_empty() || ids.insert(member.id()))
            .cloned()
            .collect()
    }
}

fn own_url(gateway: &Gateway) -> Option<String> {
    normal_url(gateway.inner.as_deref()?)
}

#[cfg(test)]
mod tests;
