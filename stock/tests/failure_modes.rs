//! The failure modes of the design that the embedded ledger answers for, by their numbers.
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use tidegate_stock::*;

fn outcome(ledger: &Ledger<testing::MemoryJournal>, buyer: &str, key: Option<&str>) -> ReserveOutcome {
    ledger.reserve(&order(buyer, key)).unwrap()
}

#[test]
fn fm01_duplicate_buyer_takes_no_unit() {
    let (ledger, _) = ledger(&spec(2));
    let first = win(&ledger, "ann");
    let again = outcome(&ledger, "ann", None);
    assert_eq!(again, ReserveOutcome::LimitReached { tickets: vec![first.ticket], lsn: first.lsn });
    assert_eq!(ledger.sale(SALE).unwrap().stock.available, 1);
    win(&ledger, "bob");
    assert_holds(&ledger, SALE);
}

#[test]
fn fm02_many_refusals_leave_no_debt_that_swallows_a_returned_unit() {
    let (ledger, journal) = ledger(&spec(1));
    let ticket = win(&ledger, "ann").ticket;
    for buyer in ["b", "c", "d", "e"] {
        assert!(matches!(outcome(&ledger, buyer, None), ReserveOutcome::SoldOut { .. }));
    }
    done(&ledger, ticket, Transition::Rejected { reason: "no" }, 200);
    assert_eq!(ledger.settle(journal.sync()).len(), 1);
    assert_eq!(ledger.sale(SALE).unwrap().stock.available, 1);
    win(&ledger, "b");
    assert_holds(&ledger, SALE);
}

#[test]
fn fm04_a_reservation_of_unknown_outcome_is_resolved_by_its_id() {
    let (ledger, journal) = ledger(&spec(2));
    let kept = win(&ledger, "ann");
    let durable = journal.sync();
    let lost = win(&ledger, "bob");
    assert_eq!(ledger.ticket(kept.ticket).as_ref(), Some(&kept));
    assert!(kept.lsn <= durable && lost.lsn > durable);
    let (ledger, _) = restart(&journal);
    assert_eq!(ledger.ticket(kept.ticket).unwrap().status, TicketStatus::Queued);
    assert_eq!(ledger.ticket(lost.ticket), None);
    assert_eq!(ledger.sale(SALE).unwrap().stock.available, 1);
    assert_holds(&ledger, SALE);
}
