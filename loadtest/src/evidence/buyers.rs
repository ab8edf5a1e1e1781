//! What buyers were told: tickets by order and by poll, and everything odd.

use super::{Table, TicketId};
use crate::clock::Micros;
use tidegate_client::wire::{ProblemType, TicketStatus};

/// One buyer's ticket, as first told and as seen since.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "asked, told, seen: the three belong together")]
pub(crate) struct Told {
    pub(crate) buyer: u32,
    /// Which of the buyer's idempotency keys.
    pub(crate) key: u8,
    pub(crate) quantity: u32,
    /// The gateway that told of it first.
    pub(crate) gateway: u32,
    /// It was answered at once, to the only request with its key: that gateway sold it.
    pub(crate) at_once: bool,
    /// The first request of the chain that led here left at, or was due at: no earlier was it admitted.
    pub(crate) asked_us: Micros,
    /// The first answer that named the ticket came at.
    pub(crate) told_us: Micros,
    /// Answers to orders that named it.
    pub(crate) times: u32,
    /// Distinct states in order of sight; a handful at most.
    pub(crate) seen: Vec<Sighting>,
}

/// A state of a ticket that a buyer was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) status: TicketStatus,
    pub(crate) version: u32,
    pub(crate) at_us: Micros,
}

impl Told {
    /// Notes a state, once.
    pub(crate) fn see(&mut self, sighting: Sighting) {
        let known = |s: &Sighting| s.status == sighting.status && s.version == sighting.version;
        // A correct gateway shows three states of a ticket at most; a broken one shall not fill the memory.
        if self.seen.len() < 16 && !self.seen.iter().any(known) {
            self.seen.push(sighting);
        }
    }
}

/// One key of one buyer, answered with two tickets.
#[derive(Debug, Clone)]
pub(crate) struct KeyConflict {
    pub(crate) buyer: u32,
    pub(crate) key: u8,
    pub(crate) first: TicketId,
    pub(crate) second: TicketId,
}

/// A 503 with a ticket: "not known yet". It may turn out either way, but not both.
#[derive(Debug, Clone)]
pub(crate) struct NotYetKnown {
    pub(crate) buyer: u32,
    pub(crate) key: u8,
    pub(crate) ticket: TicketId,
    /// The key was refused for good afterwards.
    pub(crate) refused: Option<ProblemType>,
}

/// All buyers together.
#[derive(Debug, Default)]
pub(crate) struct BuyersSaw {
    pub(crate) tickets: Table<Told>,
    /// A ticket told to two buyers, or under two keys: the second holder and the ticket.
    pub(crate) shared_tickets: Vec<(u32, TicketId)>,
    pub(crate) key_conflicts: Vec<KeyConflict>,
    pub(crate) not_yet_known: Vec<NotYetKnown>,
    /// Orders whose outcome the buyer never learned, in spite of all retries.
    pub(crate) unresolved: u64,
    /// Answers that the interface does not know; the first few, and how many in all.
    pub(crate) undocumented: Vec<String>,
    pub(crate) undocumented_count: u64,
}

impl BuyersSaw {
    /// Joins what two threads saw; no buyer is in both.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (ticket, told) in other.tickets {
            let buyer = told.buyer;
            if self.tickets.insert(ticket, told).is_some() {
                self.shared_tickets.push((buyer, ticket));
            }
        }
        self.shared_tickets.extend(other.shared_tickets);
        self.key_conflicts.extend(other.key_conflicts);
        self.not_yet_known.extend(other.not_yet_known);
        self.unresolved += other.unresolved;
        self.undocumented.extend(other.undocumented);
        self.undocumented_count += other.undocumented_count;
    }
}
