//! Audit: the counters against a recount of the tickets, all under the sale's lock.

use super::ledger::Ledger;
use super::machine::is_released;
use super::sale::{Sale, SaleState};
use crate::record::Journal;
use crate::types::{Audit, Identity, TicketStatus};
use std::sync::Arc;

const STATES: [TicketStatus; 8] = [
    TicketStatus::Queued,
    TicketStatus::AwaitingPayment,
    TicketStatus::Paid,
    TicketStatus::Cancelled,
    TicketStatus::Expired,
    TicketStatus::Rejected,
    TicketStatus::Dropped,
    TicketStatus::Failed,
];

impl<J: Journal> Ledger<J> {
    /// Recounts the sale's tickets; the sale waits meanwhile (a few ms per 100,000 tickets). `None`: no such sale.
    pub fn audit(&self, sale: &str) -> Option<Audit> {
        let sale = self.find(sale)?;
        let state = sale.state.lock();
        Some(audit(&sale, &state))
    }
}

pub(super) fn audit(sale: &Sale, state: &SaleState) -> Audit {
    let mut count = [0_u64; STATES.len()];
    let mut units = [0_u64; STATES.len()];
    let mut unreleased = 0_u64;
    for ticket in state.tickets.iter() {
        let position = STATES.iter().position(|&status| status == ticket.status).unwrap_or(0);
        count[position] += 1;
        units[position] += u64::from(ticket.quantity);
        unreleased += if is_released(ticket.status) { 0 } else { u64::from(ticket.quantity) };
    }
    let units_of = |wanted: &dyn Fn(TicketStatus) -> bool| -> u64 {
        STATES.iter().zip(units).filter(|(status, _)| wanted(**status)).map(|(_, units)| units).sum()
    };
    let counters = &state.counters;
    let stock = state.stock();
    let restocks: u128 = state.restocks.values().map(|&quantity| u128::from(quantity)).sum();
    let by_buyers: u64 = state.buyers.iter().map(|buyer| u64::from(buyer.held)).sum();
    let identities = vec![
        identity(
            "initial + restocked = available + held + sold",
            i128::from(stock.initial) + i128::from(stock.restocked),
            i128::from(stock.available) + i128::from(stock.held) + i128::from(stock.sold),
        ),
        identity(
            "held = units queued, awaiting payment or returning",
            stock.held.into(),
            i128::from(units_of(&|status| !status.is_terminal())) + i128::from(counters.returning),
        ),
        identity("sold = units paid", stock.sold.into(), units_of(&|s| s == TicketStatus::Paid).into()),
        identity("returned = units released", stock.returned.into(), units_of(&is_released).into()),
        identity("restocked = units of all restocks", stock.restocked.into(), restocks as i128),
        identity("units of all buyers = units not released", by_buyers.into(), unreleased.into()),
    ];
    Audit {
        sale: Arc::clone(&sale.id),
        holds: identities.iter().all(|identity| identity.holds),
        stock,
        tickets: STATES.into_iter().zip(count).collect(),
        identities,
        lsn: state.lsn,
    }
}

fn identity(name: &str, left: i128, right: i128) -> Identity {
    Identity { name: name.to_owned(), left, right, holds: left == right }
}
