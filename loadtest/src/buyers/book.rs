//! The buyers' own book: which ticket each key was answered with, and every state they were told.

use super::answer::TicketAnswer;
use super::errand::Order;
use super::tally::Outcome;
use crate::clock::Micros;
use crate::evidence::{BuyersSaw, KeyConflict, NotYetKnown, Sighting, TicketId, Told};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidegate_client::wire::ProblemType;

/// Undocumented answers kept for the report; the rest is only counted.
const UNDOCUMENTED_MAX: usize = 5;
/// Conflicts kept; one is enough to fail.
const CONFLICTS_MAX: usize = 100;
/// Tickets of one key that were not known yet; a correct gateway tells of one or two.
const NOT_YET_MAX: usize = 16;

#[derive(Default)]
pub(crate) struct Book {
    saw: BuyersSaw,
    by_key: HashMap<(u32, u8), TicketId>,
    not_yet: HashMap<(u32, u8), Vec<NotYetKnown>>,
}

impl Book {
    /// A 202.
    pub(crate) fn told(
        &mut self,
        order: Order,
        answer: TicketAnswer,
        gateway: u32,
        now_us: Micros,
    ) -> Outcome {
        match self.by_key.entry((order.buyer, order.key)) {
            Entry::Vacant(entry) => {
                entry.insert(answer.ticket);
            }
            Entry::Occupied(entry) if *entry.get() != answer.ticket => {
                if self.saw.key_conflicts.len() < CONFLICTS_MAX {
                    let (first, second) = (*entry.get(), answer.ticket);
                    self.saw.key_conflicts.push(KeyConflict {
                        buyer: order.buyer,
                        key: order.key,
                        first,
                        second,
                    });
                }
            }
            Entry::Occupied(_) => {}
        }
        let sighting = Sighting { status: answer.status, version: answer.version, at_us: now_us };
        let Some(told) = self.saw.tickets.get_mut(&answer.ticket) else {
            let told = Told {
                buyer: order.buyer,
                key: order.key,
                quantity: answer.quantity,
                gateway,
                at_once: order.alone,
                asked_us: order.asked_us,
                told_us: now_us,
                times: 1,
                seen: vec![sighting],
            };
            self.saw.tickets.insert(answer.ticket, told);
            return Outcome::Won;
        };
        if (told.buyer, told.key) != (order.buyer, order.key) && self.saw.shared_tickets.len() < CONFLICTS_MAX
        {
            self.saw.shared_tickets.push((order.buyer, answer.ticket));
        }
        told.times += 1;
        told.see(sighting);
        Outcome::WonRepeat
    }

    /// A 503 with a ticket.
    pub(crate) fn not_yet(&mut self, order: Order, ticket: TicketId) {
        let Order { buyer, key, .. } = order;
        let known = self.not_yet.entry((buyer, key)).or_default();
        if known.len() < NOT_YET_MAX && known.iter().all(|known| known.ticket != ticket) {
            known.push(NotYetKnown { buyer, key, ticket, refused: None });
        }
    }

    /// A refusal that is an answer: what was not known yet of this key is settled with it.
    pub(crate) fn refused(&mut self, order: Order, problem: ProblemType) {
        for known in self.not_yet.get_mut(&(order.buyer, order.key)).into_iter().flatten() {
            known.refused = Some(problem);
        }
    }

    /// A poll's answer.
    pub(crate) fn polled(&mut self, answer: TicketAnswer, now_us: Micros) {
        if let Some(told) = self.saw.tickets.get_mut(&answer.ticket) {
            told.see(Sighting { status: answer.status, version: answer.version, at_us: now_us });
        }
    }

    pub(crate) fn undocumented(&mut self, what: &str) {
        self.saw.undocumented_count += 1;
        if self.saw.undocumented.len() < UNDOCUMENTED_MAX {
            self.saw.undocumented.push(what.to_owned());
        }
    }

    pub(crate) fn unresolved(&mut self) {
        self.saw.unresolved += 1;
    }

    pub(crate) fn into_seen(mut self) -> BuyersSaw {
        self.saw.not_yet_known = self.not_yet.into_values().flatten().collect();
        self.saw
    }
}
