//! Order deadlines, dead letters and pay timers propose a transition; the ledger's state decides. Every
//! proposal may be repeated: what it found already done is done.
//!
//! The normal paths are the queue's reports (deadline, dead letter) and the delayed message of the pay
//! timer. Behind both stands a sweep of the ledger's own list of what is overdue, so that no lost report
//! can hold a unit for ever.

use super::journal::topics;
use crate::state::{App, Core};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tidegate_queue::{Delivery, ReceiveRequest, Report, ReportKind};
use tidegate_stock::{JournalError, Proposal, TicketId, Transition, TransitionOutcome};
use tracing::{debug, error};

/// Reports, timers and overdue tickets taken in one go.
const BATCH: usize = 256;
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
        () = reports(&core.app) => {}
        () = pay_timers(&core.app) => {}
        () = overdue(&core.app) => {}
        () = core.app.stopping.wait() => {}
    }
}

async fn reports(app: &App) {
    loop {
        let reports = poll_fn(|cx| {
            let reports = app.queue.take_reports(BATCH, Some(cx.waker()));
            if reports.is_empty() { Poll::Pending } else { Poll::Ready(reports) }
        })
        .await;
        for report in &reports {
            // Not settled (refused, or the ledger's clock says not yet): the queue reports it again.
            if matches!(on_report(app, report), Ok(Proposed::Decided)) {
                app.queue.settle(report);
            }
        }
        tokio::task::yield_now().await;
    }
}

fn on_report(app: &App, report: &Report) -> Result<Proposed, JournalError> {
    if report.message.topic != topics::ORDERS || report.group != topics::ORDER_WORKERS {
        return Ok(Proposed::Decided);
    }
    let Some(ticket) = report.message.keys.first().and_then(|key| key.parse::<TicketId>().ok()) else {
        error!(position = %report.message.position, "an order message without a ticket was reported");
        return Ok(Proposed::Decided);
    };
    let transition = match report.kind {
        ReportKind::Dropped => Transition::Drop,
        ReportKind::DeadLettered => Transition::Fail { reason: "no worker could create the order" },
    };
    propose(app, ticket, transition)
}

async fn pay_timers(app: &App) {
    let request = ReceiveRequest {
        topic: topics::PAY_TIMERS,
        group: topics::PAY_TIMERS_GROUP,
        max: BATCH,
        lease_ms: TIMER_LEASE_MS,
        tags: &[],
    };
    let mut slot = None;
    loop {
        match poll_fn(|cx| app.queue.poll_receive(cx, &mut slot, &request)).await {
            Ok(due) => {
                for timer in &due {
                    on_pay_timer(app, timer);
                }
            }
            Err(refusal) => {
                error!(%refusal, "pay timers cannot be received; the sweep expires orders meanwhile");
                tokio::time::sleep(SWEEP).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn on_pay_timer(app: &App, timer: &Delivery) {
    let receipts = std::slice::from_ref(&timer.receipt);
    let proposed = match timer.message.keys.first().and_then(|key| key.parse::<TicketId>().ok()) {
        Some(ticket) => propose(app, ticket, Transition::Expire),
        None => Ok(Proposed::Decided),
    };
    match proposed {
        Ok(Proposed::Decided) => {
            app.queue.ack(topics::PAY_TIMERS, topics::PAY_TIMERS_GROUP, receipts);
        }
        Ok(Proposed::NotDue) | Err(_) => {
            app.queue.nack(topics::PAY_TIMERS, topics::PAY_TIMERS_GROUP, receipts, Some(RETRY_MS));
        }
    }
}

async fn overdue(app: &App) {
    loop {
        tokio::time::sleep(SWEEP).await;
        for (ticket, proposal) in app.ledger.due(app.clock.now_ms(), SWEEP_GRACE_MS, BATCH) {
            let transition = match proposal {
                Proposal::Drop => Transition::Drop,
                Proposal::Expire => Transition::Expire,
            };
            if propose(app, ticket, transition).is_err() {
                break;
            }
        }
    }
}

enum Proposed {
    Decided,
    NotDue,
}

fn propose(app: &App, ticket: TicketId, transition: Transition<'_>) -> Result<Proposed, JournalError> {
    let outcome = app.ledger.transition(ticket, transition, app.clock.now_ms());
    match outcome {
        Ok(TransitionOutcome::NotDue(_)) => Ok(Proposed::NotDue),
        Ok(TransitionOutcome::TicketNotFound) => {
            debug!(%ticket, "proposal for a ticket that the ledger does not know");
            Ok(Proposed::Decided)
        }
        Ok(
            TransitionOutcome::Done(_) | TransitionOutcome::Repeat(_) | TransitionOutcome::WrongState { .. },
        ) => Ok(Proposed::Decided),
        Err(refusal) => Err(refusal),
    }
}
