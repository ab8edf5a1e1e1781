//! What a buyer wants done, and when it is due.

use crate::clock::Micros;
use crate::evidence::TicketId;
use crate::schedule::Persona;
use std::cmp::Ordering;

/// An order request, one of a chain that ends with a definite answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) buyer: u32,
    /// Index of the idempotency key.
    pub(crate) key: u8,
    /// The first request of the chain was due at; once it was sent, it left at (see [`Order::leaving`]).
    pub(crate) asked_us: Micros,
    /// Requests of the chain so far that got no definite answer.
    pub(crate) tries: u16,
    /// The buyer holds the ticket and asks again, to see the same one.
    pub(crate) again: bool,
    /// No other request with this key has left yet.
    pub(crate) alone: bool,
    /// Moves the buyer on from gateway to gateway.
    pub(crate) turn: u32,
}

impl Order {
    /// The order as it leaves at `now_us`: nothing can have been admitted for it before. Of two presses of one key
    /// either may be the one admitted, so theirs keep the instant they were both due.
    pub(crate) fn leaving(self, persona: Persona, now_us: Micros) -> Self {
        let first = self.tries == 0 && persona != Persona::PressesTwice;
        Self { asked_us: if first { now_us } else { self.asked_us }, ..self }
    }
}

/// A long poll of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Follow {
    pub(crate) ticket: TicketId,
    pub(crate) buyer: u32,
    /// Wait for a version past this one.
    pub(crate) version: u32,
    /// As in [`Order::turn`].
    pub(crate) turn: u32,
}

/// Either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    Order(Order),
    Follow(Follow),
}

/// An errand with its instant; ordered so that a max-heap gives the earliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) at_us: Micros,
    pub(crate) errand: Errand,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_us.cmp(&self.at_us)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
