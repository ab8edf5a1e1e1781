//! Changing what an operator fixed: which specs are allowed, and how a sale takes over a new one.

use super::group::{Group, Groups};
use super::machine::is_released;
use super::sale::SaleState;
use crate::types::{SaleError, SaleSpec, SaleSwitch};
use crate::{Lsn, record::SaleRecord};
use std::sync::Arc;

/// Units one sale may ever have: far from any overflow of the counters.
pub(crate) const UNITS_MAX: u64 = 1 << 53;
const SALE_ID_MAX: usize = 64;
/// Added to any time of day, it is still a number that Lua holds exactly.
const PAY_WINDOW_MAX_MS: u64 = 1 << 52;
/// Items one sale may have had: tickets name theirs in 16 bits.
const ITEMS_MAX: usize = u16::MAX as usize;

pub(crate) fn check_sale_id(sale: &str) -> Result<(), SaleError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if !sale.is_empty() && sale.len() <= SALE_ID_MAX && sale.bytes().all(allowed) {
        return Ok(());
    }
    Err(SaleError::Invalid(format!("sale id {sale:?} must be 1 to {SALE_ID_MAX} of A-Z a-z 0-9 _ . -")))
}

/// What the ledger needs of a spec to keep its promises; everything else is the caller's to judge.
pub(crate) fn check_spec(spec: &SaleSpec) -> Result<(), SaleError> {
    let invalid = |what: &str| Err(SaleError::Invalid(what.to_owned()));
    if spec.item.is_empty() {
        return invalid("item must not be empty");
    }
    if spec.stock > UNITS_MAX {
        return invalid("stock must be at most 2^53");
    }
    if spec.per_buyer_limit == 0 || spec.quantity_max == 0 {
        return invalid("per_buyer_limit and quantity_max must be at least 1");
    }
    if spec.order_deadline_ms == 0 || spec.order_deadline_ms > u64::from(u32::MAX) {
        return invalid("order_deadline_ms must be between 1 and 4294967295 (49 days)");
    }
    if spec.pay_window_ms == 0 || spec.pay_window_ms > PAY_WINDOW_MAX_MS {
        return invalid("pay_window_ms must be between 1 and 4503599627370496 (142,000 years)");
    }
    if let (Some(opens_at_ms), Some(closes_at_ms)) = (spec.opens_at_ms, spec.closes_at_ms)
        && closes_at_ms <= opens_at_ms
    {
        return invalid("closes_at_ms must lie after opens_at_ms");
    }
    Ok(())
}

/// The group a spec names.
pub(super) fn group_of(spec: &SaleSpec, groups: &Groups) -> Option<Arc<Group>> {
    spec.limit_group.as_deref().map(|name| groups.get(name))
}

impl SaleState {
    /// Position of an item among those the sale had; remembers a new one. `None`: too many.
    pub(super) fn intern_item(&mut self, item: &str) -> Option<u16> {
        if let Some(position) = self.items.iter().rposition(|known| &**known == item) {
            return Some(position as u16);
        }
        if self.items.len() >= ITEMS_MAX {
            return None;
        }
        self.items.push(Arc::from(item));
        Some((self.items.len() - 1) as u16)
    }

    /// Takes over spec and switch of a record. `false`: the item could not be remembered, nothing changed.
    #[must_use]
    pub(super) fn take_over(&mut self, record: &SaleRecord<'_>, lsn: Lsn, groups: &Groups) -> bool {
        let Some(item) = self.intern_item(&record.spec.item) else { return false };
        self.item = item;
        if self.spec.limit_group != record.spec.limit_group {
            // Join before leaving: a buyer may for a moment count in both, never in neither.
            let joined = group_of(record.spec, groups);
            self.join(joined.as_deref());
            let left = std::mem::replace(&mut self.group, joined);
            self.leave(left.as_deref());
        }
        if &self.spec != record.spec {
            self.spec = record.spec.clone();
        }
        self.switch = record.switch;
        self.lsn = self.lsn.max(lsn);
        self.spec_lsn = lsn;
        true
    }

    fn join(&self, group: Option<&Group>) {
        let Some(mut members) = group.map(Group::lock) else { return };
        for ticket in self.tickets.iter() {
            let buyer = &self.buyers[ticket.buyer].name;
            members.add(buyer, ticket.id(), ticket.quantity, ticket.lsn, is_released(ticket.status));
        }
    }

    fn leave(&self, group: Option<&Group>) {
        let Some(mut members) = group.map(Group::lock) else { return };
        for ticket in self.tickets.iter() {
            members.remove(&self.buyers[ticket.buyer].name, ticket.id());
        }
    }

    /// The switch as a record of the sale as it is, but for `switch`.
    pub(super) fn record<'a>(&'a self, sale: &'a str, switch: SaleSwitch, at_ms: u64) -> SaleRecord<'a> {
        SaleRecord { sale, spec: &self.spec, switch, at_ms }
    }
}
