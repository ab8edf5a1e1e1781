//! The seam under every file write of the crate. Reads go to the file itself: by map, or by `read_at`.

mod disk;
#[cfg(any(test, feature = "testing"))]
mod faulty;

pub use disk::DiskStorage;
#[cfg(any(test, feature = "testing"))]
pub use faulty::{FaultyCall, FaultyStorage, PowerLoss};

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files. All paths are relative to the data folder.
pub trait Storage: Send + Sync + 'static {
    /// The data folder, for messages.
    fn root(&self) -> &Path;
    /// Opens for reading and writing, creating if asked; fails when the file does not exist and `create` is false.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Names of the files in a folder, sorted; empty when there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Atomically replaces `to` by `from`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes renames, creations and removals in a folder durable; creates the folder when missing.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be allocated.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file.
pub trait StorageFile: Send + Sync + 'static {
    /// Writes all of `bufs`, one after the other, at `offset`.
    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()>;
    /// Makes all earlier writes durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Gives the file exactly this length. Its new part reads as zeros and has its space on the disk; whether the
    /// zeros are written there is left open.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Writes zeros over a range that holds nothing else, and makes them durable: where only space is allocated, the
    /// first write costs the next sync more. Call it for a little at a time: other files' syncs wait behind it.
    fn fill(&self, range: Range<u64>) -> io::Result<()>;
    /// Present length.
    fn len(&self) -> io::Result<u64>;
    /// Has it no bytes?
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The file for mapping and reading; writes never go through it.
    fn file(&self) -> &std::fs::File;
}

/// Is this "no space left", which heals when space is freed, and not a failing disk?
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
