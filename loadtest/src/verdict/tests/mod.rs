//! Each invariant: the smallest change to evidence that holds which must break it.

mod delivery_and_faults;
mod fleet;
mod sound;
mod stock_and_buyers;

use super::{Invariant, at_faults, at_kills, judge};
use crate::evidence::{
    AckSeen, BuyersSaw, CreatedSeen, Delivery, EventSeen, Evidence, ExitSeen, FaultKind, FaultSeen,
    FaultWanted, KeyConflict, LastLook, LookApart, NotYetKnown, OffsetsSeen, OrderRow, PaymentSeen, RowState,
    Sighting, StopSeen, Table, TicketId, Told, WorkersSaw,
};
use crate::scenario::{Sale, Tokens};
use sound::{MS, START_MS, delivery, event, id, look, sound};
use tidegate_client::wire::TicketStatus::{self, AwaitingPayment, Dropped, Expired, Paid, Queued};
use tidegate_client::wire::{Audit, GroupOffsets, Identity, ProblemType, QueueOffsets};

fn broken(evidence: &Evidence) -> Vec<Invariant> {
    judge(evidence).into_iter().filter(|invariant| !invariant.holds).collect()
}

/// Changes sound evidence and expects `invariant` to break, with a detail that contains `detail`.
#[track_caller]
fn breaks(invariant: &str, detail: &str, change: impl FnOnce(&mut Evidence)) {
    let mut evidence = sound();
    change(&mut evidence);
    let broken = broken(&evidence);
    let found = broken.iter().find(|broken| broken.name == invariant);
    assert!(found.is_some_and(|found| found.detail.contains(detail)), "{broken:?}");
}

fn queue(evidence: &mut Evidence) -> &mut QueueOffsets {
    &mut evidence.offsets[0].offsets.as_mut().unwrap().queues[0]
}

fn kill(at_ms: u64, back_ms: u64) -> FaultSeen {
    FaultSeen::new(FaultKind::Kill, Some(0), at_ms * MS).back_at(back_ms * MS)
}

fn wanted(kind: FaultKind, in_flight_min: u64) -> Vec<FaultWanted> {
    vec![FaultWanted { kind, in_flight_min }]
}

fn audit(evidence: &mut Evidence) -> &mut Audit {
    evidence.audit.as_mut().unwrap()
}
