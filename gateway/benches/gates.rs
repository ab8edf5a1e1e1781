//! P7 of the goals: what the gates cost an order in memory, before its body, the ledger and the log. In the order of
//! `api/orders.rs`: the sale is known and open and not sold out, its retry could be a winner's, the blacklist, the
//! buyer by a trusted header, both quotas, the projected wait, the token queue. No pass, no policy; `benches/policy.rs` has those.
//!
//! `cargo bench -p tidegate --bench gates`
#![allow(clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::hint::black_box;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tidegate::admission::blacklist::{Ban, Blacklist, Client};
use tidegate::admission::wait::{Drain, WaitSettings};
use tidegate::admission::{
    ClientQuota, Identity, Quotas, SaleGates, TokenQueue, TokenRate, TokenSettings, client_address,
};
use tidegate_queue::GroupLoad;
use tidegate_stock::{Epoch, Lsn, SaleSpec, SaleSwitch, SaleView, Stock, Window};

const BUYERS: usize = 10_000;
const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

fn open_sale() -> SaleView {
    let spec = SaleSpec {
        item: "phone".to_owned(),
        title: None,
        stock: 1_000,
        per_buyer_limit: 1,
        quantity_max: 1,
        opens_at_ms: None,
        closes_at_ms: None,
        order_deadline_ms: 30_000,
        pay_window_ms: 900_000,
        weight: 1,
        requires_pass: false,
        limit_group: None,
        limit_counts_released: false,
    };
    let stock = Stock { initial: 1_000, available: 1_000, ..Stock::default() };
    let switch = SaleSwitch::Open;
    SaleView { sale: "phone".into(), spec, switch, stock, epoch: Epoch::default(), lsn: Lsn(0) }
}

/// What arrives: a proxy of ours names the buyer and whom it got the request from.
fn requests() -> Vec<HeaderMap> {
    let of = |n: usize| {
        let value = |text: String| HeaderValue::from_str(&text).unwrap();
        HeaderMap::from_iter([
            (X_USER_ID, value(format!("buyer-{n:06}"))),
            (FORWARDED, value(format!("198.51.{}.{}", n / 250 % 250, n % 250))),
        ])
    };
    (0..BUYERS).map(of).collect()
}

fn gates(c: &mut Criterion) {
    let sales = SaleGates::default();
    sales.put(&open_sale());
    let trusted: Vec<ipnet::IpNet> = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let identity = Identity::Header { header: X_USER_ID, trusted: trusted.clone() };
    let quota = || ClientQuota::new(1e6, 1_000_000, 1_000_000).map(Arc::new);
    let quotas = Quotas { buyer: quota(), ip: quota(), ..Quotas::default() };
    let settings = TokenSettings {
        rate: TokenRate::Fixed(100_000_000),
        burst: 100_000_000,
        wait_max: Duration::from_millis(500),
        tokens_per_unit: 0,
        shared: false,
    };
    let tokens = TokenQueue::new(&settings, Instant::now());
    let blacklist = Blacklist::open(1, None);
    let ban = Ban { until_ms: None, reason: None, since_ms: 0, manual: true, times: 0 };
    for banned in ["ip:203.0.113.0/24", "buyer:mallory"] {
        blacklist.put(Client::parse(banned).unwrap(), ban.clone(), None);
    }
    let drain = Drain::new(Arc::new(GroupLoad::default()), &[0; 4], Instant::now());
    let wait = WaitSettings { enabled: true, margin: 3.0, unmeasured_max: 1_000 };
    let peer: IpAddr = [127, 0, 0, 1].into();
    let (requests, next) = (requests(), AtomicUsize::new(0));
    let one = || &requests[next.fetch_add(1, Relaxed) % BUYERS];
    let mut cx = Context::from_waker(Waker::noop());
    c.bench_function("gates/all", |b| {
        b.iter(|| {
            let headers = black_box(one());
            let sale = sales.find(black_box("phone")).unwrap();
            assert!(!sale.is_paused());
            let winner = identity.claimed(headers, peer).is_some_and(|buyer| sale.winners.contains(&buyer));
            assert!(!winner && matches!(sale.window(|| 0), Window::Open) && !sale.is_sold_out());
            assert!(blacklist.has_networks());
            let address = || client_address(headers, peer, &trusted);
            assert!(blacklist.address(address(), &quotas.exempt, || 0).is_ok());
            let buyer = identity.prove(headers, peer).unwrap();
            assert!(blacklist.buyer(&buyer, || 0).is_ok());
            assert!(quotas.check(&buyer, address).is_ok());
            assert!(!sale.requires_pass());
            let coming = drain.admit(&wait, &sale.sale, Duration::from_secs(30), Instant::now()).unwrap();
            let weight = sale.weight();
            match pin!(tokens.take(&sale.sale, weight)).poll(&mut cx) {
                Poll::Ready(token) => drop(black_box(token.unwrap())),
                Poll::Pending => unreachable!("there is a token for everybody"),
            }
            drop(coming);
        });
    });
    let quota = ClientQuota::new(1e6, 1_000_000, 1_000_000).unwrap();
    c.bench_function("gates/quota", |b| {
        b.iter(|| quota.check(black_box(&one()[X_USER_ID].as_bytes())).is_ok());
    });
}

criterion_group!(benches, gates);
criterion_main!(benches);
