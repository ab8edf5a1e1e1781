//! What a reservation costs in the ledger alone: the journal here only counts.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_stock::{
    Journal, JournalError, Ledger, LedgerLimits, Lsn, Record, Reserve, ReserveOutcome, SaleSpec, TicketId,
};

const SALE: &str = "sale";
/// Reservations into one ledger before the next one begins, so that memory stays bounded.
const WINS_PER_LEDGER: u64 = 200_000;

struct Counting(AtomicU64);

impl Journal for Counting {
    fn append(&self, record: &Record<'_>) -> Result<Lsn, JournalError> {
        black_box(record);
        Ok(Lsn(self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }

    fn durable(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Relaxed))
    }
}

fn ledger(stock: u64) -> Ledger<Counting> {
    let spec = SaleSpec {
        item: "item".to_owned(),
        title: None,
        stock,
        per_buyer_limit: 1,
        quantity_max: 1,
        opens_at_ms: Some(0),
        closes_at_ms: None,
        order_deadline_ms: 30_000,
        pay_window_ms: 900_000,
        weight: 1,
        requires_pass: false,
        limit_group: None,
        limit_counts_released: false,
    };
    let ledger = Ledger::new(Counting(AtomicU64::new(0)), LedgerLimits::default());
    let created = ledger.put_sale(SALE, &spec, 0);
    assert!(created.is_ok(), "{created:?}");
    ledger
}

fn order<'a>(id: u64, buyer: &'a str, key: Option<&'a str>) -> Reserve<'a> {
    // A ULID's random bits are spread; so are these.
    let random = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Reserve {
        ticket: TicketId(u128::from(id) << 80 | u128::from(random)),
        sale: SALE,
        buyer,
        quantity: 1,
        idempotency_key: key,
        body_hash: 7,
        attributes: "{}",
        now_ms: 1_000 + id / 100,
    }
}

fn won(outcome: &Result<ReserveOutcome, JournalError>) -> bool {
    matches!(outcome, Ok(ReserveOutcome::Won { .. }))
}

fn reserve(criterion: &mut Criterion) {
    let buyers: Vec<String> = (0..WINS_PER_LEDGER).map(|n| format!("buyer-{n:08}")).collect();
    criterion.bench_function("reserve/win", |bench| {
        bench.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let round = left.min(WINS_PER_LEDGER);
                let ledger = ledger(WINS_PER_LEDGER);
                let begun = Instant::now();
                for (id, buyer) in (0..round).zip(&buyers) {
                    let outcome =
                        ledger.reserve(&order(id, buyer, Some("3b1f0a52-3d1c-4a57-8d1e-1d8f6c1b2a3d")));
                    assert!(won(&outcome), "{outcome:?}");
                }
                spent += begun.elapsed();
                left -= round;
            }
            spent
        });
    });

    let ledger = ledger(100_000);
    for (id, buyer) in (0..100_000).zip(&buyers) {
        assert!(won(&ledger.reserve(&order(id, buyer, Some("key")))), "stock for all of them");
    }
    let mut next = 0_u64;
    let mut turn = |range: std::ops::Range<u64>| {
        next += 7_919;
        range.start + next % (range.end - range.start)
    };
    criterion.bench_function("reserve/sold_out", |bench| {
        bench.iter(|| {
            let id = turn(100_000..WINS_PER_LEDGER);
            ledger.reserve(black_box(&order(id, &buyers[id as usize], Some("key"))))
        });
    });
    criterion.bench_function("reserve/repeat", |bench| {
        bench.iter(|| {
            let id = turn(0..100_000);
            ledger.reserve(black_box(&order(id, &buyers[id as usize], Some("key"))))
        });
    });
    criterion.bench_function("status_of", |bench| {
        bench.iter(|| ledger.status_of(black_box(order(turn(0..100_000), "", None).ticket)));
    });
}

criterion_group!(benches, reserve);
criterion_main!(benches);
