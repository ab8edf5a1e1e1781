//! The whole ledger as a stream of bytes.

use super::ledger::{Ledger, LedgerLimits};
use crate::record::{Journal, Lsn};
use std::io::{self, Read, Write};

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading or writing failed.
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
}
impl<J: Journal> Ledger<J> {
    /// Not supported yet.
    pub fn restore(
        journal: J,
        limits: LedgerLimits,
        _reader: impl Read,
    ) -> Result<(Self, Lsn), SnapshotError> {
        let _ = (journal, limits);
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }
    /// Not supported yet.
    pub fn write_snapshot(&self, _cut: Lsn, _writer: impl Write) -> Result<(), SnapshotError> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }
}
