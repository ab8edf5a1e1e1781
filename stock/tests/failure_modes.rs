//! The failure modes of the design that the embedded ledger answers for, by their numbers. `fm15` is in
//! `snapshots.rs`; `fm11`, `fm19` and `fm47` need threads and are in `threads.rs`.
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use testing::MemoryJournal;
use tidegate_stock::*;

fn outcome(ledger: &Ledger<MemoryJournal>, buyer: &str, key: Option<&str>) -> ReserveOutcome {
    ledger.reserve(&order(buyer, key)).unwrap()
}

fn sold_out_epoch(ledger: &Ledger<MemoryJournal>) -> Epoch {
    match outcome(ledger, "one too many", None) {
        ReserveOutcome::SoldOut { epoch } => epoch,
        other => panic!("not sold out: {other:?}"),
    }
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
fn fm03_a_crash_after_any_record_leaves_a_winner_with_ticket_and_unit_or_neither() {
    let (ledger, journal) = ledger(&spec(5));
    for buyer in ["a", "b", "c"] {
        win(&ledger, buyer);
    }
    for cut in 1..=journal.end().0 {
        journal.set_durable(Lsn(cut));
        let (after, _) = restart(&journal);
        assert_holds(&after, SALE);
        let winners =
            ["a", "b", "c"].iter().filter(|b| !after.tickets_of(SALE, b).unwrap().is_empty()).count();
        assert_eq!(winners as u64, cut - 1, "the sale's record, then one record a win");
        assert_eq!(after.sale(SALE).unwrap().stock.available, 5 - (cut - 1));
    }
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

#[test]
fn fm04_the_same_reservation_sent_twice_under_one_id_is_one() {
    let (ledger, _) = ledger(&SaleSpec { per_buyer_limit: 5, ..spec(5) });
    let reserve = order("ann", None);
    let ReserveOutcome::Won { ticket } = ledger.reserve(&reserve).unwrap() else { panic!() };
    assert_eq!(ledger.reserve(&reserve).unwrap(), ReserveOutcome::Repeat { ticket });
    let stolen = Reserve { buyer: "bob", ..reserve };
    assert_eq!(ledger.reserve(&stolen), Err(JournalError::Busy));
    assert_eq!(ledger.sale(SALE).unwrap().stock.available, 4);
    assert_holds(&ledger, SALE);
}

#[test]
fn fm08_returned_stock_is_told_without_a_restart() {
    let (ledger, journal) = ledger(&spec(1));
    let ticket = win(&ledger, "ann").ticket;
    let flagged = sold_out_epoch(&ledger);
    done(&ledger, ticket, Transition::Drop, 1_100);
    let reopened = ledger.settle(journal.sync());
    assert_eq!(reopened.len(), 1);
    assert_eq!(&*reopened[0].sale, SALE);
    assert!(reopened[0].epoch > flagged);
    win(&ledger, "bob");
    assert!(ledger.settle(journal.sync()).is_empty(), "told once");
}

#[test]
fn fm09_restocked_units_reopen_a_sold_out_sale_too() {
    let (ledger, journal) = ledger(&spec(0));
    let flagged = sold_out_epoch(&ledger);
    let view = ledger.restock(SALE, "r", 3, 100).unwrap();
    assert_eq!((view.stock.available, view.stock.held), (0, 3), "not before its record is durable");
    assert_eq!(sold_out_epoch(&ledger), flagged);
    assert!(ledger.settle(journal.durable()).is_empty());
    let reopened = ledger.settle(journal.sync());
    assert!(reopened[0].epoch > flagged);
    assert_eq!(ledger.sale(SALE).unwrap().stock.available, 3);
    assert_holds(&ledger, SALE);
}

#[test]
fn fm10_a_late_sold_out_carries_an_older_epoch_than_the_reopening() {
    let (ledger, journal) = ledger(&spec(1));
    let mut newest = Epoch::default();
    for _ in 0..3 {
        let ticket = win(&ledger, "ann").ticket;
        let late = sold_out_epoch(&ledger);
        assert!(late >= newest);
        done(&ledger, ticket, Transition::Rejected { reason: "no" }, 200);
        newest = ledger.settle(journal.sync())[0].epoch;
        assert!(late < newest);
        assert_eq!(ledger.sale(SALE).unwrap().epoch, newest);
    }
    // And over a restart.
    let (again, _) = restart(&journal);
    assert!(again.sale(SALE).unwrap().epoch > newest);
    let before = again.sale(SALE).unwrap().epoch;
    again.begin_generation();
    assert!(again.sale(SALE).unwrap().epoch > before);
}

#[test]
fn fm13_stock_added_in_the_middle_of_a_sale_counts_once() {
    let (ledger, journal) = ledger(&spec(2));
    win(&ledger, "a");
    ledger.restock(SALE, "r1", 2, 100).unwrap();
    win(&ledger, "b");
    ledger.settle(journal.sync());
    win(&ledger, "c");
    let (ledger, journal) = restart(&{
        journal.sync();
        journal
    });
    let stock = ledger.sale(SALE).unwrap().stock;
    assert_eq!((stock.initial, stock.restocked, stock.available, stock.held), (2, 2, 1, 3));
    win(&ledger, "d");
    sold_out_epoch(&ledger);
    assert_eq!(journal.durable(), Lsn(5));
    assert_holds(&ledger, SALE);
}

#[test]
fn fm17_units_of_buyers_who_left_come_back_by_deadline_and_pay_window() {
    let (ledger, journal) = ledger(&spec(3));
    let queued = win(&ledger, "never taken up").ticket;
    let created = win(&ledger, "never paid").ticket;
    let paid = win(&ledger, "paid").ticket;
    for (ticket, order_id) in [(created, "1"), (paid, "2")] {
        let view = done(&ledger, ticket, Transition::Created { order_id }, 200);
        assert_eq!(view.pay_by_ms, Some(5_200));
    }
    done(&ledger, paid, Transition::Paid { payment_id: "p" }, 300);
    assert!(ledger.due(1_100, 0, 10).is_empty(), "the instant itself is not overdue by more than the grace");
    assert_eq!(ledger.due(1_101, 0, 10), [(queued, Proposal::Drop)]);
    assert!(ledger.due(1_150, 100, 10).is_empty());
    let mut due = ledger.due(10_000, 100, 10);
    due.sort_unstable_by_key(|(ticket, _)| *ticket);
    assert_eq!(due, [(queued, Proposal::Drop), (created, Proposal::Expire)]);
    assert_eq!(ledger.due(10_000, 100, 1).len(), 1);
    for (ticket, proposal) in due {
        let transition = if proposal == Proposal::Drop { Transition::Drop } else { Transition::Expire };
        done(&ledger, ticket, transition, 10_000);
    }
    assert!(ledger.due(10_000, 0, 10).is_empty());
    ledger.settle(journal.sync());
    let stock = ledger.sale(SALE).unwrap().stock;
    assert_eq!((stock.available, stock.sold, stock.returned), (2, 1, 2));
    assert_eq!(ledger.live_tickets(), 0);
    assert_holds(&ledger, SALE);
}

#[test]
fn fm17_what_was_due_is_due_after_a_restart() {
    let (ledger, journal) = ledger(&spec(2));
    let queued = win(&ledger, "a").ticket;
    let created = win(&ledger, "b").ticket;
    done(&ledger, created, Transition::Created { order_id: "1" }, 200);
    journal.sync();
    let (ledger, _) = restart(&journal);
    let mut due = ledger.due(10_000, 0, 10);
    due.sort_unstable_by_key(|(ticket, _)| *ticket);
    assert_eq!(due, [(queued, Proposal::Drop), (created, Proposal::Expire)]);
}

#[test]
fn fm36_a_timer_whose_clock_runs_ahead_moves_nothing() {
    let (ledger, _) = ledger(&spec(1));
    let ticket = win(&ledger, "ann").ticket;
    let early = |transition, now_ms| {
        let answer = ledger.transition(ticket, transition, now_ms).unwrap();
        assert!(matches!(answer, TransitionOutcome::NotDue(_)), "{answer:?}");
    };
    early(Transition::Drop, 1_099);
    done(&ledger, ticket, Transition::Created { order_id: "1" }, 1_200);
    early(Transition::Expire, 6_199);
    done(&ledger, ticket, Transition::Expire, 6_200);
    assert!(matches!(
        ledger.transition(ticket, Transition::Expire, 0).unwrap(),
        TransitionOutcome::Repeat(_)
    ));
}

#[test]
fn fm45_created_on_a_dropped_ticket_is_refused_so_the_worker_closes_its_row() {
    let (ledger, _) = ledger(&spec(1));
    let ticket = win(&ledger, "ann").ticket;
    done(&ledger, ticket, Transition::Drop, 1_100);
    let answer = ledger.transition(ticket, Transition::Created { order_id: "row" }, 1_101).unwrap();
    let TransitionOutcome::WrongState { ticket: view, refund_required: false } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(view.status, TicketStatus::Dropped);
    assert_eq!(view.reason.as_deref(), Some("order_deadline"));
}

#[test]
fn fm46_every_answer_about_a_ticket_carries_the_position_of_its_newest_record() {
    let (ledger, journal) = ledger(&SaleSpec { per_buyer_limit: 2, ..spec(2) });
    let ReserveOutcome::Won { ticket } = outcome(&ledger, "ann", Some("k")) else { panic!() };
    assert_eq!(ticket.lsn, journal.end());
    let id = ticket.ticket;
    done(&ledger, id, Transition::Created { order_id: "1" }, 150);
    let newest = journal.end();
    let ReserveOutcome::Repeat { ticket } = outcome(&ledger, "ann", Some("k")) else { panic!() };
    assert_eq!(ticket.lsn, newest);
    assert_eq!(ledger.ticket(id).unwrap().lsn, newest);
    assert_eq!(ledger.status_of(id), Some((TicketStatus::AwaitingPayment, newest)));
    assert_eq!(ledger.tickets_of(SALE, "ann").unwrap()[0].lsn, newest);
    assert_eq!(ledger.sale(SALE).unwrap().lsn, newest);
    assert_eq!(ledger.audit(SALE).unwrap().lsn, newest);
    let second = win(&ledger, "ann");
    let ReserveOutcome::LimitReached { tickets, lsn } = outcome(&ledger, "ann", None) else { panic!() };
    assert_eq!((tickets, lsn), (vec![second.ticket, id], second.lsn));
    let refused = ledger.transition(id, Transition::Rejected { reason: "late" }, 160).unwrap();
    assert!(matches!(refused, TransitionOutcome::WrongState { ticket, .. } if ticket.lsn == newest));
}

#[test]
fn fm55_a_repeated_restock_call_adds_the_units_once() {
    let (ledger, journal) = ledger(&spec(1));
    for _ in 0..3 {
        assert_eq!(ledger.restock(SALE, "r1", 5, 100).unwrap().stock.restocked, 5);
        ledger.settle(journal.sync());
    }
    assert_eq!(ledger.restock(SALE, "r1", 6, 100), Err(SaleError::RestockMismatch { quantity: 5 }));
    let (ledger, _) = restart(&journal);
    assert_eq!(ledger.restock(SALE, "r1", 5, 200).unwrap().stock.available, 6);
    ledger.restock(SALE, "r2", 5, 200).unwrap();
    assert_eq!(ledger.sale(SALE).unwrap().stock.restocked, 10);
    assert_holds(&ledger, SALE);
}

#[test]
fn fm56_a_winner_who_retries_gets_the_same_ticket_whatever_the_sale_has_become() {
    let (ledger, journal) = ledger(&spec(1));
    let ReserveOutcome::Won { ticket } = outcome(&ledger, "ann", Some("key")) else { panic!() };
    let assert_repeats = |ledger: &Ledger<MemoryJournal>, what| {
        let answer = outcome(ledger, "ann", Some("key"));
        assert!(
            matches!(&answer, ReserveOutcome::Repeat { ticket: t } if t.ticket == ticket.ticket),
            "{what}"
        );
        assert_eq!(ledger.repeat(&order("ann", Some("key"))), Some(answer));
    };
    sold_out_epoch(&ledger);
    assert_repeats(&ledger, "sold out");
    ledger.close_sale(SALE, 200).unwrap();
    assert_eq!(
        outcome(&ledger, "bob", Some("key")),
        ReserveOutcome::Closed,
        "another buyer's key is another key"
    );
    assert_repeats(&ledger, "closed");
    journal.sync();
    assert_repeats(&restart(&journal).0, "restarted");
    done(&ledger, ticket.ticket, Transition::Rejected { reason: "no" }, 210);
    assert_repeats(&ledger, "released");
    let other_body = Reserve { body_hash: 8, ..order("ann", Some("key")) };
    assert_eq!(ledger.reserve(&other_body).unwrap(), ReserveOutcome::IdempotencyMismatch);
}
