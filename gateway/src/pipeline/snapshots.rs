//! Snapshots of the ledger, so that a start need not read the whole log.
//!
//! The running ledger is never held up for one: a copy is folded in the background from the previous snapshot
//! and the log up to a durable position, and written down. The cut is exact by construction.

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
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.stopping.wait() => return,
        }
        // Not `durable`: in async mode a crash may take records away below it, and a snapshot must not know them.
        let cut = app.queue.synced();
        if cut.0.saturating_sub(last.0) < app.config.data.snapshot_bytes {
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
    let cuts = snapshots(&app.config.data.dir).map(|store| store.cuts());
    match cuts {
        Ok(Ok(cuts)) => cuts.last().map_or(Position(0), |cut| Position(cut.0)),
        _ => Position(0),
    }
}

fn make(app: &Arc<App>, cut: Position) -> Result<(), Failure> {
    let dir = &app.config.data.dir;
    let below_cut =
        |message: &Result<Message, ReadError>| message.as_ref().map_or(true, |m| m.position < cut);
    let log = |from| app.queue.scan(from).take_while(below_cut);
    let Recovered { ledger, .. } = rebuild(dir, &ReadOnly(cut), app.queue.start()..cut, log)?;
    ledger.settle(Lsn(cut.0));
    snapshots(dir)?.save(Lsn(cut.0), |file| ledger.write_snapshot(Lsn(cut.0), file))?;
    Ok(())
}
