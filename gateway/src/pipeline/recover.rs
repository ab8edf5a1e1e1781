//! The ledger from a data folder: the newest snapshot, then the log after it.

use super::fold::{FoldFailure, Folded, fold_ledger};
use super::journal::Journal;
use std::path::{Path, PathBuf};
use tidegate_queue::{Message, Position, Queue};
use tidegate_stock::embedded::snapshot_store::{Folder, SnapshotStore};
use tidegate_stock::{Ledger, LedgerLimits, Lsn, SnapshotError};
use tracing::{info, warn};

/// Snapshots of the ledger, in the data folder.
const SNAPSHOTS: &str = "ledger";

/// Why the ledger cannot be rebuilt. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log does not fold.
    #[error("the ledger cannot be rebuilt from the log: {0}")]
    Fold(#[from] FoldFailure),
    /// A snapshot cannot be used, and not because it is damaged.
    #[error("the ledger snapshots in {folder} cannot be used: {source}", folder = .folder.display())]
    Snapshot {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: SnapshotError,
    },
}

/// A rebuilt ledger.
pub struct Recovered<J> {
    /// As of `cut` and the log that was folded after it.
    pub ledger: Ledger<J>,
    /// Where the snapshot ended and the fold began.
    pub cut: Position,
    /// What the fold saw.
    pub folded: Folded,
}

/// Snapshots of the data folder `dir`.
pub(super) fn snapshots(dir: &Path) -> Result<SnapshotStore<Folder>, RecoverError> {
    let folder = dir.join(SNAPSHOTS);
    let opened = Folder::open(&folder).map_err(SnapshotError::from);
    opened.map(SnapshotStore::new).map_err(|source| RecoverError::Snapshot { folder, source })
}

/// Rebuilds a ledger; `log` gives the messages from a position on. A damaged snapshot is passed over for the
/// one before it, or for the whole log.
pub fn rebuild<J, L>(
    dir: &Path,
    journal: &J,
    log: impl FnOnce(Position) -> L,
) -> Result<Recovered<J>, RecoverError>
where
    J: tidegate_stock::Journal + Clone,
    L: Iterator<Item = Message>,
{
    let limits = LedgerLimits::default();
    let found = snapshots(dir)?
        .load(|reader| Ledger::restore(journal.clone(), limits, reader))
        .map_err(|source| RecoverError::Snapshot { folder: dir.join(SNAPSHOTS), source })?;
    for (name, error) in &found.passed_over {
        warn!(name, %error, "a ledger snapshot is damaged; an older one and more of the log are used instead");
    }
    let (ledger, cut) = match found.restored {
        Some((ledger, cut)) => (ledger, Position(cut.0)),
        None => (Ledger::new(journal.clone(), limits), Position(0)),
    };
    let folded = fold_ledger(&ledger, log(cut))?;
    Ok(Recovered { ledger, cut, folded })
}

/// The ledger at start: rebuilt, in a new generation, everything durable settled.
pub fn recover_ledger(queue: &Queue, journal: &Journal, dir: &Path) -> Result<Ledger<Journal>, RecoverError> {
    let Recovered { ledger, cut, folded } = rebuild(dir, journal, |from| queue.scan(from))?;
    ledger.begin_generation();
    ledger.settle(Lsn(queue.durable().0));
    info!(snapshot = cut.0, messages = folded.messages, records = folded.records, "ledger is rebuilt");
    Ok(ledger)
}
