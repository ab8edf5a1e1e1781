//! A consistent copy of a data folder that a process may have open and write to. FORMAT.md, "Backup".

use crate::Position;
use crate::log::{self, Held, OpenError};
use crate::storage::Storage;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files that are replaced as a whole, each before the one that it becomes when it is replaced. The rest is derived, and
/// made again from the log.
const WHOLE: [&str; 6] = [
    "groups/acks",
    "groups/acks.old",
    "catalog/topics.json",
    "catalog/topics.json.old",
    "snapshot/state",
    "snapshot/state.old",
];

/// A backup that has begun: it will hold all that is durable at this moment, and the log from where it begins now.
///
/// ```no_run
/// use std::path::Path;
/// use tidegate_queue::{Backup, storage::DiskStorage};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let target = DiskStorage::new("copy")?;
/// let backup = Backup::begin(Path::new("data"), &target)?;
/// // … copy what else is derived from the log, and kept beside it …
/// let copied = backup.finish()?;
/// println!("{} bytes, to position {}", copied.bytes, copied.log.end);
/// # Ok(()) }
/// ```
pub struct Backup<'a> {
    dir: PathBuf,
    to: &'a dyn Storage,
    log: Held,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Files, segments included.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Segments of the log.
    pub segments: usize,
    /// From where to where the copy's log reaches.
    pub log: Range<Position>,
}

impl<'a> Backup<'a> {
    /// Holds the log of the folder as it is now: what a process removes from here on is still copied. It needs no lock,
    /// and asks nothing of whoever has the folder open. `to` is an empty folder; no queue starts from it until all is
    /// there.
    pub fn begin(dir: &Path, to: &'a dyn Storage) -> Result<Self, OpenError> {
        let backup = Self { dir: dir.to_owned(), to, log: Held::new(dir)? };
        log::mark_unfinished(to)?;
        Ok(backup)
    }

    /// Copies. What the owner derived from the log must be copied between [`Backup::begin`] and this: the log comes last,
    /// so that it holds whatever the other files rest on. A start on the copy recovers it; what is derived is made
    /// again. On disk when this returns. An error about damage names the original's file.
    pub fn finish(self) -> Result<Copied, OpenError> {
        let to = self.to;
        let (mut files, mut bytes) = (0, 0);
        for path in WHOLE.map(Path::new) {
            let Some(len) = self.copy_file(path, to)? else { continue };
            files += 1;
            bytes += len;
        }
        let log = self.log.copy_to(to)?;
        Ok(Copied {
            files: files + log.segments + 1,
            bytes: bytes + log.bytes,
            segments: log.segments,
            log: log.range,
        })
    }

    /// One that is there is there whole: it is opened once, and then replaced, never changed.
    fn copy_file(&self, path: &Path, to: &dyn Storage) -> Result<Option<u64>, OpenError> {
        let read = |path: &Path| match std::fs::read(self.dir.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let failed = |root: &Path| {
            let path = root.join(path);
            move |source| OpenError::Io { path, source }
        };
        let Some(bytes) = read(path).map_err(failed(&self.dir))? else { return Ok(None) };
        let write = || {
            to.sync_dir(path.parent().unwrap_or(Path::new("")))?;
            let file = to.open(path, true)?;
            file.write_at(0, &[IoSlice::new(&bytes)])?;
            file.sync()?;
            to.sync_dir(path.parent().unwrap_or(Path::new("")))
        };
        write().map_err(failed(to.root()))?;
        Ok(Some(bytes.len() as u64))
    }
}
