//! Why a log did not open, or a record could not be read. Each names the file, and what to do.

use crate::Position;
use std::io;
use std::path::PathBuf;

/// Why a queue did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error("data folder is locked by another process: {dir}; stop that process, or use another folder")]
    Locked {
        /// The data folder.
        dir: PathBuf,
    },
    /// Bytes that were known to be durable are damaged or missing.
    #[error(
        "log is damaged: {file} at byte {offset}: {what}; look at it with `tidegate log verify`, restore a copy, \
         or go on without the damaged part with `tidegate log verify --salvage`"
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it the damage begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error(
        "{file} has format version {found}; this release knows versions up to {known}: use a newer release"
    )]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// No log in the folder.
    #[error("not a tidegate data folder: {dir} has no commitlog/ in it")]
    NotDataFolder {
        /// The folder.
        dir: PathBuf,
    },
    /// An option that cannot be.
    #[error("queue option refused: {0}")]
    Invalid(&'static str),
    /// The operating system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a durable record could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum ReadError {
    /// What stands there is not what was written. Seen only when a file changed under the running process:
    /// everything was verified at the start.
    #[error("damaged record at position {position} ({file} at byte {offset})")]
    Damaged {
        /// Where in the log.
        position: Position,
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// Not durable, or no record boundary.
    #[error("no record at position {0}")]
    Absent(Position),
    /// Deleted: it was older than the retention time, and nothing held it.
    #[error("position {position} is no longer kept: the log begins at {start}; go on from there")]
    Removed {
        /// What was asked for.
        position: Position,
        /// Where the log began when it was asked for.
        start: Position,
    },
}
