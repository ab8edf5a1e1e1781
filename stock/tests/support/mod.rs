//! What the ledger's tests share.
#![allow(dead_code, unreachable_pub)]

use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_stock::testing::{MemoryJournal, OwnedRecord};
use tidegate_stock::{
    Ledger, LedgerLimits, Reserve, ReserveOutcome, SaleSpec, TicketId, TicketView, Transition,
    TransitionOutcome,
};

pub const SALE: &str = "sale";

pub fn spec(stock: u64) -> SaleSpec {
    SaleSpec {
        item: "item".to_owned(),
        title: None,
        stock,
        per_buyer_limit: 1,
        quantity_max: 1,
        opens_at_ms: Some(0),
        closes_at_ms: None,
        order_deadline_ms: 1_000,
        pay_window_ms: 5_000,
        weight: 1,
        requires_pass: false,
        limit_group: None,
        limit_counts_released: false,
    }
}

/// A ledger with one open sale.
pub fn ledger(spec: &SaleSpec) -> (Ledger<MemoryJournal>, MemoryJournal) {
    let journal = MemoryJournal::new();
    let ledger = Ledger::new(journal.clone(), LedgerLimits::default());
    ledger.begin_generation();
    ledger.put_sale(SALE, spec, 0).unwrap();
    (ledger, journal)
}

/// What a crash leaves, folded.
pub fn restart(journal: &MemoryJournal) -> (Ledger<MemoryJournal>, MemoryJournal) {
    let journal = journal.after_crash();
    let ledger = Ledger::new(journal.clone(), LedgerLimits::default());
    journal.replay(&ledger, tidegate_stock::Lsn(0)).unwrap();
    ledger.begin_generation();
    (ledger, journal)
}

pub fn fresh_id() -> TicketId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    TicketId(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

pub fn order<'a>(buyer: &'a str, key: Option<&'a str>) -> Reserve<'a> {
    Reserve {
        ticket: fresh_id(),
        sale: SALE,
        buyer,
        quantity: 1,
        idempotency_key: key,
        body_hash: 7,
        attributes: "{}",
        now_ms: 100,
    }
}

pub fn win(ledger: &Ledger<MemoryJournal>, buyer: &str) -> TicketView {
    match ledger.reserve(&order(buyer, None)).unwrap() {
        ReserveOutcome::Won { ticket } => ticket,
        other => panic!("{buyer} did not win: {other:?}"),
    }
}

pub fn done(
    ledger: &Ledger<MemoryJournal>,
    id: TicketId,
    transition: Transition<'_>,
    now_ms: u64,
) -> TicketView {
    match ledger.transition(id, transition, now_ms).unwrap() {
        TransitionOutcome::Done(view) => view,
        other => panic!("{transition:?} did not take effect: {other:?}"),
    }
}

pub fn assert_holds(ledger: &Ledger<MemoryJournal>, sale: &str) {
    let audit = ledger.audit(sale).unwrap();
    assert!(audit.holds, "{audit:#?}");
}

/// Two ledgers of the same journal answer the same, ticket by ticket and sale by sale.
pub fn assert_same(left: &Ledger<MemoryJournal>, right: &Ledger<MemoryJournal>, journal: &MemoryJournal) {
    // Epochs are for comparing within a process; generations differ between two recoveries.
    let sales = |ledger: &Ledger<MemoryJournal>| -> Vec<_> {
        ledger
            .sales()
            .into_iter()
            .map(|view| (view.sale, view.spec, view.switch, view.stock, view.lsn))
            .collect()
    };
    assert_eq!(sales(left), sales(right));
    for view in left.sales() {
        assert_eq!(left.audit(&view.sale), right.audit(&view.sale));
        assert_holds(left, &view.sale);
    }
    assert_eq!(left.live_tickets(), right.live_tickets());
    for record in journal.records() {
        if let OwnedRecord::Order { ticket, sale, buyer, .. } = record {
            assert_eq!(left.ticket(ticket), right.ticket(ticket));
            assert_eq!(left.tickets_of(&sale, &buyer), right.tickets_of(&sale, &buyer));
        }
    }
}
