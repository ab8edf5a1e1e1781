//! fm18: the closing job looks at what is due, never at all orders. Calls are counted; time is printed.
#![allow(clippy::unwrap_used)]

#[path = "support/fleet.rs"]
mod fleet;
mod support;

use fleet::Gateway;
use std::time::Instant;
use support::{fresh_id, spec};
use testing::redis::RedisServer;
use tidegate_stock::redis::ops::{Batch, Moved, ReserveCall, Reserved, TransitionCall};
use tidegate_stock::redis::{Note, SaleKeys};
use tidegate_stock::*;

const DUE: usize = 100_000;
/// Orders that are not due, and must not be looked at.
const OTHERS: usize = 20_000;
const BATCH: usize = 1_000;

fn calls(server: &RedisServer, command: &str) -> u64 {
    let stat = server.info_field("commandstats", &format!("cmdstat_{command}"));
    stat.strip_prefix("calls=").and_then(|rest| rest.split(',').next()).map_or(0, |n| n.parse().unwrap())
}

async fn sell(gateway: &Gateway, keys: &SaleKeys, spec: &SaleSpec, count: usize, won_at_ms: u64) {
    let fence = gateway.fence(keys).await;
    let mut buyer = 0;
    for _ in 0..count.div_ceil(BATCH) {
        let names: Vec<String> = (0..BATCH).map(|n| format!("{won_at_ms}-{}", buyer + n)).collect();
        buyer += BATCH;
        let reserves: Vec<_> = names
            .iter()
            .map(|name| {
                let r = Reserve { ticket: fresh_id(), now_ms: won_at_ms, ..support::order(name, None) };
                ReserveCall::new(&r, spec, &gateway.name)
            })
            .collect();
        let batch = Batch { now_ms: won_at_ms, notes: &[], reserves: &reserves };
        let reply = gateway.ops.batch(keys, &fence, &batch).await.unwrap();
        assert!(reply.answers.iter().all(|answer| *answer == Reserved::Won));
        let notes: Vec<_> = reserves.iter().map(|call| Note::of_win(call.ticket)).collect();
        let batch = Batch { now_ms: won_at_ms, notes: &notes, reserves: &[] };
        gateway.ops.batch(keys, &fence, &batch).await.unwrap();
    }
}

#[tokio::test]
async fn fm18_a_hundred_thousand_tickets_due_in_one_second_are_found_and_closed_without_a_scan() {
    let server = RedisServer::start();
    let mut gateway = Gateway::new(&server, "a");
    let keys = gateway.ops.keys(support::SALE);
    let spec = spec((DUE + OTHERS) as u64);
    let fence = gateway.put(&keys, &spec).await;
    sell(&gateway, &keys, &spec, DUE, 1_000).await;
    sell(&gateway, &keys, &spec, OTHERS, 1_000_000).await;
    server.command(&["CONFIG", "RESETSTAT"]);
    let cpu = || -> f64 { server.info_field("cpu", "used_cpu_user").trim().parse().unwrap() };
    let cpu_before = cpu();
    let (start, now_ms) = (Instant::now(), 10_000);
    let (mut sweeps, mut closed, mut slowest) = (0, 0, std::time::Duration::ZERO);
    loop {
        let swept = gateway.ops.sweep(&keys, &fence, now_ms, BATCH, BATCH).await.unwrap();
        sweeps += 1;
        if swept.due.is_empty() {
            break;
        }
        let drops: Vec<_> =
            swept.due.iter().map(|(ticket, _)| TransitionCall::new(*ticket, Transition::Drop)).collect();
        let call = Instant::now();
        let moved = gateway.ops.transition(&keys, &fence, now_ms, &drops).await.unwrap();
        slowest = slowest.max(call.elapsed());
        let notes: Vec<_> = moved
            .into_iter()
            .map(|moved| match moved {
                Moved::Done { note, .. } => note,
                other => panic!("{other:?}"),
            })
            .collect();
        closed += notes.len();
        gateway.ops.batch(&keys, &fence, &Batch { now_ms, notes: &notes, reserves: &[] }).await.unwrap();
    }
    let (took, cpu) = (start.elapsed(), cpu() - cpu_before);
    assert_eq!(closed, DUE);
    assert_eq!(sweeps, DUE / BATCH + 1);
    let scripts = calls(&server, "evalsha") + calls(&server, "eval");
    assert!(scripts <= 3 * (DUE / BATCH) as u64 + 4, "{scripts} calls");
    for scan in ["scan", "hscan", "zscan", "sscan", "hgetall", "hkeys", "hvals", "keys"] {
        assert_eq!(calls(&server, scan), 0, "{scan}");
    }
    // Each closed ticket is read by the sweep and by its step, and its buyer once; those that are not due by nobody.
    let reads = calls(&server, "hget");
    assert!(reads <= 3 * DUE as u64 + scripts, "{reads} reads");
    let stock = gateway.ops.look(&keys).await.unwrap().unwrap().stock;
    assert_eq!((stock.available, stock.held), (DUE as u64, OTHERS as u64));
    println!(
        "{DUE} closed and for sale again in {took:?} ({cpu:.1} s of Redis), {scripts} calls; slowest batch of {BATCH}: {slowest:?}"
    );
}
