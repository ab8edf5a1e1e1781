//! What a live ticket costs in memory, as the operating system sees it. A process of its own: one test, one sale.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use support::spec;
use tidegate_stock::*;

const TICKETS: u64 = 200_000;
const PAGE_BYTES: u64 = 4096;
const BYTES_PER_TICKET_MAX: u64 = 250;

struct Counting(AtomicU64);

impl Journal for Counting {
    fn append(&self, _: &Record<'_>) -> Result<Lsn, JournalError> {
        Ok(Lsn(self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }

    fn durable(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Relaxed))
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE_BYTES
}

#[test]
fn a_live_ticket_stays_under_its_share_of_memory() {
    let ledger = Ledger::new(Counting(AtomicU64::new(0)), LedgerLimits::default());
    ledger.put_sale("sale", &spec(TICKETS), 0).unwrap();
    let empty = resident_bytes();
    let id = |n: u64| TicketId(u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1 << 80);
    for n in 0..TICKETS {
        let reserve = Reserve {
            ticket: id(n),
            sale: "sale",
            buyer: &format!("buyer-{n:012}"),
            quantity: 1,
            idempotency_key: Some(&n.to_string()),
            body_hash: n,
            attributes: "{}",
            now_ms: n / 10,
        };
        assert!(matches!(ledger.reserve(&reserve), Ok(ReserveOutcome::Won { .. })));
    }
    let queued = (resident_bytes() - empty) / TICKETS;
    for n in 0..TICKETS {
        let order_id = format!("order-{n:014}");
        let created = ledger.transition(id(n), Transition::Created { order_id: &order_id }, n / 10 + 500);
        assert!(matches!(created, Ok(TransitionOutcome::Done(_))));
    }
    let awaiting = (resident_bytes() - empty) / TICKETS;
    println!("bytes per ticket: queued {queued}, awaiting payment {awaiting}");
    assert!(queued <= BYTES_PER_TICKET_MAX, "queued: {queued}");
    assert!(awaiting <= BYTES_PER_TICKET_MAX, "awaiting payment: {awaiting}");
}
