//! What the log is kept for, and letting the rest go: puts sales to rest that are settled for long, writes the book down,
//! releases what neither the book nor a recovery would need.

use super::book::{self, Book, BookError};
use super::core::CoreLedger;
use super::shared::Shared;
use crate::state::{App, Core};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_queue::Position;
use tidegate_stock::Window;
use tokio::time::Instant;
use tracing::{info, warn};

/// Between two looks at what may go.
const LOOK: Duration = Duration::from_secs(5);
/// A sale that is settled is asked about so often, at least and at most.
const ASK: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];
/// Sales asked about in one look; the rest waits for the next.
const ASKS_MAX: usize = 1_000;
/// Between two lines that name the sale which holds the log.
const TELL: Duration = Duration::from_hours(1);

/// The book as of a position of the log.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) book: Book,
    pub(super) cut: Position,
}

/// Keeps the log short until the gateway stops.
pub async fn run_keep(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let Some(mut kept) = ledger.shared.kept.lock().take() else { return };
    let app = &core.app;
    let mut saved = book::cuts(&app.boot.data.dir).unwrap_or_default().last().map_or(0, |cut| cut.0);
    let mut asked = HashMap::new();
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.stopping.wait() => return,
        }
        put_to_rest(&ledger, &mut asked).await;
        let cut = app.queue.synced();
        if cut.0.saturating_sub(saved) >= app.boot.data.snapshot_bytes {
            saved = cut.0;
            let (copy, mut next) = (app.clone(), kept.clone());
            let made = tokio::task::spawn_blocking(move || advance(&copy, &mut next, cut).map(|()| next));
            match made.await {
                Ok(Ok(next)) => kept = next,
                Ok(Err(error)) => {
                    warn!(%error, "no snapshot of the fleet this time; the next start reads more of the log");
                }
                Err(error) => warn!(%error, "the snapshot task ended early"),
            }
        }
        let holds = release(app, &ledger.shared, &kept);
        if let Some(sale) = holds
            && told.is_none_or(|at| at.elapsed() >= TELL)
            && app.queue.end().0.saturating_sub(app.queue.start().0) > app.boot.data.snapshot_bytes
        {
            told = Some(Instant::now());
            info!(
                sale,
                "the log is kept for this sale, until it is closed and all its tickets are at their ends"
            );
        }
    }
}

fn advance(app: &App, kept: &mut Kept, cut: Position) -> Result<(), BookError> {
    kept.book.fold(&app.queue, kept.cut, cut)?;
    kept.cut = cut;
    kept.book.save(&app.boot.data.dir, cut)
}

/// Lets go what is below the older snapshot and below the first record of every sale that is not at rest. Answers which
/// sale holds the log, if one does.
fn release(app: &App, shared: &Shared, kept: &Kept) -> Option<String> {
    let Ok(cuts) = book::cuts(&app.boot.data.dir) else { return None };
    let [older, _newer, ..] = cuts[..] else { return None };
    // A sale whose first record is not in the book yet has all of its records above it, and so above the older cut.
    let firsts = kept.book.sales.iter().filter(|(sale, _)| !is_at_rest(shared, sale));
    let oldest = firsts.map(|(sale, line)| (line.first, sale)).min();
    let floor = oldest.as_ref().map_or(older.0, |(first, _)| older.0.min(*first));
    // Less a byte: what ends where they begin stays.
    app.queue.release_below(Position(floor.saturating_sub(1)));
    oldest.filter(|(first, _)| *first < older.0).map(|(_, sale)| sale.clone())
}

/// Whether the sale is at rest in Redis, and this log's newest record says so: a recovery needs no other.
fn is_at_rest(shared: &Shared, sale: &str) -> bool {
    shared.find(sale).is_some_and(|sale| {
        let recorded = sale.recorded().is_some_and(|recorded| recorded.over_ms > 0);
        recorded && !sale.is_paused() && sale.meta().is_some_and(|meta| meta.is_at_rest())
    })
}

/// Asks Redis to put those to rest that have been closed and settled for the retention time.
async fn put_to_rest(ledger: &Rc<CoreLedger>, asked: &mut HashMap<Arc<str>, Instant>) {
    let settled_ms = ledger.app.boot.data.retention_ms;
    if settled_ms == u64::MAX {
        return;
    }
    let every = Duration::from_millis(settled_ms / 4).clamp(ASK[0], ASK[1]);
    asked.retain(|_, at| at.elapsed() < every);
    let now_ms = ledger.app.clock.now_ms();
    let mut asks = 0;
    for sale in ledger.shared.sales() {
        let name = &sale.keys.sale;
        let Some(meta) = sale.meta().filter(|_| !sale.is_paused() && !asked.contains_key(name)) else {
            continue;
        };
        let closed = meta.spec.is_some_and(|spec| spec.window(meta.switch, now_ms) == Window::Closed);
        if meta.over_ms > 0 || meta.stock.held > 0 || !closed {
            continue;
        }
        asked.insert(name.clone(), Instant::now());
        match ledger.ops.rest(&sale.keys, &meta.lineage, settled_ms, now_ms).await {
            Ok(true) => {
                info!(sale = %name, "the sale is over for good: the log is not kept for it any more");
                ledger.shared.look_at(&sale);
            }
            Ok(false) => {}
            // Asked again later; whatever is wrong is told by the looks at the sales.
            Err(error) => tracing::debug!(sale = %name, %error, "the sale is not put to rest yet"),
        }
        asks += 1;
        if asks == ASKS_MAX {
            break;
        }
    }
}

/// The newest cut that a start would begin from.
pub(super) fn begin(dir: &std::path::Path, queue: &tidegate_queue::Queue) -> Result<(Kept, u64), BookError> {
    let end = queue.durable();
    let (mut book, from) = Book::load(dir, &(queue.start()..end))?;
    let records = book.fold(queue, from, end)?;
    Ok((Kept { book, cut: end }, records))
}
