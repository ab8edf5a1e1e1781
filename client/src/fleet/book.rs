//! What is known of every address, and who of them are members.

use super::Member;
use crate::Client;
use crate::client::normal_url;
use crate::wire::Gateway;
use std::collections::HashSet;
use std::sync::Arc;

/// Addresses kept beyond those given; further ones are passed over until others are forgotten.
const FOUND_MAX: usize = 64;

/// Ids under which one address is listed at once; more than two are nonsense.
const NAMES_MAX: usize = 8;

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
    /// Has answered as the gateway that it is listed as.
    proven: bool,
    /// Goes by the address that the gateway names itself.
    own: bool,
    /// The id that it told in this round.
    told: Option<String>,
    /// The ids under which lists of this round name it.
    names: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Book {
    known: Vec<Known>,
    /// Some list was heard in this round.
    heard: bool,
    full: bool,
}

impl Known {
    fn new(id: &str, client: Client, given: bool) -> Self {
        // One that was given has the benefit of the doubt until it was asked.
        let member = Member::new(id, client, given);
        Self { member, given, proven: false, own: false, told: None, names: Vec::new() }
    }

    fn name(&mut self, id: &str) {
        if self.names.len() < NAMES_MAX && self.names.iter().all(|name| name != id) {
            self.names.push(id.to_owned());
        }
    }

    /// Compares what it told with what it is listed as. The address that one gateway calls its own may lead to
    /// another one from here (`127.0.0.1`, `0.0.0.0`), and that one is not what was looked for.
    fn judge(&mut self) {
        if let Some(id) = self.told.take() {
            self.proven = self.given || self.names.contains(&id);
            if self.proven && self.member.id() != id {
                self.member = Member::new(&id, self.member.client().clone(), true);
            }
        }
    }
}

impl Book {
    pub(super) fn new(given: Vec<Client>) -> Self {
        let known = given.into_iter().map(|client| Known::new("", client, true)).collect();
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
        let Heard::List(list) = heard else {
            // Another server at this address is not the gateway that was found there.
            known.proven &= known.given || matches!(heard, Heard::Silence);
            return Vec::new();
        };
        let this = list.iter().find(|gateway| gateway.this);
        known.own = this.and_then(own_url).is_some_and(|own| own == url);
        known.proven &= known.given || this.is_some();
        known.told = this.map(|this| this.gateway.clone());
        // The word of one that was found counts once it has proved to be who it was said to be.
        let trusted = known.given || known.proven && known.told.as_deref() == Some(known.member.id());
        if !trusted {
            return Vec::new();
        }
        self.heard = true;
        list.iter().filter_map(|gateway| self.named(gateway, &reach)).collect()
    }

    fn named(&mut self, gateway: &Gateway, reach: impl Fn(&str) -> Option<Client>) -> Option<Client> {
        let url = own_url(gateway)?;
        if let Some(known) = self.known.iter_mut().find(|known| known.member.url() == url) {
            known.name(&gateway.gateway);
            return None;
        }
        // Without an id it could not be told from the address that answered.
        if gateway.this && gateway.gateway.is_empty() {
            return None;
        }
        if self.known.iter().filter(|known| !known.given).count() >= FOUND_MAX {
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!(%url, kept = FOUND_MAX,
                    "more gateways are listed than are kept; this one and others are passed over");
            }
            return None;
        }
        let client = reach(&url)?;
        let mut known = Known::new(&gateway.gateway, client.clone(), false);
        known.name(&gateway.gateway);
        self.known.push(known);
        Some(client)
    }

    /// Ends a round: forgets who neither answers as a gateway nor is named by anybody, and answers the members.
    pub(super) fn close_round(&mut self) -> Arc<[Member]> {
        // Where nobody could be heard, nobody was left out.
        let heard = std::mem::take(&mut self.heard);
        self.known.retain_mut(|known| {
            let silent = known.told.is_none();
            known.judge();
            let named = !std::mem::take(&mut known.names).is_empty();
            let stays = if silent { !heard } else { known.proven };
            known.given || named || stays
        });
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
