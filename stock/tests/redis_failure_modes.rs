//! Failures seen in real flash-sale systems (see ARCHITECTURE.md), and what an adversary tried on the scripts, on the
//! ledger in Redis. The embedded ledger's are in `failure_modes.rs`.
#![allow(clippy::unwrap_used)]

#[path = "support/fleet.rs"]
mod fleet;
mod support;

use fleet::Gateway;
use std::collections::BTreeSet;
use support::{fresh_id, spec};
use testing::redis::RedisServer;
use tidegate_stock::redis::link::CallError;
use tidegate_stock::redis::ops::{Delivers, Moved, ReserveCall, Reserved, Restocked, Resumed, SaleMeta};
use tidegate_stock::redis::{Fence, OpError, RedisOptions, SaleKeys};
use tidegate_stock::*;

const SALE: &str = "sale";

struct Shop {
    server: RedisServer,
    a: Gateway,
    b: Gateway,
    keys: SaleKeys,
    fence: Fence,
    spec: SaleSpec,
}

fn order(buyer: &str) -> Reserve<'_> {
    Reserve { sale: SALE, ..support::order(buyer, None) }
}

impl Shop {
    async fn open(spec: SaleSpec) -> Shop {
        let server = RedisServer::start();
        let (mut a, mut b) = (Gateway::new(&server, "a"), Gateway::new(&server, "b"));
        let keys = a.ops.keys(SALE);
        let fence = a.put(&keys, &spec).await;
        // As every gateway does that sells.
        b.log_sale(&keys, &b.ops.look(&keys).await.unwrap().unwrap());
        Shop { server, a, b, keys, fence, spec }
    }

    async fn reserve(&mut self, r: &Reserve<'_>) -> Reserved {
        let reply = self.a.reserve(&self.keys, &self.fence, &self.spec, &[*r], &[], false).await.unwrap();
        reply.answers.into_iter().next().unwrap()
    }

    async fn win(&mut self, buyer: &str) -> TicketId {
        let r = order(buyer);
        assert_eq!(self.reserve(&r).await, Reserved::Won, "{buyer}");
        r.ticket
    }

    async fn step(&mut self, id: TicketId, transition: Transition<'_>, now_ms: u64) -> Moved {
        let moves = [(id, transition)];
        self.a.transition(&self.keys, &self.fence, now_ms, &moves, false).await.unwrap().remove(0)
    }

    async fn done(&mut self, id: TicketId, transition: Transition<'_>, now_ms: u64) {
        let moved = self.step(id, transition, now_ms).await;
        assert!(matches!(moved, Moved::Done { .. }), "{transition:?}: {moved:?}");
    }

    async fn look(&self) -> SaleMeta {
        self.a.ops.look(&self.keys).await.unwrap().unwrap()
    }

    async fn available(&self) -> u64 {
        let audit = self.a.ops.audit(&self.keys).await.unwrap().unwrap();
        assert!(audit.holds, "{audit:#?}");
        audit.stock.available
    }

    async fn settle(&mut self) {
        self.a.settle(&self.keys, &self.fence).await;
    }

    /// As a server would that took over with this data: nobody has noticed yet.
    async fn under_another_lineage(&self) {
        self.server.command(&["HSET", self.keys.meta(), "lin", "the server before"]);
        assert!(self.a.pause(&self.keys).await.is_some());
    }

    async fn goes_on(&mut self) {
        self.fence = self.a.fence(&self.keys).await;
    }

    /// Both bring in their logs.
    async fn recover(&mut self) {
        let members = ["a".to_owned(), "b".to_owned()];
        assert_eq!(self.b.recover(&self.keys, &members).await, Resumed::Waiting(vec!["a".to_owned()]));
        assert!(matches!(self.a.recover(&self.keys, &members).await, Resumed::Resumed { .. }));
        self.goes_on().await;
    }
}

#[tokio::test]
async fn fm01_a_duplicate_buyer_takes_no_unit() {
    let mut shop = Shop::open(spec(2)).await;
    let first = shop.win("ann").await;
    let answer = shop.reserve(&order("ann")).await;
    assert_eq!(answer, Reserved::LimitReached { pending: true, tickets: vec![first] });
    // In one call too.
    let (one, two) = (order("bob"), order("bob"));
    let reply = shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &[one, two], &[], false).await.unwrap();
    assert_eq!(reply.answers[0], Reserved::Won);
    assert!(matches!(reply.answers[1], Reserved::LimitReached { .. }));
    assert_eq!(shop.available().await, 0);
}

#[tokio::test]
async fn fm02_nothing_goes_below_zero_and_a_returned_unit_is_sold() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    for buyer in ["b", "c", "d", "e"] {
        assert_eq!(shop.reserve(&order(buyer)).await, Reserved::SoldOut);
    }
    shop.done(ticket, Transition::Rejected { reason: "no" }, 200).await;
    assert_eq!(shop.reserve(&order("b")).await, Reserved::SoldOut, "not before its record is durable");
    shop.settle().await;
    assert_eq!(shop.available().await, 1);
    shop.win("b").await;
}

#[tokio::test]
async fn fm03_a_gateway_dies_between_the_decrement_and_its_log_and_the_winner_is_kept() {
    let mut shop = Shop::open(spec(2)).await;
    let ticket = shop.win("ann").await;
    shop.a.crash();
    let claimed = shop.b.claim_all(&shop.keys, &shop.fence, 200).await.unwrap();
    assert_eq!(claimed.len(), 1);
    shop.b.settle(&shop.keys, &shop.fence).await;
    assert!(matches!(shop.b.log[1].record, testing::OwnedRecord::Order { ticket: t, .. } if t == ticket));
    let yes = shop.b.ops.validate(&shop.keys, &shop.fence, &[(ticket, 1)]).await.unwrap();
    assert_eq!(yes, [Delivers::Yes]);
    assert_eq!(shop.available().await, 1);
    // And the log alone brings it back.
    shop.server.command(&["FLUSHALL"]);
    shop.recover().await;
    assert_eq!(shop.available().await, 1);
    assert!(shop.a.ops.read(&shop.keys, &[ticket]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn fm04_a_reservation_of_unknown_outcome_is_resolved_by_its_id() {
    let mut shop = Shop::open(spec(2)).await;
    let ran = order("ann");
    shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &[ran], &[], true).await.unwrap();
    let absent = fresh_id();
    let found = shop.a.ops.resolve(&shop.keys, &shop.fence, &[ran.ticket, absent]).await.unwrap();
    assert!(found[0].as_ref().is_some_and(|told| told.pending));
    assert_eq!(found[1], None);
    assert_eq!(shop.available().await, 1);
}

#[tokio::test]
async fn fm08_fm09_returned_and_restocked_units_reopen_and_every_gateway_hears_a_newer_epoch() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    let flagged = shop.look().await.epoch;
    shop.done(ticket, Transition::Drop, 1_100).await;
    assert_eq!(shop.look().await.epoch, flagged, "not before its record is durable");
    shop.settle().await;
    let reopened = shop.look().await.epoch;
    assert!(reopened > flagged);
    shop.win("bob").await;
    let done = shop.a.restock(&shop.keys, &shop.fence, "r", 3, 0, false).await.unwrap();
    assert!(matches!(done, Ok(Restocked::Done(_))));
    assert_eq!(shop.available().await, 0);
    shop.settle().await;
    assert_eq!(shop.available().await, 3);
    assert!(shop.look().await.epoch > reopened);
}

#[tokio::test]
async fn fm10_a_late_sold_out_is_older_than_the_reopening_also_over_the_loss_of_everything() {
    let mut shop = Shop::open(spec(1)).await;
    for _ in 0..3 {
        let ticket = shop.win("ann").await;
        let late = shop.look().await.epoch;
        shop.done(ticket, Transition::Rejected { reason: "no" }, 200).await;
        shop.settle().await;
        assert!(shop.look().await.epoch > late);
    }
    let before = shop.look().await.epoch;
    shop.server.command(&["FLUSHALL"]);
    // Nobody remembers the generation: these gateways have just started.
    let stale = shop.fence.clone();
    shop.recover().await;
    assert!(shop.look().await.epoch > before, "a flag of before is older");
    let answer = shop.a.reserve(&shop.keys, &stale, &shop.spec, &[order("late")], &[], false).await;
    assert!(matches!(answer, Err(OpError::Stale)), "a late script of before finds another generation");
}

#[tokio::test]
async fn fm11_two_gateways_never_share_a_unit() {
    let mut shop = Shop::open(spec(10)).await;
    let mut wins = 0;
    for n in 0..20 {
        let (one, two) = (format!("a{n}"), format!("b{n}"));
        let (one, two) = ([order(&one)], [order(&two)]);
        let (left, right) = tokio::join!(
            shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &one, &[], false),
            shop.b.reserve(&shop.keys, &shop.fence, &shop.spec, &two, &[], false),
        );
        let answers = [left.unwrap().answers.remove(0), right.unwrap().answers.remove(0)];
        wins += answers.iter().filter(|answer| **answer == Reserved::Won).count();
    }
    assert_eq!(wins, 10);
    assert_eq!(shop.available().await, 0);
}

#[tokio::test]
async fn fm12_zero_is_no_nothing() {
    // Zeros wherever a script could take them for nothing: times, hashes, units left, length of the feed, units paid.
    let mut shop = Shop::open(SaleSpec { opens_at_ms: Some(0), ..spec(1) }).await;
    let r = Reserve { now_ms: 0, body_hash: 0, idempotency_key: Some(""), ..order("") };
    assert_eq!(shop.reserve(&r).await, Reserved::Won, "the first buyer is no duplicate");
    let again = Reserve { ticket: fresh_id(), ..r };
    assert!(matches!(shop.reserve(&again).await, Reserved::Repeat { ticket, .. } if ticket == r.ticket));
    assert_eq!(
        shop.reserve(&Reserve { ticket: fresh_id(), quantity: 0, idempotency_key: None, ..r }).await,
        Reserved::BadQuantity
    );
    assert_eq!(shop.reserve(&order("0")).await, Reserved::SoldOut, "nor is the next");
    shop.settle().await;
    // The order was won at 0; a log that is brought in twice brings it in once.
    shop.server.command(&["FLUSHALL"]);
    let members = ["a".to_owned(), "b".to_owned()];
    shop.a.recover(&shop.keys, &members).await;
    shop.a.recover(&shop.keys, &members).await;
    shop.b.recover(&shop.keys, &members).await;
    shop.goes_on().await;
    assert_eq!(shop.a.ops.tickets_of(&shop.keys, "", 10).await.unwrap().unwrap().len(), 1);
    assert_eq!(shop.a.ops.feed(&shop.keys, 0).await.unwrap().0.len(), 1);
    assert_eq!(shop.available().await, 0);
}

#[tokio::test]
async fn fm13_a_restock_counts_once_also_when_its_note_survives_and_its_record_comes_again() {
    let mut shop = Shop::open(spec(1)).await;
    shop.win("ann").await;
    shop.a.restock(&shop.keys, &shop.fence, "r:1", 2, 0, false).await.unwrap().unwrap();
    shop.a.append(usize::MAX);
    let late = shop.a.logged.clone();
    shop.under_another_lineage().await;
    shop.recover().await;
    assert_eq!(shop.available().await, 2, "its record is in a log: for sale at once");
    shop.a.send(&shop.keys, &shop.fence, &[], &late, 0, false).await.unwrap();
    assert_eq!(shop.available().await, 2, "and its late clearing changes nothing");
    shop.win("b").await;
    shop.win("c").await;
    assert_eq!(shop.reserve(&order("d")).await, Reserved::SoldOut);
}

#[tokio::test]
async fn fm15_a_sale_that_is_put_again_keeps_what_was_sold_also_after_redis_was_emptied() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    assert_eq!(shop.b.ops.put_sale(&shop.keys, &shop.spec, true).await.unwrap(), Ok(SalePut::Unchanged));
    let changed = SaleSpec { per_buyer_limit: 2, ..shop.spec.clone() };
    shop.fence = shop.a.put(&shop.keys, &changed).await;
    shop.spec = changed;
    assert_eq!(shop.available().await, 2);
    shop.server.restart_empty();
    let lineage = loop {
        // The connection is found broken first; over the next one nothing is sent.
        match shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &[order("bob")], &[], false).await {
            Err(OpError::Call(CallError::LineageChanged { now })) => break now,
            Err(OpError::Call(_)) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(lineage, shop.fence.lineage);
    assert!(shop.a.pause(&shop.keys).await.is_some());
    assert!(matches!(shop.b.ops.put_sale(&shop.keys, &shop.spec, true).await, Err(OpError::Paused)));
    shop.recover().await;
    assert_eq!(shop.available().await, 2, "total minus sold");
    assert_eq!(shop.look().await.spec.unwrap(), shop.spec);
}

#[tokio::test]
async fn fm15_a_sale_that_redis_lost_is_not_put_on_sale_anew_by_who_knows_it() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    shop.server.command(&["FLUSHALL"]);
    let put = shop.a.ops.put_sale(&shop.keys, &shop.spec, true).await;
    assert!(matches!(put, Err(OpError::NoSale)), "{put:?}");
    shop.recover().await;
    assert_eq!(shop.available().await, 2);
}

#[tokio::test]
async fn fm15_a_sale_made_again_after_a_loss_is_paused_by_who_remembers_the_first() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    let first = shop.look().await.born_ms;
    shop.server.command(&["FLUSHALL"]);
    // A gateway of an empty log: it cannot know better, and sells, under a version above the first sale's.
    shop.b.log.clear();
    let other = SaleSpec { per_buyer_limit: 2, ..spec(5) };
    let mut fence = shop.b.put(&shop.keys, &other).await;
    for limit in 3..6 {
        fence = shop.b.put(&shop.keys, &SaleSpec { per_buyer_limit: limit, ..other.clone() }).await;
    }
    shop.b.reserve(&shop.keys, &fence, &other, &[order("bob")], &[], false).await.unwrap();
    shop.b.settle(&shop.keys, &fence).await;
    assert_eq!(shop.b.pause(&shop.keys).await, None);

    let recovery = shop.a.pause(&shop.keys).await;
    assert!(recovery.is_some(), "the sale was made later than the one in this log");
    assert_eq!(shop.b.pause(&shop.keys).await, recovery, "both take part in the same");
    shop.recover().await;
    let meta = shop.look().await;
    assert_eq!((meta.born_ms, meta.spec.as_ref()), (first, Some(&shop.spec)), "the first counts");
    assert_eq!(shop.available().await, 1, "3 units, and both winners have theirs");
    assert_eq!(shop.b.pause(&shop.keys).await, None, "the older birth is no loss");
}

#[tokio::test]
async fn fm20_whom_anybody_in_a_recovery_knows_of_is_waited_for_from_the_beginning() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    shop.server.command(&["FLUSHALL"]);
    let members = ["a".to_owned(), "b".to_owned()];
    let lineage = shop.a.ops.lineage(&shop.keys).await.unwrap();
    let ids = shop.a.ops.pause(&shop.keys, &lineage, shop.a.recorded(), &members).await.unwrap();
    // A newcomer knows nobody, and is quicker than all.
    let newcomer = Gateway::new(&shop.server, "c");
    let own = newcomer.pause(&shop.keys).await.expect("it is paused");
    assert_eq!(ids.as_ref(), Some(&own));
    let waits = newcomer.ops.resume(&shop.keys, &own, true, 0, &["c".to_owned()], &[]).await.unwrap();
    assert_eq!(waits, Resumed::Waiting(members.to_vec()));
}

#[tokio::test]
async fn fm20_a_gateway_whose_log_a_generation_lacks_finds_it_out() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    let bobs = order("bob");
    shop.b.reserve(&shop.keys, &shop.fence, &shop.spec, &[bobs], &[], false).await.unwrap();
    shop.b.settle(&shop.keys, &shop.fence).await;
    shop.server.command(&["FLUSHALL"]);
    shop.a.pause(&shop.keys).await.expect("it is paused");
    shop.a.ops.excuse(&shop.keys, "b").await.unwrap().unwrap();
    assert!(matches!(shop.a.recover(&shop.keys, &[]).await, Resumed::Resumed { .. }));
    shop.goes_on().await;
    assert_eq!(shop.available().await, 2, "bob's unit is for sale again");
    assert_eq!(shop.a.pause(&shop.keys).await, None, "a's log is in it");
    let recorded = shop.b.recorded().unwrap();
    assert!(shop.look().await.lacks_log_of("b", recorded) && !shop.look().await.lacks_log_of("a", recorded));

    // b was excused, and comes back.
    let members = ["a".to_owned(), "b".to_owned()];
    assert_eq!(shop.b.recover(&shop.keys, &members).await, Resumed::Waiting(vec!["a".to_owned()]));
    assert!(matches!(shop.a.recover(&shop.keys, &members).await, Resumed::Resumed { .. }));
    shop.goes_on().await;
    assert_eq!(shop.available().await, 1);
    assert_eq!(shop.b.pause(&shop.keys).await, None);
}

#[tokio::test]
async fn fm20_a_second_loss_during_a_recovery_begins_it_again_for_all() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    shop.server.command(&["FLUSHALL"]);
    let members = ["a".to_owned(), "b".to_owned()];
    let first = shop.a.pause(&shop.keys).await.expect("it is paused");
    assert!(shop.a.reapply(&shop.keys, &first, &shop.a.log).await);
    let waits = shop.a.ops.resume(&shop.keys, &first, true, 0, &members, &[]).await.unwrap();
    assert_eq!(waits, Resumed::Waiting(vec!["b".to_owned()]));
    // What a has brought in is lost again, on the same server.
    shop.server.command(&["FLUSHALL"]);
    let second = shop.b.pause(&shop.keys).await.expect("it is paused");
    assert_ne!(second, first);
    assert!(shop.b.reapply(&shop.keys, &second, &shop.b.log).await);
    assert_eq!(shop.a.ops.resume(&shop.keys, &first, true, 0, &members, &[]).await.unwrap(), Resumed::Over);
    assert!(!shop.a.reapply(&shop.keys, &first, &shop.a.log).await);
    let waits = shop.b.ops.resume(&shop.keys, &second, true, 0, &members, &[]).await.unwrap();
    assert_eq!(waits, Resumed::Waiting(vec!["a".to_owned()]), "not without a's log");
    assert!(matches!(shop.a.recover(&shop.keys, &members).await, Resumed::Resumed { .. }));
    shop.goes_on().await;
    assert_eq!(shop.available().await, 2);
}

#[tokio::test]
async fn fm17_units_of_buyers_who_left_come_back_by_deadline_and_pay_window() {
    let mut shop = Shop::open(spec(2)).await;
    let queued = shop.win("never taken up").await;
    let created = shop.win("never paid").await;
    shop.done(created, Transition::Created { order_id: "1" }, 200).await;
    let due = |before| shop.a.ops.sweep(&shop.keys, &shop.fence, before, 10, 10);
    assert!(due(1_100).await.unwrap().due.is_empty());
    assert_eq!(due(1_101).await.unwrap().due, [(queued, Proposal::Drop)]);
    assert_eq!(due(10_000).await.unwrap().due, [(queued, Proposal::Drop), (created, Proposal::Expire)]);
    assert!(matches!(shop.step(created, Transition::Expire, 5_199).await, Moved::NotDue { .. }));
    shop.done(queued, Transition::Drop, 10_000).await;
    shop.done(created, Transition::Expire, 10_000).await;
    shop.settle().await;
    assert_eq!(shop.available().await, 2);
}

/// Milliseconds by Redis.
fn redis_ms(shop: &Shop) -> u64 {
    let ::redis::Value::Array(parts) = shop.server.command(&["TIME"]) else { panic!("TIME") };
    let number = |value: &::redis::Value| match value {
        ::redis::Value::BulkString(text) => std::str::from_utf8(text).unwrap().parse::<u64>().unwrap(),
        other => panic!("{other:?}"),
    };
    number(&parts[0]) * 1_000 + number(&parts[1]) / 1_000
}

/// Its clock runs an hour ahead of everybody's: to it, everything is overdue.
#[tokio::test]
async fn fm17_a_gateway_with_a_fast_clock_ends_nothing_before_its_time() {
    let mut shop = Shop::open(SaleSpec { order_deadline_ms: 3_000, ..spec(2) }).await;
    let now = redis_ms(&shop);
    let ahead = now + 3_600_000;
    let r = Reserve { now_ms: now, ..order("ann") };
    assert_eq!(shop.reserve(&r).await, Reserved::Won);
    let created = Reserve { now_ms: now, ..order("bob") };
    assert_eq!(shop.reserve(&created).await, Reserved::Won);
    shop.done(created.ticket, Transition::Created { order_id: "1" }, now).await;
    let swept = shop.b.ops.sweep(&shop.keys, &shop.fence, ahead, 10, 10).await.unwrap();
    assert_eq!(swept.due, []);
    for (ticket, end) in [(r.ticket, Transition::Drop), (created.ticket, Transition::Expire)] {
        let early = shop.b.transition(&shop.keys, &shop.fence, ahead, &[(ticket, end)], false).await.unwrap();
        assert!(matches!(early[0], Moved::NotDue { .. }), "{early:?}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(3_100)).await;
    // And one that runs behind only comes late.
    assert_eq!(shop.b.ops.sweep(&shop.keys, &shop.fence, now, 10, 10).await.unwrap().due, []);
    let swept = shop.b.ops.sweep(&shop.keys, &shop.fence, ahead, 10, 10).await.unwrap();
    assert_eq!(swept.due, [(r.ticket, Proposal::Drop)], "the other has until its pay window ends");
    shop.done(r.ticket, Transition::Drop, ahead).await;
}

/// Whoever is told how the sale stands knows every winner of before: only then may "sold out" be said to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_tells_of_no_win_that_its_feed_lacks() {
    let mut shop = Shop::open(spec(3_000)).await;
    let options = fleet::options(&shop.server);
    let looks = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let looker = Gateway::with(options, "looker");
            let keys = looker.ops.keys(SALE);
            let mut looks = 0_u64;
            loop {
                let meta = looker.ops.look(&keys).await.unwrap().unwrap();
                let sold = meta.stock.initial - meta.stock.available;
                // One win an element.
                assert!(meta.feed >= sold, "{sold} wins are told of, and {} are in its feed", meta.feed);
                if meta.stock.available == 0 {
                    return looks;
                }
                looks += 1;
            }
        })
    });
    for n in 0..3_000 {
        shop.win(&format!("b{n}")).await;
    }
    assert!(looks.join().unwrap() > 100);
}

/// Elements of all sizes: a call answers about 50 KB, and nothing is left out or told twice.
#[tokio::test]
async fn a_page_of_the_feed_is_bounded_in_bytes() {
    let mut shop = Shop::open(spec(30_000)).await;
    let mut wins = Vec::new();
    for (round, size) in [1_usize, 256, 1_000, 3].into_iter().cycle().take(48).enumerate() {
        let buyers: Vec<String> = (0..size).map(|n| format!("{round}-{n}")).collect();
        let orders: Vec<_> = buyers.iter().map(|buyer| order(buyer)).collect();
        shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &orders, &[], false).await.unwrap();
        wins.extend(orders.iter().map(|r| (r.ticket, hash_of(r.buyer))));
    }
    for n in 0..3_000 {
        wins.push((shop.win(&format!("single {n}")).await, hash_of(&format!("single {n}"))));
    }
    let total = shop.look().await.feed;
    let (mut known, mut told, mut pages) = (0, Vec::new(), 0);
    while known < total {
        let (page, elements) = shop.a.ops.feed(&shop.keys, known).await.unwrap();
        assert!(elements > 0 && (elements == 1 || page.len() * 42 <= 50_000), "{elements}: {}", page.len());
        told.extend(page.iter().map(|win| (win.ticket, win.buyer_hash)));
        (known, pages) = (known + elements, pages + 1);
    }
    assert_eq!(told, wins);
    assert!(pages < 80, "{pages}");
    assert_eq!(shop.a.ops.feed(&shop.keys, total).await.unwrap(), (Vec::new(), 0));
}

#[tokio::test]
async fn fm19_payment_and_pay_timer_race_and_the_unit_is_in_one_place() {
    for paid_first in [true, false] {
        let mut shop = Shop::open(spec(1)).await;
        let ticket = shop.win("ann").await;
        shop.done(ticket, Transition::Created { order_id: "1" }, 200).await;
        let (pay, expire) = (Transition::Paid { payment_id: "p" }, Transition::Expire);
        let both =
            if paid_first { [(ticket, pay), (ticket, expire)] } else { [(ticket, expire), (ticket, pay)] };
        let answers = shop.b.transition(&shop.keys, &shop.fence, 9_000, &both, false).await.unwrap();
        assert!(matches!(answers[0], Moved::Done { .. }));
        if paid_first {
            assert!(matches!(answers[1], Moved::WrongState { refund_required: false, .. }));
        } else {
            assert!(matches!(answers[1], Moved::LateMoney { .. }));
            let again = shop.step(ticket, pay, 9_001).await;
            let Moved::WrongState { refund_required: true, pending: true, .. } = again else {
                panic!("{again:?}")
            };
        }
        shop.b.settle(&shop.keys, &shop.fence).await;
        let stock = shop.look().await.stock;
        assert_eq!((stock.sold, stock.available), if paid_first { (1, 0) } else { (0, 1) });
        assert!(shop.a.ops.audit(&shop.keys).await.unwrap().unwrap().holds);
    }
}

#[tokio::test]
async fn fm20_a_server_that_forgot_acknowledged_decrements_sells_nothing_until_the_logs_are_in() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    shop.server.command(&["COPY", shop.keys.meta(), "tidegate:1:{sale}:copy"]);
    let forgotten = shop.win("bob").await;
    shop.settle().await;
    // The replica had not heard of bob.
    let text = forgotten.to_string();
    for (command, key, field) in
        [("HDEL", "t", text.as_str()), ("HDEL", "b", "bob"), ("ZREM", "d", text.as_str())]
    {
        shop.server.command(&[command, &format!("tidegate:1:{{sale}}:{key}"), field]);
    }
    shop.server.command(&["COPY", "tidegate:1:{sale}:copy", shop.keys.meta(), "REPLACE"]);
    shop.under_another_lineage().await;
    let refused = shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &[order("eve")], &[], false).await;
    assert!(matches!(refused, Err(OpError::Paused)));
    shop.recover().await;
    assert_eq!(shop.available().await, 1);
    assert!(shop.a.ops.read(&shop.keys, &[forgotten]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn fm45_created_on_a_dropped_ticket_is_refused_so_the_worker_closes_its_row() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    shop.done(ticket, Transition::Drop, 1_100).await;
    let answer = shop.step(ticket, Transition::Created { order_id: "row" }, 1_101).await;
    let Moved::WrongState { ticket: packed, refund_required: false, .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((packed.status, packed.reason.as_str()), (TicketStatus::Dropped, "order_deadline"));
    shop.settle().await;
    assert_eq!(shop.available().await, 1);
}

#[tokio::test]
async fn fm46_what_no_log_holds_yet_is_told_as_pending_by_every_answer() {
    let mut shop = Shop::open(spec(2)).await;
    let r = Reserve { idempotency_key: Some("k"), ..order("ann") };
    assert_eq!(shop.reserve(&r).await, Reserved::Won);
    for durable in [false, true] {
        let told = shop.a.ops.read(&shop.keys, &[r.ticket]).await.unwrap().remove(0).unwrap();
        assert_eq!(told.pending, !durable);
        let Reserved::Repeat { pending, .. } = shop.reserve(&r).await else { panic!() };
        assert_eq!(pending, !durable);
        let Reserved::LimitReached { pending, .. } = shop.reserve(&order("ann")).await else { panic!() };
        assert_eq!(pending, !durable);
        shop.settle().await;
    }
    // Money that came too late: its repeat too, even while others' notes come and go.
    let late = Transition::Paid { payment_id: "p" };
    assert!(matches!(shop.step(r.ticket, late, 200).await, Moved::LateMoney { .. }));
    assert!(matches!(shop.step(r.ticket, late, 200).await, Moved::WrongState { pending: true, .. }));
    shop.b.claim_all(&shop.keys, &shop.fence, 0).await.unwrap();
    assert!(matches!(shop.step(r.ticket, late, 200).await, Moved::WrongState { pending: true, .. }));
    shop.b.settle(&shop.keys, &shop.fence).await;
    assert!(matches!(shop.step(r.ticket, late, 200).await, Moved::WrongState { pending: false, .. }));
}

#[tokio::test]
async fn fm48_a_script_that_runs_after_a_look_up_said_absent_holds_no_unit() {
    let mut shop = Shop::open(spec(1)).await;
    let r = order("ann");
    let late = ReserveCall::new(&r, &shop.spec, "a");
    assert_eq!(shop.a.ops.resolve(&shop.keys, &shop.fence, &[r.ticket]).await.unwrap(), [None]);
    let reply = shop.a.send(&shop.keys, &shop.fence, &[late], &[], 100, false).await.unwrap();
    assert_eq!(reply.answers, [Reserved::Tombstone]);
    assert_eq!(shop.available().await, 1);
    assert_eq!(shop.a.ops.read(&shop.keys, &[r.ticket]).await.unwrap(), [None]);
}

#[tokio::test]
async fn fm48_nothing_is_called_absent_while_a_log_may_bring_it_in() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    shop.settle().await;
    shop.server.command(&["FLUSHALL"]);
    let lost = shop.a.ops.resolve(&shop.keys, &shop.fence, &[ticket]).await;
    assert!(matches!(lost, Err(OpError::NoSale)), "{lost:?}");
    shop.a.pause(&shop.keys).await.expect("it is paused");
    let paused = shop.a.ops.resolve(&shop.keys, &shop.fence, &[ticket]).await;
    assert!(matches!(paused, Err(OpError::Paused)), "{paused:?}");
}

#[tokio::test]
async fn fm51_a_gateway_never_comes_back_and_each_of_its_tickets_has_an_end() {
    let mut shop = Shop::open(spec(4)).await;
    let owed = shop.win("owed").await;
    shop.a.crash();
    let queued = shop.win("queued").await;
    let created = shop.win("created").await;
    shop.done(created, Transition::Created { order_id: "1" }, 200).await;
    let released = shop.win("released").await;
    shop.settle().await;
    shop.done(released, Transition::Rejected { reason: "no" }, 200).await;
    // It dies here, and its folder with it.
    let fence = shop.fence.clone();
    let adopted = shop.b.adopt(&shop.keys, &fence, "a", 2, 300).await;
    assert_eq!(adopted.len(), 3, "live tickets");
    assert!(shop.b.adopt(&shop.keys, &fence, "a", 2, 300).await.is_empty());
    shop.b.claim_all(&shop.keys, &fence, 300).await.unwrap();
    shop.b.settle(&shop.keys, &fence).await;
    let orders: Vec<_> = shop
        .b
        .log
        .iter()
        .filter_map(|entry| match entry.record {
            testing::OwnedRecord::Order { ticket, .. } => Some((ticket, entry.epoch)),
            _ => None,
        })
        .collect();
    let answers = shop.b.ops.validate(&shop.keys, &fence, &orders).await.unwrap();
    let delivers: BTreeSet<_> =
        orders.iter().zip(answers).filter(|(_, a)| *a == Delivers::Yes).map(|((id, _), _)| *id).collect();
    assert_eq!(delivers, BTreeSet::from([owed, queued]));
    assert_eq!(shop.available().await, 1);
    for (ticket, proposal) in shop.b.ops.sweep(&shop.keys, &fence, 60_000, 10, 10).await.unwrap().due {
        let end = if proposal == Proposal::Drop { Transition::Drop } else { Transition::Expire };
        shop.b.transition(&shop.keys, &fence, 60_000, &[(ticket, end)], false).await.unwrap();
    }
    shop.b.settle(&shop.keys, &fence).await;
    assert_eq!(shop.available().await, 4);
}

/// Tickets that end between two pages move the others up; nobody is passed over for that.
#[tokio::test]
async fn fm51_one_pass_adopts_every_ticket_while_others_end() {
    let mut shop = Shop::open(spec(1_000)).await;
    let buyers: Vec<String> = (0..600).map(|n| format!("b{n}")).collect();
    let orders: Vec<_> = buyers.iter().map(|buyer| order(buyer)).collect();
    shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &orders, &[], false).await.unwrap();
    let (mut next, mut ending, mut adopted) = (Some(0), orders.iter(), 0);
    while let Some(cursor) = next {
        let page = shop.b.ops.adopt(&shop.keys, &shop.fence, "a", cursor, 100).await.unwrap();
        (next, adopted) = (page.next, adopted + page.claimed.len());
        let reject = |r: &Reserve<'_>| (r.ticket, Transition::Rejected { reason: "no" });
        let ended: Vec<_> = ending.by_ref().take(40).map(reject).collect();
        shop.b.transition(&shop.keys, &shop.fence, 200, &ended, false).await.unwrap();
    }
    let ids: Vec<_> = orders.iter().map(|r| r.ticket).collect();
    let told = shop.a.ops.read(&shop.keys, &ids).await.unwrap();
    let left = told.iter().flatten().filter(|told| told.packed.owner == "a");
    assert_eq!(left.count(), 0, "of 600, of which {adopted} were adopted");
    assert!(ending.next().is_none_or(|_| adopted < 600), "some had ended before they were looked at");
}

#[tokio::test]
async fn fm52_a_gateway_that_slept_between_script_and_append_delivers_nothing_another_adopted() {
    let mut shop = Shop::open(spec(100)).await;
    for n in 0..100 {
        let ticket = shop.win(&format!("buyer {n}")).await;
        // It sleeps; another claims, logs, clears. Now it wakes, appends and clears as if nothing had been.
        shop.b.claim_all(&shop.keys, &shop.fence, 200).await.unwrap();
        if n % 2 == 0 {
            shop.b.settle(&shop.keys, &shop.fence).await;
        }
        shop.settle().await;
        let told = shop.a.ops.read(&shop.keys, &[ticket]).await.unwrap().remove(0).unwrap();
        assert_eq!(told.pending, n % 2 == 1, "its clearing finds no note");
        shop.b.settle(&shop.keys, &shop.fence).await;
        let mine = shop.a.ops.validate(&shop.keys, &shop.fence, &[(ticket, 0)]).await.unwrap();
        let theirs = shop.b.ops.validate(&shop.keys, &shop.fence, &[(ticket, 1)]).await.unwrap();
        assert_eq!((mine[0], theirs[0]), (Delivers::Over, Delivers::Yes));
    }
    assert_eq!(shop.available().await, 0);
}

#[tokio::test]
async fn fm52_an_order_logged_after_another_took_the_ticket_over_is_delivered_by_nobody() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    let created = [(ticket, Transition::Created { order_id: "1" })];
    shop.b.transition(&shop.keys, &shop.fence, 200, &created, false).await.unwrap();
    shop.b.settle(&shop.keys, &shop.fence).await;
    // Both are at claim epoch 1 now: `b` by its step, `a` by claiming the order's note.
    shop.a.claim_all(&shop.keys, &shop.fence, 300).await.unwrap();
    shop.settle().await;
    let mine = shop.a.ops.validate(&shop.keys, &shop.fence, &[(ticket, 1)]).await.unwrap();
    assert_eq!(mine, [Delivers::Over]);
}

/// Its order was in a log that an operator gave up, its step is in another.
#[tokio::test]
async fn fm51_a_ticket_of_which_only_a_step_is_left_is_paid_found_and_its_buyers() {
    let mut shop = Shop::open(spec(5)).await;
    let r = Reserve { sale: SALE, ..support::order("ann", Some("key")) };
    assert_eq!(shop.reserve(&r).await, Reserved::Won);
    shop.settle().await;
    let (keys, fence, ticket) = (shop.keys.clone(), shop.fence.clone(), r.ticket);
    let created = [(ticket, Transition::Created { order_id: "1" })];
    shop.b.transition(&keys, &fence, 200, &created, false).await.unwrap();
    shop.b.settle(&keys, &fence).await;
    let (order_first, before) = (shop.a.log.clone(), shop.b.log.clone());
    for completed in [false, true] {
        shop.server.command(&["FLUSHALL"]);
        shop.b.log.clone_from(&before);
        let recovery = shop.b.pause(&keys).await.unwrap();
        for _ in 0..2 {
            assert!(shop.b.reapply(&keys, &recovery, &shop.b.log).await);
        }
        for _ in 0..if completed { 2 } else { 0 } {
            assert!(shop.a.reapply(&keys, &recovery, &order_first).await);
        }
        let resumed = shop.b.ops.resume(&keys, &recovery, true, 0, &[], &[]).await.unwrap();
        assert!(matches!(resumed, Resumed::Resumed { .. }), "{resumed:?}");
        let fence = shop.b.fence(&keys).await;
        shop.fence = fence.clone();
        let (feed, _) = shop.b.ops.feed(&keys, 0).await.unwrap();
        assert_eq!(feed.iter().map(|win| win.ticket).collect::<Vec<_>>(), [ticket]);
        assert_eq!(feed[0].buyer_hash, hash_of("ann"));
        let mine = shop.b.ops.tickets_of(&keys, "ann", 10).await.unwrap().unwrap();
        assert_eq!(mine.iter().map(|told| told.ticket).collect::<Vec<_>>(), [ticket]);
        let again = shop.reserve(&Reserve { sale: SALE, ..support::order("ann", Some("other")) }).await;
        assert_eq!(again, Reserved::LimitReached { pending: false, tickets: vec![ticket] });
        let repeat = shop.reserve(&Reserve { sale: SALE, ..support::order("ann", Some("key")) }).await;
        match repeat {
            Reserved::Repeat { ticket: same, .. } => assert!(completed && same == ticket),
            Reserved::LimitReached { .. } => assert!(!completed),
            other => panic!("{other:?}"),
        }
        let told = shop.b.ops.read(&keys, &[ticket]).await.unwrap().remove(0).unwrap();
        assert_eq!(told.packed.item.is_empty(), !completed);
        let paid = [(ticket, Transition::Paid { payment_id: "p" })];
        let moved = shop.b.transition(&keys, &fence, 300, &paid, false).await.unwrap().remove(0);
        assert!(matches!(moved, Moved::Done { .. }), "{moved:?}");
        shop.b.settle(&keys, &fence).await;
        assert_eq!(shop.available().await, 4);
    }
}

/// A machine with a gateway and Redis on it goes at once: what the one was about to write down was only in the other.
#[tokio::test]
async fn fm52_an_order_is_not_over_by_what_is_in_no_log_yet() {
    let mut shop = Shop::open(spec(3)).await;
    let (adopted, ended) = (shop.win("ann").await, shop.win("bob").await);
    shop.settle().await;
    let claimed = shop.win("eve").await;
    shop.a.append(usize::MAX);
    let orders = [adopted, ended, claimed].map(|ticket| (ticket, 0));
    let (keys, stale) = (shop.keys.clone(), shop.fence.clone());
    assert_eq!(shop.a.ops.validate(&keys, &stale, &orders).await.unwrap(), [Delivers::Yes; 3]);
    shop.b.claim_all(&keys, &stale, 200).await.unwrap();
    let reject = [(ended, Transition::Rejected { reason: "no" })];
    shop.b.transition(&keys, &stale, 200, &reject, false).await.unwrap();
    assert_eq!(shop.b.adopt(&keys, &stale, "a", 10, 200).await.len(), 1);
    assert_eq!(shop.a.ops.validate(&keys, &stale, &orders).await.unwrap(), [Delivers::NotYet; 3]);
    shop.b.crash();
    shop.server.command(&["FLUSHALL"]);
    let lost = shop.a.ops.validate(&keys, &stale, &orders).await;
    assert!(matches!(lost, Err(OpError::NoSale)), "{lost:?}");
    shop.recover().await;
    let behind = shop.a.ops.validate(&keys, &stale, &orders).await;
    assert!(matches!(behind, Err(OpError::Stale)), "{behind:?}");
    let fence = shop.fence.clone();
    assert_eq!(shop.a.ops.validate(&keys, &fence, &orders).await.unwrap(), [Delivers::Yes; 3]);
    // The same once more, and this time a log holds it.
    shop.b.adopt(&keys, &fence, "a", 10, 300).await;
    assert_eq!(shop.a.ops.validate(&keys, &fence, &orders).await.unwrap(), [Delivers::NotYet; 3]);
    shop.b.settle(&keys, &fence).await;
    assert_eq!(shop.a.ops.validate(&keys, &fence, &orders).await.unwrap(), [Delivers::Over; 3]);
}

#[tokio::test]
async fn fm55_a_repeated_restock_call_adds_the_units_once_however_often_its_note_was_claimed() {
    let mut shop = Shop::open(spec(1)).await;
    shop.a.restock(&shop.keys, &shop.fence, "r:1", 5, 0, false).await.unwrap().unwrap();
    for _ in 0..12 {
        // A full disk: claimed again and again.
        shop.b.claim_all(&shop.keys, &shop.fence, 0).await.unwrap();
        let again = shop.a.ops.restock(&shop.keys, &shop.fence.lineage, "r:1", 5).await.unwrap();
        assert_eq!(again, Ok(Restocked::Repeat { pending: true }));
    }
    // Who has no log to write in takes none.
    let options = fleet::options(&shop.server);
    let greedy = RedisOptions { claim_after: std::time::Duration::ZERO, ..options };
    let other = Gateway::with(greedy, "c").ops;
    assert_eq!(other.sweep(&shop.keys, &shop.fence, 0, 0, 10).await.unwrap().claimed, []);
    assert_eq!(other.sweep(&shop.keys, &shop.fence, 0, 10, 0).await.unwrap().claimed.len(), 1);
    shop.a.settle(&shop.keys, &shop.fence).await;
    shop.b.settle(&shop.keys, &shop.fence).await;
    let again = shop.a.ops.restock(&shop.keys, &shop.fence.lineage, "r:1", 5).await.unwrap();
    assert_eq!(again, Ok(Restocked::Repeat { pending: false }));
    let other = shop.a.ops.restock(&shop.keys, &shop.fence.lineage, "r:1", 6).await.unwrap();
    assert_eq!(other, Err(SaleError::RestockMismatch { quantity: 5 }));
    assert_eq!(shop.available().await, 6);
}

#[tokio::test]
async fn fm56_a_winner_who_retries_gets_the_same_ticket_whatever_the_sale_has_become() {
    let mut shop = Shop::open(spec(1)).await;
    let r = Reserve { idempotency_key: Some("key"), ..order("ann") };
    assert_eq!(shop.reserve(&r).await, Reserved::Won);
    let retry = Reserve { ticket: fresh_id(), ..r };
    let repeats = |answer: Reserved| matches!(answer, Reserved::Repeat { ticket, .. } if ticket == r.ticket);
    assert_eq!(shop.reserve(&order("bob")).await, Reserved::SoldOut);
    assert!(repeats(shop.reserve(&retry).await), "sold out");
    shop.a.ops.switch_sale(&shop.keys, &shop.fence.lineage, SaleSwitch::Closed).await.unwrap().unwrap();
    shop.goes_on().await;
    assert!(repeats(shop.reserve(&retry).await), "closed");
    shop.done(r.ticket, Transition::Rejected { reason: "no" }, 200).await;
    assert!(repeats(shop.reserve(&retry).await), "released");
    assert_eq!(shop.reserve(&Reserve { body_hash: 8, ..retry }).await, Reserved::IdempotencyMismatch);
    shop.settle().await;
    shop.server.command(&["FLUSHALL"]);
    shop.recover().await;
    assert!(repeats(shop.reserve(&retry).await), "lost and brought back");
}

#[tokio::test]
async fn a_release_claimed_by_one_and_kept_by_a_replica_as_anothers_returns_its_units_once() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    shop.done(ticket, Transition::Rejected { reason: "no" }, 200).await;
    // The replica has the note as `a` left it; `b` claims it on the master, and logs it.
    let keys: Vec<String> = ["o", "t", "s"].map(|letter| format!("tidegate:1:{{sale}}:{letter}")).into();
    for key in &keys {
        shop.server.command(&["COPY", key, &format!("{key}:copy")]);
    }
    shop.b.claim_all(&shop.keys, &shop.fence, 300).await.unwrap();
    shop.b.append(usize::MAX);
    for key in &keys {
        shop.server.command(&["COPY", &format!("{key}:copy"), key, "REPLACE"]);
    }
    shop.under_another_lineage().await;
    shop.recover().await;
    for gateway in [&mut shop.a, &mut shop.b] {
        gateway.settle(&shop.keys, &shop.fence).await;
    }
    assert_eq!(shop.available().await, 1);
}

#[tokio::test]
async fn money_to_refund_pays_for_nothing_even_when_its_record_comes_in_before_its_order() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    let late = Transition::Paid { payment_id: "p" };
    shop.settle().await;
    let answers = shop.b.transition(&shop.keys, &shop.fence, 200, &[(ticket, late)], false).await.unwrap();
    assert!(matches!(answers[0], Moved::LateMoney { .. }));
    shop.b.settle(&shop.keys, &shop.fence).await;
    shop.server.command(&["FLUSHALL"]);
    shop.recover().await; // b, then a
    shop.done(ticket, Transition::Created { order_id: "1" }, 300).await;
    let answer = shop.step(ticket, late, 400).await;
    assert!(matches!(answer, Moved::WrongState { refund_required: true, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_tombstone_gives_way_to_a_log_and_is_not_swept_later() {
    let mut shop = Shop::open(spec(1)).await;
    let ticket = shop.win("ann").await;
    shop.settle().await;
    let (t, x, id) = ("tidegate:1:{sale}:t", "tidegate:1:{sale}:x", ticket.to_string());
    shop.server.command(&["FLUSHALL"]);
    shop.server.command(&["HSET", t, &id, "x"]);
    shop.server.command(&["ZADD", x, "1", &id]);
    shop.recover().await;
    shop.server.command(&["ZADD", x, "1", &id]);
    shop.a.ops.sweep(&shop.keys, &shop.fence, 0, 10, 10).await.unwrap();
    assert!(shop.a.ops.read(&shop.keys, &[ticket]).await.unwrap()[0].is_some());
    assert_eq!(shop.available().await, 0);
}

#[tokio::test]
async fn of_two_steps_to_one_version_every_order_of_the_logs_keeps_the_same() {
    for a_first in [true, false] {
        let mut shop = Shop::open(spec(1)).await;
        let ticket = shop.win("ann").await;
        shop.settle().await;
        shop.done(ticket, Transition::Rejected { reason: "no" }, 200).await;
        shop.settle().await;
        // The other half of a split took another step under the same claim.
        let mut other = shop.a.log.last().unwrap().clone();
        if let testing::OwnedRecord::Transition { to, order_id, pay_by_ms, reason, .. } = &mut other.record {
            (*to, *order_id, *pay_by_ms, *reason) =
                (TicketStatus::AwaitingPayment, Some("1".into()), Some(9_000), None);
        }
        shop.b.log.push(other);
        shop.server.command(&["FLUSHALL"]);
        let members = ["a".to_owned(), "b".to_owned()];
        let (first, second) = if a_first { (&shop.a, &shop.b) } else { (&shop.b, &shop.a) };
        first.recover(&shop.keys, &members).await;
        assert!(matches!(second.recover(&shop.keys, &members).await, Resumed::Resumed { .. }));
        let told = shop.a.ops.read(&shop.keys, &[ticket]).await.unwrap().remove(0).unwrap();
        assert_eq!(told.packed.status, TicketStatus::AwaitingPayment, "what holds its unit");
        assert_eq!(shop.available().await, 0);
    }
}

#[tokio::test]
async fn batches_of_a_thousand_and_ten_thousand_notes_pass() {
    let mut shop = Shop::open(spec(20_000)).await;
    let buyers: Vec<String> = (0..10_000).map(|n| format!("b{n}")).collect();
    for thousand in buyers.chunks(1_000) {
        let orders: Vec<_> = thousand.iter().map(|buyer| order(buyer)).collect();
        let reply = shop.a.reserve(&shop.keys, &shop.fence, &shop.spec, &orders, &[], false).await.unwrap();
        assert!(reply.answers.iter().all(|answer| *answer == Reserved::Won));
    }
    assert_eq!(shop.a.owed.len(), 10_000);
    shop.settle().await;
    assert!(shop.b.claim_all(&shop.keys, &shop.fence, 0).await.unwrap().is_empty());
    assert_eq!(shop.available().await, 10_000);
}

#[tokio::test]
async fn numbers_up_to_2_to_the_53rd_are_exact() {
    let most = 1_u64 << 53;
    let mut shop = Shop::open(spec(most - 3)).await;
    shop.win("ann").await;
    let mut restock =
        async |id: &str, units| shop.a.restock(&shop.keys, &shop.fence, id, units, 0, false).await.unwrap();
    assert!(matches!(restock("1", 3).await, Ok(Restocked::Done(_))));
    assert!(matches!(restock("2", 1).await, Err(SaleError::Invalid(_))), "one more than can be counted");
    assert!(matches!(restock("3", u64::MAX).await, Err(SaleError::Invalid(_))));
    shop.settle().await;
    assert_eq!(shop.available().await, most - 1);
    shop.server.command(&["FLUSHALL"]);
    shop.recover().await;
    assert_eq!(shop.available().await, most - 1);
}

#[tokio::test]
async fn a_sale_under_another_server_is_not_changed_before_it_is_whole() {
    let shop = Shop::open(spec(1)).await;
    shop.server.command(&["HSET", shop.keys.meta(), "lin", "the server before"]);
    let changed = SaleSpec { per_buyer_limit: 2, ..shop.spec.clone() };
    assert!(matches!(shop.a.ops.put_sale(&shop.keys, &changed, true).await, Err(OpError::Paused)));
}

#[tokio::test]
async fn a_member_that_did_not_come_keeps_the_sale_paused_until_it_is_excused() {
    let mut shop = Shop::open(spec(3)).await;
    shop.win("ann").await;
    shop.settle().await;
    shop.b.reserve(&shop.keys, &shop.fence, &shop.spec, &[order("bob")], &[], false).await.unwrap();
    shop.b.settle(&shop.keys, &shop.fence).await;
    shop.server.command(&["FLUSHALL"]);
    let members = ["a".to_owned(), "b".to_owned()];
    assert_eq!(shop.a.recover(&shop.keys, &members).await, Resumed::Waiting(vec!["b".to_owned()]));
    let worst = shop.a.ops.excuse(&shop.keys, "b").await.unwrap().unwrap();
    assert_eq!((worst.available, worst.live), (2, 1), "bob's unit would be sold again");
    let recovery = shop.a.pause(&shop.keys).await.expect("it is paused");
    assert!(matches!(
        shop.a.ops.resume(&shop.keys, &recovery, true, 0, &[], &[]).await.unwrap(),
        Resumed::Resumed { .. }
    ));
    assert_eq!(shop.available().await, 2);
}

#[tokio::test]
async fn limit_groups_are_refused() {
    let shop = Shop::open(spec(1)).await;
    let grouped = SaleSpec { limit_group: Some("g".to_owned()), ..spec(1) };
    assert!(matches!(
        shop.a.ops.put_sale(&shop.keys, &grouped, false).await.unwrap(),
        Err(SaleError::Invalid(_))
    ));
}

impl Shop {
    async fn rest(&self, settled_ms: u64) -> bool {
        self.a.ops.rest(&self.keys, &self.look().await.lineage, settled_ms, 200).await.unwrap()
    }

    async fn switch(&self, to: SaleSwitch) -> Result<(), SaleError> {
        self.a.ops.switch_sale(&self.keys, &self.look().await.lineage, to).await.unwrap()
    }

    /// Two tickets, one paid and one given back; closed, and at rest.
    async fn over(&mut self) -> [TicketId; 2] {
        let (paid, back) = (self.win("ann").await, self.win("bob").await);
        self.settle().await;
        self.done(paid, Transition::Created { order_id: "1" }, 200).await;
        self.done(paid, Transition::Paid { payment_id: "p" }, 200).await;
        self.done(back, Transition::Rejected { reason: "no" }, 200).await;
        self.settle().await;
        self.switch(SaleSwitch::Closed).await.unwrap();
        assert!(self.rest(0).await);
        [paid, back]
    }
}

#[tokio::test]
async fn the_script_and_the_embedded_ledger_have_one_rule_of_the_window() {
    let mut shop = Shop::open(spec(100)).await;
    let times =
        [None, Some(500)].into_iter().flat_map(|opens| [None, Some(900)].map(|closes| (opens, closes)));
    // A sale is never switched back to its schedule.
    for switch in [SaleSwitch::Scheduled, SaleSwitch::Open, SaleSwitch::Closed] {
        if switch != SaleSwitch::Scheduled {
            shop.switch(switch).await.unwrap();
        }
        for (opens_at_ms, closes_at_ms) in times.clone() {
            let spec = SaleSpec { opens_at_ms, closes_at_ms, ..shop.spec.clone() };
            shop.fence = shop.a.put(&shop.keys, &spec).await;
            for now_ms in [499, 500, 899, 900] {
                let buyer = fresh_id().to_string();
                let found = shop.reserve(&Reserve { now_ms, ..order(&buyer) }).await;
                let agreed = match spec.window(switch, now_ms) {
                    Window::Open => Reserved::Won,
                    Window::NotOpen { .. } => Reserved::NotOpen,
                    Window::Closed => Reserved::Closed,
                };
                assert_eq!(found, agreed, "{switch:?} {opens_at_ms:?} {closes_at_ms:?} at {now_ms}");
            }
        }
    }
}

#[tokio::test]
async fn a_sale_opened_by_hand_is_put_to_rest_when_its_time_is_over() {
    let shop = Shop::open(SaleSpec { closes_at_ms: Some(300), ..spec(1) }).await;
    shop.switch(SaleSwitch::Open).await.unwrap();
    assert!(!shop.rest(0).await, "at 200 it sells");
    let lineage = shop.look().await.lineage;
    assert!(shop.a.ops.rest(&shop.keys, &lineage, 0, 300).await.unwrap());
}

#[tokio::test]
async fn fm49_only_a_sale_that_owes_nothing_is_put_to_rest_and_it_never_sells_again() {
    let mut shop = Shop::open(spec(3)).await;
    let ticket = shop.win("ann").await;
    assert!(!shop.rest(0).await, "it sells");
    shop.switch(SaleSwitch::Closed).await.unwrap();
    shop.goes_on().await;
    assert!(!shop.rest(0).await, "a note stands");
    shop.settle().await;
    assert!(!shop.rest(0).await, "a ticket is live");
    shop.done(ticket, Transition::Rejected { reason: "no" }, 200).await;
    assert!(!shop.rest(0).await, "a unit is on its way");
    shop.settle().await;
    assert!(!shop.rest(3_600_000).await, "not for long enough");
    shop.switch(SaleSwitch::Open).await.unwrap();
    shop.switch(SaleSwitch::Closed).await.unwrap();
    assert!(shop.rest(0).await && shop.rest(3_600_000).await);
    assert!(shop.look().await.is_at_rest());

    assert!(matches!(shop.switch(SaleSwitch::Open).await, Err(SaleError::Invalid(_))));
    assert_eq!(shop.switch(SaleSwitch::Closed).await, Ok(()), "as it is");
    let lineage = shop.look().await.lineage;
    let restocked = shop.a.ops.restock(&shop.keys, &lineage, "r", 5).await.unwrap();
    assert!(matches!(restocked, Err(SaleError::Invalid(_))));
    let changed = SaleSpec { closes_at_ms: Some(1 << 50), ..shop.spec.clone() };
    let put = shop.a.ops.put_sale(&shop.keys, &changed, true).await.unwrap();
    assert!(matches!(put, Err(SaleError::Invalid(_))));
    assert_eq!(shop.a.ops.put_sale(&shop.keys, &shop.spec, true).await.unwrap(), Ok(SalePut::Unchanged));
    // Tickets are told as before, and another server with the same data needs nobody's log.
    shop.server.command(&["HSET", shop.keys.meta(), "lin", "the server before"]);
    assert_eq!(shop.a.pause(&shop.keys).await, None);
    assert!(shop.a.ops.read(&shop.keys, &[ticket]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn fm49_what_logs_still_hold_of_a_sale_at_rest_makes_no_ticket_live_again() {
    for a_first in [true, false] {
        let mut shop = Shop::open(spec(3)).await;
        let tickets = shop.over().await;
        let meta = shop.look().await;
        // a has let its records go; b, who was away, has the orders and not their ends.
        let orders = |entry: &&fleet::Entry| matches!(entry.record, testing::OwnedRecord::Order { .. });
        let orders: Vec<_> = shop.a.log.iter().filter(orders).cloned().collect();
        shop.b.log.extend(orders);
        shop.a.log.clear();
        shop.a.log_sale(&shop.keys, &meta);
        shop.server.command(&["FLUSHALL"]);
        let members = ["a".to_owned(), "b".to_owned()];
        let [first, second] = if a_first { [&shop.a, &shop.b] } else { [&shop.b, &shop.a] };
        assert!(matches!(first.recover(&shop.keys, &members).await, Resumed::Waiting(_)));
        assert!(matches!(second.recover(&shop.keys, &members).await, Resumed::Resumed { .. }));
        let meta = shop.look().await;
        assert!(meta.is_at_rest(), "{meta:?}");
        assert!(shop.a.ops.due_last(&shop.keys, 10).await.unwrap().is_empty());
        for told in shop.a.ops.read(&shop.keys, &tickets).await.unwrap() {
            assert!(told.is_none(), "{told:?}");
        }
        assert!(matches!(shop.switch(SaleSwitch::Open).await, Err(SaleError::Invalid(_))));
        shop.available().await;
    }
}
