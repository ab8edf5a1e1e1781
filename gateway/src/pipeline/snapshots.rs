//! Snapshots of the ledger, so that a start need not read the whole log.
//!
//! The running ledger is never held up for one: a copy is folded in the background from the previous snapshot
//! and the log up to a durable position, and written down. The cut is exact by construction.
//!
//! Two are kept, and with them the log from the older one on: when the newer one turns out damaged, the fold begins
//! there. Orders that wait for a worker are kept besides, however old they are.

use super::recover::{RecoverError, Recovered, rebuild, snapshots};
use crate::state::{App, Core};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_queue::{Message, Position, ReadError};
use tidegate_stock::{Journal, JournalError, Lsn, Record, SnapshotError};
use tracing::{info, warn};

/// Between two looks at how much the log has grown.
const LOOK: Duration = Duration::from_secs(5);

/// Journal of the copy: it is only folded, never written to.
#[derive(Clone)]
pub struct ReadOnly(pub Position);

impl Journal for ReadOnly {
    fn append(&self, _record: &Record<'_>) -> Result<Lsn, JournalError> {
        Err(JournalError::Poisoned)
    }

    fn durable(&self) -> Lsn {
        Lsn(self.0.0)
    }
}

/// Why there is no new snapshot. The ones before it stand.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Rebuild(#[from] RecoverError),
    #[error(transparent)]
    Write(#[from] SnapshotError),
}

/// Makes a snapshot each time the log has grown by `snapshot_bytes`, until the gateway stops.
pub async fn run(core: Rc<Core>) {
    let app = &core.app;
    let mut last = newest_cut(app);
    let at_start = app.clone();
    let released = move || at_start.stock.embedded().map(|ledger| release(&at_start, ledger.oldest_queued()));
    // What it would let go is let go with the next snapshot.
    let _ended_early = tokio::task::spawn_blocking(released).await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.stopping.wait() => return,
        }
        // Not `durable`: in async mode a crash may take records away below it, and a snapshot must not know them.
        let cut = app.queue.synced();
        if cut.0.saturating_sub(last.0) < app.boot.data.snapshot_bytes {
            continue;
        }
        let copy = app.clone();
        // On the runtime's pool for blocking work: the settle thread goes on.
        match tokio::task::spawn_blocking(move || make(&copy, cut)).await {
            Ok(Ok(())) => info!(cut = cut.0, "ledger snapshot is written"),
            Ok(Err(error)) => {
                warn!(%error, "no ledger snapshot this time; the next start reads more of the log");
            }
            Err(error) => warn!(%error, "the snapshot task ended early"),
        }
        last = cut;
    }
}

fn newest_cut(app: &App) -> Position {
    let cuts = snapshots(&app.boot.data.dir).map(|store| store.cuts());
    match cuts {
        Ok(Ok(cuts)) => cuts.last().map_or(Position(0), |cut| Position(cut.0)),
        _ => Position(0),
    }
}

fn make(app: &Arc<App>, cut: Position) -> Result<(), Failure> {
    let dir = &app.boot.data.dir;
    let below_cut =
        |message: &Result<Message, ReadError>| message.as_ref().map_or(true, |m| m.position < cut);
    let log = |from| app.queue.scan(from).take_while(below_cut);
    let Recovered { ledger, .. } = rebuild(dir, &ReadOnly(cut), app.queue.start()..cut, log)?;
    ledger.settle(Lsn(cut.0));
    snapshots(dir)?.save(Lsn(cut.0), |file| ledger.write_snapshot(Lsn(cut.0), file))?;
    release(app, ledger.oldest_queued());
    Ok(())
}

/// Lets the log go that neither snapshot needs, nor an order that waits. What is not let go now is let go with the next
/// snapshot.
fn release(app: &App, oldest_queued: Option<Lsn>) {
    let cuts = snapshots(&app.boot.data.dir).map(|store| store.cuts());
    let Ok(Ok(cuts)) = cuts else { return };
    if let [older, _newer, ..] = cuts[..] {
        app.queue.release_below(released(older, oldest_queued));
    }
}

/// Where both begin, less a byte: a fold goes on at its cut, and an order's record ends at its position, so a file that
/// ends there is still needed.
fn released(older: Lsn, oldest_queued: Option<Lsn>) -> Position {
    Position(oldest_queued.map_or(older, |queued| queued.min(older)).0.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_older_snapshot_nor_an_order_that_waits_loses_its_part_of_the_log() {
        assert_eq!(released(Lsn(100), None), Position(99));
        assert_eq!(released(Lsn(100), Some(Lsn(200))), Position(99));
        assert_eq!(released(Lsn(100), Some(Lsn(40))), Position(39));
    }
}
