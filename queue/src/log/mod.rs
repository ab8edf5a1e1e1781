//! The CommitLog: segments → frames → records.
mod error;
#[allow(dead_code)]
mod record;

pub use error::{OpenError, ReadError};
#[allow(unused_imports)]
pub(crate) use record::RecordParts;
pub use record::{Record, RecordKind, RecordView};

use crate::storage::Storage;
use crate::{AppendError, Durability, Durable, Position, Space};
use smallvec::SmallVec;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// How a log is opened.
#[derive(Debug, Clone)]
#[allow(dead_code)]
pub(crate) struct LogOptions {
    /// Size of a new segment; a multiple of 4096.
    pub(crate) segment_bytes: u64,
    /// When accepted becomes durable.
    pub(crate) flush: Durability,
    /// Accepted and not yet written, at most.
    pub(crate) pending_bytes_max: u64,
    /// Go on without damaged parts.
    pub(crate) salvage: bool,
}

/// Positions of the records of one batch.
pub(crate) type Positions = SmallVec<[Position; 8]>;

/// What an open found.
#[derive(Debug, Clone)]
#[allow(dead_code)]
pub(crate) struct Recovered {
    /// Rises at every open.
    pub(crate) boot_epoch: u64,
    /// First position kept; scans start here.
    pub(crate) start: Position,
    /// End of the log after recovery; all below is durable.
    pub(crate) end: Position,
    /// The last process closed the log.
    pub(crate) clean: bool,
    /// Ranges given up by `salvage`.
    pub(crate) lost: Vec<Range<Position>>,
}

/// The log. One per data folder, which it locks. Share by `Arc`.
#[allow(dead_code)]
pub(crate) struct CommitLog {}

#[allow(dead_code, unused_variables, clippy::unused_self, clippy::needless_pass_by_value)]
impl CommitLog {
    /// Locks the folder, recovers, starts the threads.
    pub(crate) fn open(storage: Arc<dyn Storage>, options: &LogOptions) -> Result<Self, OpenError> {
        unimplemented!()
    }
    /// What the open found.
    pub(crate) fn recovered(&self) -> &Recovered {
        unimplemented!()
    }
    /// Appends one atomic batch; `positions` is cleared and gets one position for each record. Never blocks on the
    /// disk. The batch is durable once `durable() >= range.end`; `range.start` is the first record's position.
    /// `Err` is definite.
    pub(crate) fn append(
        &self,
        space: Space,
        records: &[RecordParts<'_>],
        positions: &mut Positions,
    ) -> Result<Range<Position>, AppendError> {
        unimplemented!()
    }
    /// Everything accepted is below. Nothing accepted later is.
    pub(crate) fn end(&self) -> Position {
        unimplemented!()
    }
    /// Everything below may be seen. One atomic load.
    pub(crate) fn durable(&self) -> Position {
        unimplemented!()
    }
    /// Everything below is on disk (in async mode it trails `durable`).
    pub(crate) fn synced(&self) -> Position {
        unimplemented!()
    }
    /// Blocks until `durable() >= position`.
    pub(crate) fn wait_durable(&self, position: Position) -> Result<(), AppendError> {
        unimplemented!()
    }
    /// Called by the writer thread once per commit, in order of registration; must be quick.
    pub(crate) fn on_durable(&self, listener: Box<dyn Fn(Durable) + Send + Sync>) {
        unimplemented!()
    }
    /// Bytes kept allocated for [`Space::Owed`].
    pub(crate) fn set_reserve(&self, bytes: u64) {
        unimplemented!()
    }
    /// Durable records from `from` (a record's position, or the end of one, or `recovered().start`) on, each verified,
    /// owning the map. Ends at what is durable when it gets there; after an `Err` it ends.
    pub(crate) fn scan(&self, from: Position) -> impl Iterator<Item = Result<Record, ReadError>> + '_ {
        std::iter::empty()
    }
    /// The same as borrowed views, without allocation and without checking checksums again: for the dispatcher.
    /// Answers where to go on.
    pub(crate) fn visit(
        &self,
        from: Position,
        visitor: &mut dyn FnMut(RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Position, ReadError> {
        unimplemented!()
    }
    /// One durable record, verified.
    pub(crate) fn read(&self, position: Position) -> Result<Record, ReadError> {
        unimplemented!()
    }
    /// Writes and syncs all that was accepted, marks a clean shutdown, stops the threads, unlocks. Later appends are
    /// refused. A second call answers the same.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        unimplemented!()
    }
}
