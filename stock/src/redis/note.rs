//! Notes of the outbox: what no log is known to hold yet. Whoever has one appends its record to a log that is
//! durable, and then clears it.

use crate::types::TicketId;
use std::fmt;
use std::sync::Arc;

/// A note, by the name under which it stands.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Note(Arc<str>);

/// The record that a note asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owed<'n> {
    /// The reservation, to be delivered under a claim epoch.
    Order {
        /// Of which ticket.
        ticket: TicketId,
        /// Goes into the record.
        epoch: u32,
    },
    /// The step to a version.
    Step {
        /// Of which ticket.
        ticket: TicketId,
        /// After the step.
        version: u32,
        /// Goes into the record.
        epoch: u32,
    },
    /// Money that came too late, the nth of its ticket.
    LateMoney {
        /// Of which ticket.
        ticket: TicketId,
        /// From 1.
        nth: u32,
    },
    /// Units that were added.
    Restock {
        /// Its id.
        restock_id: &'n str,
        /// Units.
        quantity: u64,
    },
}

impl Note {
    /// From its name in Redis.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The note that a won reservation leaves.
    pub fn of_win(ticket: TicketId) -> Self {
        Self(Arc::from(format!("o{ticket}:1:0")))
    }

    /// Its name in Redis.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// What it asks for. `None`: of a kind that this release does not know.
    pub fn owed(&self) -> Option<Owed<'_>> {
        let kind = self.0.get(..1)?;
        if kind == "s" {
            let mut parts = self.0[1..].splitn(3, ':');
            parts.next()?;
            let quantity = parts.next()?.parse().ok()?;
            return Some(Owed::Restock { restock_id: parts.next()?, quantity });
        }
        let mut parts = self.0[1..].split(':');
        let ticket = parts.next()?.parse().ok()?;
        let version = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.parse().ok()?;
        Some(match kind {
            "o" => Owed::Order { ticket, epoch },
            "t" | "r" => Owed::Step { ticket, version, epoch },
            "m" => Owed::LateMoney { ticket, nth: version },
            _ => return None,
        })
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Note({})", self.0)
    }
}
