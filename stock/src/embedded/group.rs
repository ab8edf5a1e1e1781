//! Limit groups: sales of one group share the per-buyer limit.
//!
//! A group has a lock of its own, taken inside a sale's lock and never around one, and never two groups at once.
//! It is held over check, append and change, so that the log tells the group's changes in their order too.

use crate::record::Lsn;
use crate::types::TicketId;
use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Clone, Copy)]
struct Holding {
    ticket: TicketId,
    quantity: u32,
    lsn: Lsn,
    released: bool,
}

/// What one buyer holds over all sales of the group.
#[derive(Default)]
pub(super) struct Member {
    held: u64,
    released: u64,
    holdings: SmallVec<[Holding; 1]>,
}

/// The members of one group.
#[derive(Default)]
pub(super) struct Members {
    by_buyer: Map<Arc<str>, Member>,
}

/// One group.
pub(super) type Group = Mutex<Members>;

impl Members {
    /// Units that count against the limit.
    pub(super) fn counted(&self, buyer: &str, with_released: bool) -> u64 {
        self.by_buyer
            .get(buyer)
            .map_or(0, |member| member.held + if with_released { member.released } else { 0 })
    }

    /// The newest tickets that count, `max` at most, and the barrier of what they tell.
    pub(super) fn tickets(&self, buyer: &str, with_released: bool, max: usize) -> (Vec<TicketId>, Lsn) {
        let Some(member) = self.by_buyer.get(buyer) else { return (Vec::new(), Lsn(0)) };
        let told =
            member.holdings.iter().rev().filter(|holding| with_released || !holding.released).take(max);
        let mut lsn = Lsn(0);
        let tickets = told.map(|holding| {
            lsn = lsn.max(holding.lsn);
            holding.ticket
        });
        (tickets.collect(), lsn)
    }

    pub(super) fn add(&mut self, buyer: &str, ticket: TicketId, quantity: u32, lsn: Lsn, released: bool) {
        let member = self.by_buyer.entry(Arc::from(buyer)).or_default();
        *if released { &mut member.released } else { &mut member.held } += u64::from(quantity);
        member.holdings.push(Holding { ticket, quantity, lsn, released });
    }

    /// A ticket moved.
    pub(super) fn update(&mut self, buyer: &str, ticket: TicketId, lsn: Lsn, released: bool) {
        let Some(member) = self.by_buyer.get_mut(buyer) else { return };
        let Some(holding) = member.holdings.iter_mut().rev().find(|holding| holding.ticket == ticket) else {
            return;
        };
        holding.lsn = lsn;
        if released && !holding.released {
            holding.released = true;
            member.held -= u64::from(holding.quantity);
            member.released += u64::from(holding.quantity);
        }
    }

    /// The ticket's sale left the group.
    pub(super) fn remove(&mut self, buyer: &str, ticket: TicketId) {
        let Some(member) = self.by_buyer.get_mut(buyer) else { return };
        if let Some(position) = member.holdings.iter().position(|holding| holding.ticket == ticket) {
            let holding = member.holdings.remove(position);
            *if holding.released { &mut member.released } else { &mut member.held } -=
                u64::from(holding.quantity);
        }
        if member.holdings.is_empty() {
            self.by_buyer.remove(buyer);
        }
    }
}

/// All groups by name. They stay when their last sale leaves: there are no more of them than sale records.
#[derive(Default)]
pub(super) struct Groups {
    by_name: Mutex<Map<String, Arc<Group>>>,
}

impl Groups {
    pub(super) fn get(&self, name: &str) -> Arc<Group> {
        let mut groups = self.by_name.lock();
        if let Some(group) = groups.get(name) {
            return Arc::clone(group);
        }
        let group = Arc::new(Group::default());
        groups.insert(name.to_owned(), Arc::clone(&group));
        group
    }
}
