//! What gate 5 costs an order: `cargo bench -p tidegate --bench quota`. The goal is 150 ns for all that the defaults ask.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use tidegate::admission::Quotas;
use tidegate::config::Config;

/// Buyers, each at an address of their own; more than fit into the caches next to the core.
const BUYERS: u32 = 100_000;

fn quotas(c: &mut Criterion) {
    let config = Config::load(None, std::iter::empty()).expect("the defaults are valid");
    let buyers: Vec<(String, IpAddr)> =
        (0..BUYERS).map(|n| (format!("buyer-{n:06}"), Ipv4Addr::from(0xC633_0000 + n).into())).collect();
    let mut variants = [
        ("buyer", config.quota.clone()),
        ("ip", config.quota.clone()),
        ("newcomers", config.quota.clone()),
        ("all", config.quota.clone()),
    ];
    (variants[0].1.ip, variants[0].1.newcomers) = (None, None);
    (variants[1].1.buyer, variants[1].1.newcomers) = (None, None);
    (variants[2].1.buyer, variants[2].1.ip) = (None, None);
    for (name, settings) in variants {
        let quotas = Quotas::new(&settings, config.identity.trusted_proxies(), None);
        for (buyer, address) in &buyers {
            let _ = quotas.check(buyer, || *address);
        }
        let mut next = 0_usize;
        c.bench_function(&format!("quota/{name}"), |b| {
            b.iter_batched(
                || {
                    next = (next + 7_919) % buyers.len();
                    &buyers[next]
                },
                |(buyer, address)| black_box(quotas.check(black_box(buyer), || *address).is_ok()),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, quotas);
criterion_main!(benches);
