//! Several threads on one sale. The exact counts and the identities are what a lost update would break.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use support::*;
use tidegate_stock::*;

const THREADS: usize = 4;

/// Runs `work` on each thread while another audits and settles; the identities hold at each look.
fn hammer(ledger: &Ledger<testing::MemoryJournal>, work: impl Fn(usize) + Sync) {
    let running = AtomicBool::new(true);
    let audits = AtomicU64::new(0);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while running.load(Ordering::Acquire) || audits.load(Ordering::Relaxed) == 0 {
                for sale in ledger.sales() {
                    assert_holds(ledger, &sale.sale);
                }
                ledger.settle(ledger.journal().sync());
                audits.fetch_add(1, Ordering::Relaxed);
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|n| {
                let work = &work;
                scope.spawn(move || work(n))
            })
            .collect();
        let failed = workers.into_iter().map(thread::ScopedJoinHandle::join).filter(Result::is_err).count();
        running.store(false, Ordering::Release);
        watcher.join().unwrap();
        assert_eq!(failed, 0);
    });
    ledger.settle(ledger.journal().sync());
}

#[test]
fn fm11_many_threads_sell_exactly_the_stock_and_no_buyer_exceeds_the_limit() {
    let (ledger, journal) = ledger(&SaleSpec { per_buyer_limit: 2, quantity_max: 2, ..spec(501) });
    let (wins, units) = (AtomicU64::new(0), AtomicU64::new(0));
    hammer(&ledger, |thread| {
        for round in 0..600 {
            // All threads fight over the same buyers.
            let buyer = format!("buyer-{}", (round * 7 + thread) % 400);
            let quantity = 1 + (round as u32 + thread as u32) % 2;
            match ledger.reserve(&Reserve { quantity, ..order(&buyer, None) }).unwrap() {
                ReserveOutcome::Won { .. } => {
                    wins.fetch_add(1, Ordering::Relaxed);
                    units.fetch_add(quantity.into(), Ordering::Relaxed);
                }
                ReserveOutcome::LimitReached { .. }
                | ReserveOutcome::SoldOut { .. }
                | ReserveOutcome::NotEnoughStock { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let stock = ledger.sale(SALE).unwrap().stock;
    assert_eq!(stock.held, units.into_inner());
    assert_eq!((stock.held, stock.available), (501, 0));
    assert_eq!(ledger.live_tickets(), wins.into_inner());
    for buyer in 0..400 {
        let tickets = ledger.tickets_of(SALE, &format!("buyer-{buyer}")).unwrap();
        assert!(tickets.iter().map(|ticket| ticket.quantity).sum::<u32>() <= 2);
    }
    journal.sync();
    assert_same(&restart(&journal).0, &restart(&journal).0, &journal);
}

#[test]
fn one_key_from_many_threads_is_one_ticket() {
    let (ledger, _) = ledger(&SaleSpec { per_buyer_limit: 100, ..spec(1_000) });
    let won = AtomicU64::new(0);
    hammer(&ledger, |_| {
        for key in 0..100 {
            match ledger.reserve(&order("ann", Some(&key.to_string()))).unwrap() {
                ReserveOutcome::Won { .. } => drop(won.fetch_add(1, Ordering::Relaxed)),
                ReserveOutcome::Repeat { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(won.into_inner(), 100);
    assert_eq!(ledger.sale(SALE).unwrap().stock.held, 100);
}

#[test]
fn a_shared_limit_holds_when_the_sales_of_a_group_are_hit_at_once() {
    let grouped = SaleSpec { limit_group: Some("g".to_owned()), ..spec(10_000) };
    let (ledger, journal) = ledger(&grouped);
    let sales = [SALE, "second", "third"];
    for sale in &sales[1..] {
        ledger.put_sale(sale, &grouped, 0).unwrap();
    }
    hammer(&ledger, |thread| {
        for round in 0..400 {
            let buyer = format!("buyer-{round}");
            let sale = sales[(round + thread) % sales.len()];
            let outcome = ledger.reserve(&Reserve { sale, ..order(&buyer, None) }).unwrap();
            // Every other win ends unpaid and frees the allowance for whoever comes next.
            if let ReserveOutcome::Won { ticket } = outcome
                && round % 2 == 0
            {
                done(&ledger, ticket.ticket, Transition::Rejected { reason: "no" }, 200);
            }
        }
    });
    journal.sync();
    for ledger in [&ledger, &restart(&journal).0] {
        for round in 0..400 {
            let buyer = format!("buyer-{round}");
            let tickets = sales.iter().flat_map(|sale| ledger.tickets_of(sale, &buyer).unwrap());
            let held = tickets.filter(|ticket| ticket.status == TicketStatus::Queued).count();
            assert_eq!(held, usize::from(round % 2 == 1), "{buyer}");
        }
    }
}

#[test]
fn fm19_payment_and_pay_timer_race_and_exactly_one_wins() {
    let (ledger, journal) = ledger(&spec(300));
    let tickets: Vec<_> = (0..300).map(|n| win(&ledger, &format!("b{n}")).ticket).collect();
    for &ticket in &tickets {
        done(&ledger, ticket, Transition::Created { order_id: "o" }, 200);
    }
    let (took, refunds) = (AtomicU64::new(0), AtomicU64::new(0));
    hammer(&ledger, |thread| {
        for &ticket in &tickets {
            let transition = match thread % 3 {
                0 => Transition::Paid { payment_id: "p" },
                1 => Transition::Expire,
                _ => Transition::Cancelled { reason: "no" },
            };
            match ledger.transition(ticket, transition, 10_000).unwrap() {
                TransitionOutcome::Done(_) => drop(took.fetch_add(1, Ordering::Relaxed)),
                TransitionOutcome::WrongState { refund_required: true, .. } => {
                    refunds.fetch_add(1, Ordering::Relaxed);
                }
                TransitionOutcome::WrongState { .. } | TransitionOutcome::Repeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(took.into_inner(), 300, "each ticket left its state once");
    let stock = ledger.sale(SALE).unwrap().stock;
    assert_eq!(stock.sold + stock.returned, 300);
    assert_eq!((stock.available, stock.held), (stock.returned, 0));
    // Threads 0 and 3 both pay: each unsold ticket's money is refused by both.
    assert!(refunds.into_inner() >= stock.returned);
    let published = journal.records().iter().filter(|record| is_refund(record)).count() as u64;
    assert_eq!(published, stock.returned, "once per payment");
}

fn is_refund(record: &testing::OwnedRecord) -> bool {
    matches!(record, testing::OwnedRecord::Transition { refund_required: true, .. })
}

#[test]
fn fm47_records_reach_the_log_in_the_order_of_the_changes() {
    let (ledger, journal) = ledger(&spec(3));
    // A unit changes hands all the time: a fold that saw a sale before the return would find it oversold.
    hammer(&ledger, |thread| {
        let buyer = format!("buyer-{thread}");
        for round in 0..400 {
            match ledger.reserve(&order(&buyer, None)).unwrap() {
                ReserveOutcome::Won { ticket } => {
                    done(&ledger, ticket.ticket, Transition::Rejected { reason: "no" }, 200);
                }
                _ => drop(ledger.settle(journal.sync())),
            }
            if round % 50 == 0 {
                ledger.restock(SALE, &format!("{thread}-{round}"), 1, 0).unwrap();
            }
        }
    });
    let records = journal.records();
    assert!(records.len() > 100);
    journal.sync();
    for cut in (0..=records.len()).step_by(97).chain([records.len()]) {
        let (folded, _) = restart(&testing::MemoryJournal::with_records(records[..cut].to_vec()));
        for sale in folded.sales() {
            assert_holds(&folded, &sale.sale);
        }
    }
    assert_same(&ledger, &restart(&journal).0, &journal);
}
