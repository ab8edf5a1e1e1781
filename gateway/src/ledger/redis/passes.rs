//! This gateway's log, read for the recoveries: one pass serves all that wait for one, beside the settle thread.

use crate::pipeline::{SharedRecord, claim_of, decode, decode_shared};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tidegate_queue::{Message, Queue};
use tidegate_stock::Record;
use tidegate_stock::redis::ops::Reapply;
use tokio::sync::mpsc;

/// Recoveries that come within this time share a pass.
const GATHER: Duration = Duration::from_millis(20);
/// Records brought in by one call.
const BATCH: usize = 200;
/// Records in memory for all recoveries of a pass.
const HELD_MAX: usize = 20_000;

/// What a pass tells of one sale.
pub(super) enum Piece {
    /// Some of its records, in the log's order.
    Records(Reapply),
    /// That was all. A pass that ends without this word has told less.
    End,
    /// The log cannot be read; why.
    Failed(String),
}

/// Who waits for a pass.
#[derive(Default)]
pub(super) struct Passes(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    wanted: Vec<Wanted>,
    /// A task makes the passes.
    served: bool,
}

struct Wanted {
    sale: Arc<str>,
    to: mpsc::Sender<Piece>,
}

impl Passes {
    /// All records of a sale that are durable now. On a `LocalRuntime`; the pass goes on while anybody listens to it.
    pub(super) fn records_of(
        shared: &Arc<super::Shared>,
        queue: &Queue,
        sale: &Arc<str>,
    ) -> mpsc::Receiver<Piece> {
        let (to, records) = mpsc::channel(1);
        let mut waiting = shared.passes.0.lock();
        waiting.wanted.push(Wanted { sale: sale.clone(), to });
        if !std::mem::replace(&mut waiting.served, true) {
            tokio::task::spawn_local(serve(shared.clone(), queue.clone()));
        }
        records
    }

    /// Those that wait; with none, the next to come has to find somebody.
    fn take(&self) -> Vec<Wanted> {
        let mut waiting = self.0.lock();
        waiting.served = !waiting.wanted.is_empty();
        std::mem::take(&mut waiting.wanted)
    }
}

async fn serve(shared: Arc<super::Shared>, queue: Queue) {
    loop {
        tokio::time::sleep(GATHER).await;
        let wanted = shared.passes.take();
        if wanted.is_empty() {
            return;
        }
        let (queue, gateway) = (queue.clone(), shared.gateway.clone());
        // A pass that panicked has dropped its senders without the last word: its recoveries are tried again.
        let _ = tokio::task::spawn_blocking(move || Pass::new(wanted).run(&queue, &gateway)).await;
    }
}

struct Pass {
    sales: HashMap<Arc<str>, (Reapply, Wanted), RandomState>,
    held: usize,
}

impl Pass {
    /// Of two that want the same sale, the later: the other recovery has given up.
    fn new(wanted: Vec<Wanted>) -> Self {
        let sales = wanted.into_iter().map(|wanted| (wanted.sale.clone(), (Reapply::default(), wanted)));
        Self { sales: sales.collect(), held: 0 }
    }

    fn run(mut self, queue: &Queue, gateway: &str) {
        let failed = self.read(queue, gateway).err();
        for (_, wanted) in self.sales.into_values() {
            let last = failed.clone().map_or(Piece::End, Piece::Failed);
            // When nobody listens, nobody needs to know.
            let _ = wanted.to.blocking_send(last);
        }
    }

    fn read(&mut self, queue: &Queue, gateway: &str) -> Result<(), String> {
        for message in queue.scan(queue.start()) {
            if self.sales.is_empty() {
                return Ok(());
            }
            let message = message.map_err(|error| error.to_string())?;
            decode(&message, |record| self.add(record, &message, gateway))
                .map_err(|error| error.to_string())?;
            if self.held >= HELD_MAX {
                self.send_all();
            }
        }
        self.send_all();
        Ok(())
    }

    fn add(&mut self, record: &Record<'_>, message: &Message, gateway: &str) {
        let sale = match record {
            Record::Order(order) => order.sale,
            Record::Transition(transition) => transition.sale,
            Record::Restock(restock) => restock.sale,
            Record::Sale(record) => record.sale,
        };
        let Some((records, wanted)) = self.sales.get_mut(sale) else { return };
        match record {
            Record::Order(order) => records.order(order, gateway, claim_of(message)),
            Record::Transition(transition) => records.transition(transition, claim_of(message)),
            Record::Restock(restock) => records.restock(restock),
            Record::Sale(record) => {
                if let Some(SharedRecord::Sale(recorded)) = decode_shared(message) {
                    records.sale(record, recorded);
                }
            }
        }
        self.held += 1;
        if records.len() >= BATCH {
            let batch = std::mem::take(records);
            self.held -= batch.len();
            if wanted.to.blocking_send(Piece::Records(batch)).is_err() {
                self.sales.remove(sale);
            }
        }
    }

    fn send_all(&mut self) {
        self.held = 0;
        self.sales.retain(|_, (records, wanted)| {
            records.is_empty() || wanted.to.blocking_send(Piece::Records(std::mem::take(records))).is_ok()
        });
    }
}
