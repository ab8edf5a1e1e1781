//! Rules of sales and tickets, one by one, where a reader would look for them.
#![allow(clippy::unwrap_used)]

mod support;

use support::*;
use testing::{MemoryJournal, OwnedRecord};
use tidegate_stock::*;

fn refused(ledger: &Ledger<MemoryJournal>, id: TicketId, transition: Transition<'_>) -> bool {
    match ledger.transition(id, transition, 300).unwrap() {
        TransitionOutcome::WrongState { refund_required, .. } => refund_required,
        other => panic!("{other:?}"),
    }
}

fn repeats(ledger: &Ledger<MemoryJournal>, id: TicketId, transition: Transition<'_>) {
    let before = ledger.journal().end();
    let answer = ledger.transition(id, transition, 9_999).unwrap();
    assert!(matches!(answer, TransitionOutcome::Repeat(_)), "{answer:?}");
    assert_eq!(ledger.journal().end(), before);
}

#[test]
fn late_money_is_refused_and_published_once_per_payment() {
    let (ledger, journal) = ledger(&spec(3));
    let id = win(&ledger, "ann").ticket;
    done(&ledger, id, Transition::Drop, 1_100);
    let before = journal.end().0;
    for _ in 0..3 {
        assert!(refused(&ledger, id, Transition::Paid { payment_id: "p1" }));
    }
    assert!(refused(&ledger, id, Transition::Paid { payment_id: "p2" }));
    assert_eq!(journal.end().0, before + 2);
    let OwnedRecord::Transition { from, to, version, refund_required, payment_id, .. } =
        &journal.records()[before as usize]
    else {
        panic!()
    };
    assert_eq!(
        (*from, *to, *version, *refund_required),
        (TicketStatus::Dropped, TicketStatus::Dropped, 2, true)
    );
    assert_eq!(payment_id.as_deref(), Some("p1"));
    assert_eq!(ledger.ticket(id).unwrap().version, 2);
    assert_eq!(ledger.ticket(id).unwrap().payment_id, None);
    journal.sync();
    let (again, journal) = restart(&journal);
    assert!(refused(&again, id, Transition::Paid { payment_id: "p1" }));
    assert_eq!(journal.end().0, before + 2, "the fold remembers what was published");
}

#[test]
fn money_that_was_refused_pays_for_nothing_later() {
    let (ledger, journal) = ledger(&spec(1));
    let id = win(&ledger, "ann").ticket;
    assert!(refused(&ledger, id, Transition::Paid { payment_id: "early" }));
    done(&ledger, id, Transition::Created { order_id: "1" }, 200);
    let before = journal.end();
    assert!(refused(&ledger, id, Transition::Paid { payment_id: "early" }));
    assert_eq!(journal.end(), before);
    done(&ledger, id, Transition::Paid { payment_id: "second" }, 250);
    assert!(refused(&ledger, id, Transition::Paid { payment_id: "third" }), "paid twice");
    repeats(&ledger, id, Transition::Paid { payment_id: "second" });
    assert_eq!(ledger.sale(SALE).unwrap().stock.sold, 1);
}

#[test]
fn the_same_transition_repeats_and_other_data_is_refused() {
    let (ledger, _) = ledger(&spec(9));
    let a = win(&ledger, "a").ticket;
    done(&ledger, a, Transition::Created { order_id: "1" }, 200);
    repeats(&ledger, a, Transition::Created { order_id: "1" });
    assert!(!refused(&ledger, a, Transition::Created { order_id: "2" }));
    assert!(!refused(&ledger, a, Transition::Drop));
    assert!(!refused(&ledger, a, Transition::Fail { reason: "r" }));
    done(&ledger, a, Transition::Paid { payment_id: "p" }, 210);
    repeats(&ledger, a, Transition::Created { order_id: "1" });
    assert!(!refused(&ledger, a, Transition::Cancelled { reason: "r" }));
    assert!(!refused(&ledger, a, Transition::Expire));
    let b = win(&ledger, "b").ticket;
    assert!(!refused(&ledger, b, Transition::Cancelled { reason: "r" }));
    assert!(!refused(&ledger, b, Transition::Expire));
    done(&ledger, b, Transition::Rejected { reason: "r" }, 200);
    repeats(&ledger, b, Transition::Rejected { reason: "r" });
    assert!(!refused(&ledger, b, Transition::Rejected { reason: "other" }));
    assert!(!refused(&ledger, b, Transition::Created { order_id: "1" }));
    let c = win(&ledger, "c").ticket;
    done(&ledger, c, Transition::Created { order_id: "3" }, 200);
    done(&ledger, c, Transition::Cancelled { reason: "r" }, 200);
    repeats(&ledger, c, Transition::Cancelled { reason: "r" });
    assert!(
        !refused(&ledger, c, Transition::Created { order_id: "3" }),
        "the row of a released ticket is closed"
    );
    let unknown = ledger.transition(TicketId(u128::MAX), Transition::Drop, 0).unwrap();
    assert_eq!(unknown, TransitionOutcome::TicketNotFound);
}

#[test]
fn created_after_the_deadline_counts_while_the_ticket_is_queued() {
    let (ledger, _) = ledger(&spec(1));
    let id = win(&ledger, "ann").ticket;
    let view = done(&ledger, id, Transition::Created { order_id: "1" }, 50_000);
    assert_eq!((view.status, view.pay_by_ms), (TicketStatus::AwaitingPayment, Some(55_000)));
    assert_eq!((view.version, view.updated_at_ms), (2, 50_000));
}

#[test]
fn window_and_switch() {
    let (ledger, _) = ledger(&spec(9));
    let put = |opens_at_ms, closes_at_ms| {
        ledger.put_sale(SALE, &SaleSpec { opens_at_ms, closes_at_ms, ..spec(9) }, 0).unwrap()
    };
    let at = |now_ms| {
        let id = fresh_id().to_string();
        ledger.reserve(&Reserve { now_ms, ..order(&id, None) }).unwrap()
    };
    let open = |outcome: ReserveOutcome| matches!(outcome, ReserveOutcome::Won { .. });
    put(None, None);
    assert_eq!(at(u64::MAX / 2), ReserveOutcome::NotOpen { opens_at_ms: None });
    put(Some(500), Some(600));
    assert_eq!(at(499), ReserveOutcome::NotOpen { opens_at_ms: Some(500) });
    assert!(open(at(500)) && open(at(599)));
    assert_eq!(at(600), ReserveOutcome::Closed);
    ledger.open_sale(SALE, 10).unwrap();
    assert!(open(at(10)) && open(at(599)), "opened by hand before its time");
    assert_eq!(at(600), ReserveOutcome::Closed, "and closed at its time all the same");
    ledger.close_sale(SALE, 550).unwrap();
    assert_eq!(at(550), ReserveOutcome::Closed);
    ledger.open_sale(SALE, 560).unwrap();
    assert!(open(at(560)), "opened again by hand");
    assert_eq!(at(600), ReserveOutcome::Closed);
    put(Some(500), Some(900));
    assert!(open(at(600)), "a later end");
    put(None, None);
    assert!(open(at(u64::MAX / 2)), "no end: until it is closed by hand");
}

#[test]
fn a_switch_that_stands_already_writes_no_record() {
    let (ledger, journal) = ledger(&spec(1));
    ledger.open_sale(SALE, 1).unwrap();
    let end = journal.end();
    assert_eq!(ledger.open_sale(SALE, 2).unwrap().lsn, end);
    assert_eq!(journal.end(), end);
}

#[test]
fn put_creates_changes_and_repeats() {
    let (ledger, journal) = ledger(&spec(5));
    let changed = SaleSpec { title: Some("t".to_owned()), per_buyer_limit: 3, ..spec(5) };
    assert_eq!(ledger.put_sale(SALE, &changed, 1).unwrap().1, SalePut::Changed);
    let end = journal.end();
    assert_eq!(ledger.put_sale(SALE, &changed, 2).unwrap().1, SalePut::Unchanged);
    assert_eq!(ledger.put_sale(SALE, &spec(6), 2), Err(SaleError::StockAlreadySet { stock: 5 }));
    assert_eq!(journal.end(), end);
    for (sale, bad) in [
        ("", spec(1)),
        ("a/b", spec(1)),
        ("s", SaleSpec { quantity_max: 0, ..spec(1) }),
        ("s", SaleSpec { per_buyer_limit: 0, ..spec(1) }),
        ("s", SaleSpec { item: String::new(), ..spec(1) }),
        ("s", SaleSpec { order_deadline_ms: 1 << 32, ..spec(1) }),
        ("s", SaleSpec { opens_at_ms: Some(5), closes_at_ms: Some(5), ..spec(1) }),
        ("s", spec(u64::MAX)),
    ] {
        assert!(matches!(ledger.put_sale(sale, &bad, 0), Err(SaleError::Invalid(_))), "{sale} {bad:?}");
    }
    assert_eq!(journal.end(), end);
}

#[test]
fn a_ticket_keeps_the_item_it_was_won_for() {
    let (ledger, journal) = ledger(&spec(5));
    let old = win(&ledger, "a").ticket;
    ledger.put_sale(SALE, &SaleSpec { item: "other".to_owned(), ..spec(5) }, 1).unwrap();
    let new = win(&ledger, "b").ticket;
    journal.sync();
    for ledger in [ledger, restart(&journal).0] {
        assert_eq!(&*ledger.ticket(old).unwrap().item, "item");
        assert_eq!(&*ledger.ticket(new).unwrap().item, "other");
    }
}

#[test]
fn the_limit_counts_units_and_an_unpaid_ending_frees_them() {
    let limit = SaleSpec { per_buyer_limit: 3, quantity_max: 3, ..spec(100) };
    for counts_released in [false, true] {
        let (ledger, _) = ledger(&SaleSpec { limit_counts_released: counts_released, ..limit.clone() });
        let ask = |quantity| ledger.reserve(&Reserve { quantity, ..order("ann", None) }).unwrap();
        let ReserveOutcome::Won { ticket } = ask(2) else { panic!() };
        assert!(matches!(ask(2), ReserveOutcome::LimitReached { .. }));
        done(&ledger, ticket.ticket, Transition::Rejected { reason: "no" }, 200);
        let free = matches!(ask(2), ReserveOutcome::Won { .. });
        assert_eq!(free, !counts_released);
        assert_eq!(ask(4), ReserveOutcome::BadQuantity { quantity_max: 3 });
        assert_eq!(ask(0), ReserveOutcome::BadQuantity { quantity_max: 3 });
        assert_holds(&ledger, SALE);
    }
}

#[test]
fn sales_of_a_group_share_the_limit_and_leaving_takes_the_units_along() {
    let grouped = SaleSpec { limit_group: Some("g".to_owned()), per_buyer_limit: 2, ..spec(10) };
    let (ledger, _) = ledger(&grouped);
    ledger.put_sale("other", &grouped, 0).unwrap();
    let ask = |sale| ledger.reserve(&Reserve { sale, ..order("ann", None) }).unwrap();
    let ReserveOutcome::Won { ticket: first } = ask(SALE) else { panic!() };
    let ReserveOutcome::Won { ticket: second } = ask("other") else { panic!() };
    for sale in [SALE, "other"] {
        let ReserveOutcome::LimitReached { tickets, lsn } = ask(sale) else { panic!() };
        assert_eq!((tickets, lsn), (vec![second.ticket, first.ticket], second.lsn));
    }
    ledger.put_sale("other", &SaleSpec { limit_group: None, ..grouped.clone() }, 0).unwrap();
    assert!(matches!(ask(SALE), ReserveOutcome::Won { .. }), "only its own unit counted");
    assert!(matches!(ask("other"), ReserveOutcome::Won { .. }));
    ledger.put_sale("other", &grouped, 0).unwrap();
    assert!(matches!(ask(SALE), ReserveOutcome::LimitReached { tickets, .. } if tickets.len() == 4));
}

#[test]
fn fewer_units_than_asked_is_not_sold_out() {
    let (ledger, _) = ledger(&SaleSpec { per_buyer_limit: 5, quantity_max: 5, ..spec(3) });
    let ask = |quantity| ledger.reserve(&Reserve { quantity, ..order("ann", None) }).unwrap();
    assert_eq!(ask(4), ReserveOutcome::NotEnoughStock { available: 3 });
    assert!(matches!(ask(3), ReserveOutcome::Won { .. }));
    assert!(matches!(ask(1), ReserveOutcome::SoldOut { .. }));
    assert_eq!(
        ledger.reserve(&Reserve { sale: "none", ..order("ann", None) }).unwrap(),
        ReserveOutcome::SaleNotFound
    );
}

#[test]
fn a_refused_record_leaves_everything_as_it_was() {
    let (ledger, journal) = ledger(&spec(2));
    let id = win(&ledger, "ann").ticket;
    let before = (ledger.sale(SALE), ledger.ticket(id), ledger.live_tickets());
    for refusal in [JournalError::NoSpace, JournalError::Busy, JournalError::Poisoned] {
        journal.refuse(Some(refusal));
        let reserve = order("bob", Some("k"));
        assert_eq!(ledger.reserve(&reserve), Err(refusal));
        assert_eq!(ledger.ticket(reserve.ticket), None);
        assert_eq!(ledger.transition(id, Transition::Drop, 9_000), Err(refusal));
        assert_eq!(ledger.transition(id, Transition::Paid { payment_id: "p" }, 9_000), Err(refusal));
        assert_eq!(ledger.restock(SALE, "r", 1, 0), Err(SaleError::Journal(refusal)));
        assert_eq!(ledger.put_sale("new", &spec(1), 0), Err(SaleError::Journal(refusal)));
        assert_eq!(ledger.close_sale(SALE, 0), Err(SaleError::Journal(refusal)));
    }
    assert_eq!((ledger.sale(SALE), ledger.ticket(id), ledger.live_tickets()), before);
    assert_eq!(ledger.sale("new"), None);
    let again = order("bob", Some("k"));
    assert!(ledger.reserve(&again).is_err());
    journal.refuse(None);
    assert!(
        matches!(ledger.reserve(&again).unwrap(), ReserveOutcome::Won { .. }),
        "the same id is free again"
    );
    assert_holds(&ledger, SALE);
}

#[test]
fn bounds_refuse_and_forget_nothing() {
    let limits = LedgerLimits { sales_max: 1, tickets_max: 2, restocks_per_sale_max: 1 };
    let journal = MemoryJournal::new();
    let ledger = Ledger::new(journal.clone(), limits);
    ledger.put_sale(SALE, &spec(9), 0).unwrap();
    assert_eq!(ledger.put_sale("second", &spec(9), 0), Err(SaleError::Full { what: "sales", limit: 1 }));
    win(&ledger, "a");
    win(&ledger, "b");
    for _ in 0..3 {
        assert_eq!(ledger.reserve(&order("c", None)).unwrap(), ReserveOutcome::LedgerFull);
    }
    ledger.restock(SALE, "r1", 1, 0).unwrap();
    assert!(matches!(ledger.restock(SALE, "r2", 1, 0), Err(SaleError::Full { limit: 1, .. })));
    ledger.restock(SALE, "r1", 1, 0).unwrap();
    assert_holds(&ledger, SALE);
    let smaller = Ledger::new(MemoryJournal::new(), LedgerLimits { tickets_max: 1, ..limits });
    assert!(matches!(journal.replay(&smaller, Lsn(0)), Err(FoldError::Full { limit: 1, .. })));
}

#[test]
fn winners_are_all_who_ever_had_a_ticket() {
    let (ledger, _) = ledger(&SaleSpec { per_buyer_limit: 2, ..spec(9) });
    let id = win(&ledger, "ann").ticket;
    win(&ledger, "bob");
    win(&ledger, "bob");
    done(&ledger, id, Transition::Rejected { reason: "no" }, 200);
    let mut winners = Vec::new();
    ledger.winners(SALE, &mut |buyer| winners.push(buyer.to_owned()));
    winners.sort();
    assert_eq!(winners, ["ann", "bob"]);
}

#[test]
fn the_fold_takes_repeats_and_names_what_cannot_be() {
    let (ledger, journal) = ledger(&SaleSpec { per_buyer_limit: 9, ..spec(2) });
    let a = win(&ledger, "a").ticket;
    done(&ledger, a, Transition::Created { order_id: "1" }, 150);
    done(&ledger, a, Transition::Cancelled { reason: "no" }, 160);
    ledger.restock(SALE, "r", 1, 170).unwrap();
    journal.sync();
    let records = journal.records();
    let fold = |order: &[usize]| {
        let ledger = Ledger::new(MemoryJournal::new(), LedgerLimits::default());
        let result = order.iter().try_for_each(|&n| ledger.fold(&records[n].borrow(), Lsn(n as u64 + 1)));
        result.map(|()| ledger.audit(SALE).unwrap())
    };
    let once = fold(&[0, 1, 2, 3, 4]).unwrap();
    assert!(once.holds);
    let repeated = fold(&[0, 1, 1, 2, 1, 2, 3, 2, 3, 4, 1, 0, 4]).unwrap();
    assert_eq!(repeated, once);

    assert!(matches!(fold(&[1]), Err(FoldError::UnknownSale { lsn: Lsn(2), .. })));
    assert!(matches!(fold(&[0, 2]), Err(FoldError::UnknownTicket { ticket, lsn: Lsn(3) }) if ticket == a));
    let skipped = fold(&[0, 1, 3]);
    assert!(
        matches!(skipped, Err(FoldError::ImpossibleTransition { ticket, lsn: Lsn(4), .. }) if ticket == a),
        "{skipped:?}"
    );

    let small = Ledger::new(MemoryJournal::new(), LedgerLimits::default());
    let OwnedRecord::Sale { sale, spec: sale_spec, switch, at_ms } = &records[0] else { panic!() };
    let none_left = SaleSpec { stock: 0, ..sale_spec.clone() };
    let record = SaleRecord { sale, spec: &none_left, switch: *switch, at_ms: *at_ms };
    small.fold(&Record::Sale(record), Lsn(1)).unwrap();
    assert!(matches!(small.fold(&records[1].borrow(), Lsn(2)), Err(FoldError::Oversold { .. })));
    assert!(matches!(small.fold(&records[0].borrow(), Lsn(3)), Err(FoldError::ImpossibleSale { .. })));
}
