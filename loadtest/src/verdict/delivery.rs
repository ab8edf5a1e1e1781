//! Delivery to workers: not too late, not after an ack, and nothing left out.

use super::dossier::{CLOCK_SKEW_MS, Dossier};
use super::{Findings, Invariant};
use crate::evidence::{AckSeen, Delivery, Evidence, FaultKind, FaultSeen};
use hashbrown::{HashMap, HashSet};
use tidegate_client::wire::TicketStatus;

/// A delivery that left the gateway in time may be read this much later when the machine is short of CPU. Only for
/// answers to a receive that was sent before the deadline: what waits is handed out at once, so orders that are
/// handed out late show in receives sent after it, and those get no allowance but clock skew.
const TRANSIT_MS: u64 = 2_000;
/// Acks reach the disk at intervals of at most 200 ms (`ack_sync_ms`), so a kill may take back the last ones; plus
/// what a busy machine adds to the way of the answer.
const ACK_SYNC_US: u64 = 200_000 + 200_000;

/// No order reached a worker at or after its deadline, nor after the event that told of its drop.
pub(super) fn no_late_delivery(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let mut in_allowance = 0u64;
    let deliveries = &dossier.evidence.workers.deliveries;
    for delivery in deliveries {
        let ticket = delivery.ticket;
        let (asked_ms, received_ms) =
            (dossier.wall_ms(delivery.asked_us), dossier.wall_ms(delivery.received_us));
        let late_ms = received_ms.saturating_sub(delivery.deadline_ms);
        if asked_ms >= delivery.deadline_ms + CLOCK_SKEW_MS || late_ms >= TRANSIT_MS {
            findings.add(|| format!("ticket {ticket} was delivered {late_ms} ms after its deadline"));
        } else if received_ms >= delivery.deadline_ms {
            in_allowance += 1;
        }
        let dropped = dossier.files.get(&ticket).and_then(|file| {
            file.transitions.iter().find(|event| event.to == TicketStatus::Dropped).map(|event| event.at_ms)
        });
        if let Some(at_ms) = dropped.filter(|at_ms| asked_ms >= at_ms + CLOCK_SKEW_MS) {
            let after_ms = asked_ms - at_ms;
            findings
                .add(|| format!("ticket {ticket} was asked for {after_ms} ms after its drop, and delivered"));
        }
    }
    let mut compared = format!("{} deliveries, all before their deadline", deliveries.len());
    if in_allowance > 0 {
        compared = format!("{compared} ({in_allowance} read within {TRANSIT_MS} ms after it)");
    }
    findings.judge("no_late_delivery", compared)
}

/// A message whose ack was answered `ok` is not delivered again.
pub(super) fn acked_not_redelivered(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    let mut by_message: HashMap<(u32, u32, u64), Vec<&Delivery>> = HashMap::new();
    for delivery in &evidence.workers.deliveries {
        let message = (delivery.gateway, delivery.queue, delivery.offset);
        by_message.entry(message).or_default().push(delivery);
    }
    let (mut acked, mut excused) = (0u64, 0u64);
    for ((_, queue, offset), deliveries) in &by_message {
        let Some(acked_us) = deliveries.iter().filter_map(|delivery| delivery.acked_us()).min() else {
            continue;
        };
        acked += 1;
        for again in deliveries.iter().filter(|delivery| delivery.received_us > acked_us) {
            if evidence.faults.iter().any(|kill| takes_back(kill, again, acked_us)) {
                excused += 1;
                continue;
            }
            let after_ms = (again.received_us - acked_us) / 1_000;
            findings.add(|| {
                format!(
                    "message {queue}/{offset} (ticket {}) was delivered again {after_ms} ms after its ack",
                    again.ticket
                )
            });
        }
    }
    let mut compared = format!("{acked} messages acked, none delivered again");
    if excused > 0 {
        compared = format!(
            "{acked} messages acked; {excused} delivered again after a kill within {} ms of their ack",
            ACK_SYNC_US / 1_000
        );
    }
    findings.judge("acked_not_redelivered", compared)
}

/// It was a kill of that gateway, before the ack had to be on disk.
fn takes_back(kill: &FaultSeen, again: &Delivery, acked_us: u64) -> bool {
    let concerned = kill.kind == FaultKind::Kill && kill.gateway.is_none_or(|number| number == again.gateway);
    let meanwhile = kill.back_us.is_none_or(|back_us| acked_us <= back_us);
    concerned && meanwhile && acked_us + ACK_SYNC_US >= kill.at_us && again.received_us >= kill.at_us
}

/// Every offset of `orders` was delivered to a worker, or accounted for: and no more is accounted for than tickets
/// ended without a worker.
pub(super) fn no_lost_message(dossier: &Dossier<'_>) -> Invariant {
    let mut findings = Findings::default();
    let evidence = dossier.evidence;
    let delivered: HashSet<(u32, u32, u64)> =
        evidence.workers.deliveries.iter().map(|d| (d.gateway, d.queue, d.offset)).collect();
    let (mut total, mut undelivered) = (0u64, 0u64);
    for seen in &evidence.offsets {
        let offsets = match &seen.offsets {
            Ok(offsets) => offsets,
            Err(error) => {
                findings.add(|| format!("the group's offsets could not be read: {error}"));
                continue;
            }
        };
        for queue in &offsets.queues {
            let accounted: Vec<(u64, u64)> =
                [&queue.dropped, &queue.dead, &queue.skipped].into_iter().flatten().copied().collect();
            for offset in seen.first_offset(queue.queue)..queue.end {
                total += 1;
                if delivered.contains(&(seen.gateway, queue.queue, offset)) {
                    continue;
                }
                undelivered += 1;
                let known = accounted.iter().any(|(from, to)| (*from..*to).contains(&offset));
                findings.require(known, || {
                    format!(
                        "offset {}/{offset} was neither delivered nor dropped nor dead-lettered{}",
                        queue.queue,
                        at_gateway(evidence, seen.gateway)
                    )
                });
            }
        }
        let its = delivered.iter().filter(|(gateway, ..)| *gateway == seen.gateway);
        let beyond = its.filter(|(_, number, offset)| {
            let queue = offsets.queues.iter().find(|queue| queue.queue == *number);
            queue.is_none_or(|queue| *offset >= queue.end)
        });
        for (_, queue, offset) in beyond {
            findings
                .add(|| format!("offset {queue}/{offset} was delivered, but the topic has no such offset"));
        }
    }
    let dropped =
        dossier.files.values().filter(|file| file.deliveries.is_empty() && file.release().is_some()).count()
            as u64;
    // With a shared ledger the record of one ticket may stand in two logs, and one of them leaves it out; that each
    // ticket went to a worker is `no_lost_winner`'s to see.
    findings.require(evidence.shared || undelivered <= dropped, || {
        format!(
            "{undelivered} messages were not delivered, but only {dropped} tickets ended without a worker"
        )
    });
    let rest = if evidence.shared { "dropped or left to another gateway" } else { "dropped" };
    findings.judge(
        "no_lost_message",
        format!("{total} messages: {} delivered, {undelivered} {rest}", total - undelivered),
    )
}

fn at_gateway(evidence: &Evidence, gateway: u32) -> String {
    if evidence.shared { format!(" at gateway {gateway}") } else { String::new() }
}

impl Delivery {
    fn acked_us(&self) -> Option<u64> {
        match self.ack {
            AckSeen::Ok(at_us) => Some(at_us),
            AckSeen::Unknown | AckSeen::Refused => None,
        }
    }
}
