//! What becomes true with durability: returned units are sold again, and whoever waits for a ticket hears
//! of its change. Runs on the settle thread, woken once a commit and only when there is something.

use crate::state::{App, Core};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate_stock::{Lsn, TicketId};

/// Log bytes that the transitions still owed to one live ticket may take: its `created` event, its pay
/// timer with the timer's delivery, and its last event, each in a frame of its own at worst.
const OWED_BYTES_PER_TICKET: u64 = 4096;

/// Between two looks at what nobody reported.
const SWEEP: Duration = Duration::from_millis(100);
/// Sweeps between two comparisons of all gates with the ledger.
const SWEEPS_PER_COMPARISON: u32 = 10;

/// Transitions whose record is on its way to disk, in log order per sale. Bounded by what the log accepts
/// without having written it.
#[derive(Debug, Default)]
pub struct SettleQueue {
    pending: Mutex<VecDeque<(Lsn, TicketId)>>,
    newest: AtomicU64,
    wake: tokio::sync::Notify,
    /// Held while settling: who returns from it finds all settled that was durable when it came.
    turn: Mutex<()>,
}

impl SettleQueue {
    /// Called by the journal, under the sale's lock.
    pub fn push(&self, lsn: Lsn, ticket: TicketId) {
        self.pending.lock().push_back((lsn, ticket));
        self.newest.fetch_max(lsn.0, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// A record without a ticket (a restock) that changes what may be sold.
    pub fn push_barrier(&self, lsn: Lsn) {
        self.newest.fetch_max(lsn.0, Ordering::AcqRel);
        self.wake.notify_one();
    }

    fn take_durable(&self, durable: Lsn, out: &mut Vec<TicketId>) {
        let mut pending = self.pending.lock();
        while let Some(&(lsn, ticket)) = pending.front() {
            if lsn > durable {
                break;
            }
            out.push(ticket);
            pending.pop_front();
        }
    }
}

/// Settles until the gateway stops.
pub async fn run_settle(core: Rc<Core>) {
    let app = &core.app;
    let mut settled = Lsn(0);
    let mut changed = Vec::new();
    let mut sweeps = 0_u32;
    loop {
        let newest = Lsn(app.settle.newest.load(Ordering::Acquire));
        if newest > settled {
            // What is pushed while this waits is settled in the same round or wakes the next one.
            if core.durable.wait(newest).await.is_err() {
                return;
            }
            settled = newest;
            settle(app, &mut changed);
            continue;
        }
        tokio::select! {
            () = app.settle.wake.notified() => {}
            () = tokio::time::sleep(SWEEP) => {
                settle(app, &mut changed);
                lift_flags(app);
                sweeps = sweeps.wrapping_add(1);
                if sweeps.is_multiple_of(SWEEPS_PER_COMPARISON) {
                    compare_gates(app);
                }
            }
            () = app.stopping.wait() => return,
        }
    }
}

/// Does at once what the settle thread would do next: returned and restocked units are for sale afterwards.
pub(crate) fn settle_durable(app: &App) {
    settle(app, &mut Vec::new());
}

fn settle(app: &App, changed: &mut Vec<TicketId>) {
    let Some(ledger) = app.stock.embedded() else { return };
    let _turn = app.settle.turn.lock();
    let durable = Lsn(app.queue.durable().0);
    app.settle.take_durable(durable, changed);
    for ticket in &*changed {
        // The record can be durable before the thread that appended it has applied it; the look-up waits for
        // the sale's lock, so afterwards the returned units are in the ledger's list.
        let _applied = ledger.status_of(*ticket);
    }
    for reopened in ledger.settle(durable) {
        if let Some(gate) = app.sales.find(&reopened.sale) {
            gate.reopen(reopened.epoch);
        }
    }
    let watched = app.watch.is_watched();
    for ticket in changed.drain(..) {
        if watched {
            app.watch.notify(ticket);
        }
    }
    size_reserve(app);
}

/// Space for what live tickets are still owed is kept free: a full disk refuses new orders, never a payment
/// or an expiry.
pub fn size_reserve(app: &App) {
    app.queue.set_reserve((app.stock.live_tickets() + 1_000) * OWED_BYTES_PER_TICKET);
}

/// Belt and braces: no flag may outlive the stock that it denies, whatever was missed.
fn lift_flags(app: &App) {
    let Some(ledger) = app.stock.embedded() else { return };
    for gate in app.sales.all().iter().filter(|gate| gate.is_sold_out()) {
        if let Some(view) = ledger.sale(&gate.sale) {
            gate.refresh(view.stock.available, view.epoch);
        }
    }
}

/// An operator whose connection broke before the change was durable never saw the gate take it over.
fn compare_gates(app: &App) {
    let Some(ledger) = app.stock.embedded() else { return };
    let durable = Lsn(app.queue.durable().0);
    for view in ledger.sales() {
        let agrees = app.sales.find(&view.sale).is_some_and(|gate| gate.agrees(&view));
        if view.lsn <= durable && !agrees {
            app.sales.take_over(|| ledger.sale(&view.sale));
        }
    }
}
