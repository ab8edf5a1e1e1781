//! The ledger from a data folder: the newest snapshot, then the log after it.

use super::fold::{FoldFailure, Folded, fold_ledger};
use super::journal::Journal;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tidegate_queue::log::FIRST_POSITION;
use tidegate_queue::{Message, Position, Queue, ReadError};
use tidegate_stock::embedded::snapshot_store::{Folder, SnapshotStore};
use tidegate_stock::{Ledger, LedgerLimits, Lsn, SnapshotError};
use tracing::{info, warn};

/// Snapshots of the ledger, in the data folder.
const SNAPSHOTS: &str = "ledger";

/// Why the ledger cannot be rebuilt. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log does not fold.
    #[error(
        "the ledger cannot be rebuilt from the log: {0}; restore a copy of the data folder; `tidegate log dump` lists \
         the orders that are readable"
    )]
    Fold(#[from] FoldFailure),
    /// The log has lost its beginning, and no snapshot makes up for it.
    #[error(
        "the ledger cannot be rebuilt: the log begins at position {start} only and no ledger snapshot in {folder} \
         reaches so far; restore the missing part of commitlog/ or a snapshot from a copy, or start with an empty \
         data folder",
        folder = .folder.display()
    )]
    BeginningLost {
        /// Where the log begins.
        start: Position,
        /// Where snapshots were looked for.
        folder: PathBuf,
    },
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
    /// Names of snapshots that must not be used: damaged, or of a log that came to another end.
    pub passed_over: Vec<String>,
}

/// Snapshots of the data folder `dir`.
pub(super) fn snapshots(dir: &Path) -> Result<SnapshotStore<Folder>, RecoverError> {
    let folder = dir.join(SNAPSHOTS);
    let opened = Folder::open(&folder).map_err(SnapshotError::from);
    opened.map(SnapshotStore::new).map_err(|source| RecoverError::Snapshot { folder, source })
}

/// Rebuilds a ledger; `kept` is what there is of the log, and `log` gives its messages from a position on. A
/// snapshot that is damaged, or of positions after the log's end, is passed over for the one before it, or for
/// the whole log. Nothing is ever rebuilt from a part of the log.
pub fn rebuild<J, L>(
    dir: &Path,
    journal: &J,
    kept: Range<Position>,
    log: impl FnOnce(Position) -> L,
) -> Result<Recovered<J>, RecoverError>
where
    J: tidegate_stock::Journal + Clone,
    L: Iterator<Item = Result<Message, ReadError>>,
{
    let limits = LedgerLimits::default();
    let found = snapshots(dir)?
        .load(|reader| {
            let restored = Ledger::restore(journal.clone(), limits, reader)?;
            if restored.1.0 > kept.end.0 {
                // What it knows was lost with the end of the log, and other records may stand there by now.
                return Err(SnapshotError::Damaged { offset: 0, what: "its cut lies after the log's end" });
            }
            Ok(restored)
        })
        .map_err(|source| RecoverError::Snapshot { folder: dir.join(SNAPSHOTS), source })?;
    for (name, error) in &found.passed_over {
        warn!(name, %error, "a ledger snapshot is passed over; an older one and more of the log are used instead");
    }
    let (ledger, cut) = match found.restored {
        Some((ledger, cut)) => (ledger, Position(cut.0)),
        None => (Ledger::new(journal.clone(), limits), Position(0)),
    };
    if cut < kept.start && kept.start > FIRST_POSITION {
        return Err(RecoverError::BeginningLost { start: kept.start, folder: dir.join(SNAPSHOTS) });
    }
    let folded = fold_ledger(&ledger, log(cut.max(kept.start)))?;
    let passed_over = found.passed_over.into_iter().map(|(name, _)| name).collect();
    Ok(Recovered { ledger, cut, folded, passed_over })
}

/// The ledger at start: rebuilt, in a new generation, everything durable settled.
pub fn recover_ledger(queue: &Queue, journal: &Journal, dir: &Path) -> Result<Ledger<Journal>, RecoverError> {
    let kept = queue.start()..queue.durable();
    let Recovered { ledger, cut, folded, passed_over } =
        rebuild(dir, journal, kept, |from| queue.scan(from))?;
    for name in passed_over {
        // Left where it is, it would be taken for a good one as soon as the log has grown past its cut.
        snapshots(dir)?.set_aside(&name).map_err(|source| RecoverError::Snapshot {
            folder: dir.join(SNAPSHOTS),
            source: source.into(),
        })?;
    }
    ledger.begin_generation();
    ledger.settle(Lsn(queue.durable().0));
    info!(snapshot = cut.0, messages = folded.messages, records = folded.records, "ledger is rebuilt");
    Ok(ledger)
}
