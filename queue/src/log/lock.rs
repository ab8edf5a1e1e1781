//! The lock of a data folder: `flock` on a file in it, gone with the process however it ends.

use super::error::OpenError;
use crate::storage::{Storage, StorageFile};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

const LOCK: &str = "LOCK";

/// Held while it lives.
pub(super) struct FolderLock {
    _file: LockFile,
}

enum LockFile {
    Exclusive(#[allow(dead_code, reason = "held for its lock")] Arc<dyn StorageFile>),
    Shared(#[allow(dead_code, reason = "held for its lock")] Option<File>),
}

impl FolderLock {
    /// For the one process that writes.
    pub(super) fn exclusive(storage: &dyn Storage) -> Result<Self, OpenError> {
        let path = storage.root().join(LOCK);
        let file = storage
            .open(Path::new(LOCK), true)
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        take(file.file(), FlockOperation::NonBlockingLockExclusive, storage.root())?;
        Ok(Self { _file: LockFile::Exclusive(file) })
    }

    /// For tools that only read; creates nothing.
    pub(super) fn shared(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            // A copy of a log that was never opened where it lies.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { _file: LockFile::Shared(None) });
            }
            Err(source) => return Err(OpenError::Io { path, source }),
        };
        take(&file, FlockOperation::NonBlockingLockShared, dir)?;
        Ok(Self { _file: LockFile::Shared(Some(file)) })
    }
}

fn take(file: &File, operation: FlockOperation, dir: &Path) -> Result<(), OpenError> {
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(error) => Err(OpenError::Io { path: dir.join(LOCK), source: error.into() }),
    }
}
