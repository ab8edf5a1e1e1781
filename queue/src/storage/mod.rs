//! The seam under every file write of the crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files. All paths are relative to the data folder.
pub trait Storage: Send + Sync + 'static {
    /// Opens, creating if asked; fails when the file does not exist and `create` is false.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Names of the files in a folder, empty when there is none.
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
    /// Gives the file exactly this length, its new part allocated and zero-filled.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Present length.
    fn len(&self) -> io::Result<u64>;
    /// The file for mapping; reads never go through this trait.
    fn file(&self) -> &std::fs::File;
}
