//! Order deadlines, dead letters and pay timers propose a transition; the ledger's state decides. Every
//! proposal may be repeated: what it found already done is done.
//!
//! The normal paths are the queue's reports (deadline, dead letter) and the delayed message of the pay
//! timer. Behind both stands a sweep of the ledger's own list of what is overdue, so that no lost report
//! can hold a unit for ever.

use super::journal::topics;
use crate::state::Core;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tidegate_queue::{Delivery, ReceiveRequest, Report, ReportKind};
use tidegate_stock::{Proposal, TicketId, Transition};
use tokio::task::JoinSet;
use tracing::error;

/// Reports, timers and overdue tickets taken in one go.
const BATCH: usize = 256;
/// Batches of pay timers under way at once.
const EXPIRING_MAX: usize = 8;
/// A timer's lease; also the pause before a refused proposal is made again.
const TIMER_LEASE_MS: u64 = 10_000;
/// Pause before a proposal that the log refused is made again.
const RETRY_MS: u64 = 200;
/// How far behind its time a ticket must be before the sweep takes it up.
const SWEEP_GRACE_MS: u64 = 2_000;
/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(1);

/// Proposes until the gateway stops.
pub async fn run_proposals(core: Rc<Core>) {
    tokio::select! {
        () = reports(&core) => {}
        () = pay_timers(core.clone()) => {}
        () = overdue(&core) => {}
        () = core.app.stopping.wait() => {}
    }
}

async fn reports(core: &Core) {
    let queue = &core.app.queue;
    loop {
        let reports = poll_fn(|cx| {
            let reports = queue.take_reports(BATCH, Some(cx.waker()));
            if reports.is_empty() { Poll::Pending } else { Poll::Ready(reports) }
        })
        .await;
        let (mut proposed, mut proposals) = (Vec::new(), Vec::new());
        for report in &reports {
            match proposal_of(report) {
                Some(proposal) => {
                    proposals.push(proposal);
                    proposed.push(report);
                }
                None => queue.settle(report),
            }
        }
        let decided = core.propose(proposals).await;
        for (report, _) in proposed.into_iter().zip(decided).filter(|(_, decided)| *decided) {
            // Not settled (refused, or the ledger's clock says not yet): the queue reports it again.
            queue.settle(report);
        }
        core.app.drain.refresh(Instant::now());
        tokio::task::yield_now().await;
    }
}

fn proposal_of(report: &Report) -> Option<(TicketId, Transition<'static>)> {
    if report.message.topic != topics::ORDERS || report.group != topics::ORDER_WORKERS {
        return None;
    }
    let Some(ticket) = report.message.keys.first().and_then(|key| key.parse::<TicketId>().ok()) else {
        error!(position = %report.message.position, "an order message without a ticket was reported");
        return None;
    };
    let transition = match report.kind {
        ReportKind::Dropped => Transition::Drop,
        ReportKind::DeadLettered => Transition::Fail { reason: "no worker could create the order" },
    };
    Some((ticket, transition))
}

async fn pay_timers(core: Rc<Core>) {
    let queue = &core.app.queue;
    let mut running = JoinSet::new();
    let request = ReceiveRequest {
        topic: topics::PAY_TIMERS,
        group: topics::PAY_TIMERS_GROUP,
        max: BATCH,
        lease_ms: TIMER_LEASE_MS,
        tags: &[],
    };
    let mut slot = None;
    loop {
        match poll_fn(|cx| queue.poll_receive(cx, &mut slot, &request)).await {
            Ok(due) => {
                // Each batch waits for Redis and for the disk: many that are due at once do not wait one after the other.
                while running.len() >= EXPIRING_MAX {
                    running.join_next().await;
                }
                while running.try_join_next().is_some() {}
                running.spawn_local(expire(core.clone(), due));
            }
            Err(refusal) => {
                error!(%refusal, "pay timers cannot be received; the sweep expires orders meanwhile");
                tokio::time::sleep(SWEEP).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn expire(core: Rc<Core>, due: Vec<Delivery>) {
    let queue = &core.app.queue;
    let (mut proposals, mut receipts) = (Vec::new(), Vec::new());
    let (mut done, mut again) = (Vec::new(), Vec::new());
    for timer in due {
        match timer.message.keys.first().and_then(|key| key.parse::<TicketId>().ok()) {
            Some(ticket) => {
                proposals.push((ticket, Transition::Expire));
                receipts.push(timer.receipt);
            }
            None => done.push(timer.receipt),
        }
    }
    for (receipt, decided) in receipts.into_iter().zip(core.propose(proposals).await) {
        if decided { done.push(receipt) } else { again.push(receipt) }
    }
    queue.ack(topics::PAY_TIMERS, topics::PAY_TIMERS_GROUP, &done);
    if !again.is_empty() {
        queue.nack(topics::PAY_TIMERS, topics::PAY_TIMERS_GROUP, &again, Some(RETRY_MS));
    }
}

/// A shared ledger has a sweep of its own.
async fn overdue(core: &Core) {
    let app = &core.app;
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(ledger) = app.stock.embedded() else { continue };
        let due = ledger.due(app.clock.now_ms(), SWEEP_GRACE_MS, BATCH);
        let proposals = due.into_iter().map(|(ticket, proposal)| match proposal {
            Proposal::Drop => (ticket, Transition::Drop),
            Proposal::Expire => (ticket, Transition::Expire),
        });
        core.propose(proposals.collect()).await;
    }
}
