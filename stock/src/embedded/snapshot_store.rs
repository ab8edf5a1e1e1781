//! Snapshot files in one folder: a new one appears whole or not at all, the previous one is kept, and a damaged
//! one is passed over for the one before.
//!
//! Writing: to a temporary file, synced, renamed, the folder synced; only then are older ones removed. What a
//! snapshot holds is not known here.

use super::snapshot::SnapshotError;
use crate::record::Lsn;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The newest and the one before it.
const KEPT: usize = 2;
const PREFIX: &str = "ledger-";
const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = "ledger.snapshot.tmp";

/// What the store asks of a file system; a trait, so that tests can make each step fail.
pub trait SnapshotFiles {
    /// A file being written.
    type Writer: Write;
    /// A file being read.
    type Reader: Read;
    /// Names in the folder.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates or truncates.
    fn create(&self, name: &str) -> io::Result<Self::Writer>;
    /// Makes the file's bytes durable.
    fn sync(&self, file: Self::Writer) -> io::Result<()>;
    /// Replaces atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_folder(&self) -> io::Result<()>;
    /// Opens for reading.
    fn open(&self, name: &str) -> io::Result<Self::Reader>;
    /// Removes.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A folder on disk.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates it if need be.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self(path.as_ref().to_owned()))
    }
}

impl SnapshotFiles for Folder {
    type Writer = File;
    type Reader = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.collect()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        File::create(self.0.join(name))
    }

    fn sync(&self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.0.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

/// What a look for a usable snapshot found.
#[derive(Debug)]
pub struct Found<T> {
    /// What the newest usable one was read into; `None`: none is, fold the log from its beginning.
    pub restored: Option<T>,
    /// Newer ones that could not be used, and why.
    pub passed_over: Vec<(String, SnapshotError)>,
}

/// The store. One writer at a time.
#[derive(Debug, Clone)]
pub struct SnapshotStore<F> {
    files: F,
}

impl<F: SnapshotFiles> SnapshotStore<F> {
    /// Over a folder.
    pub fn new(files: F) -> Self {
        Self { files }
    }

    /// Writes a snapshot of `cut` with `write` (which is [`crate::Ledger::write_snapshot`]), durably. On an
    /// error those before it stand untouched.
    pub fn save(
        &self,
        cut: Lsn,
        write: impl FnOnce(&mut F::Writer) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut file = self.files.create(TEMPORARY)?;
        write(&mut file)?;
        self.files.sync(file)?;
        self.files.rename(TEMPORARY, &name_of(cut))?;
        self.files.sync_folder()?;
        // The new one is durable: only now may an old one go. One that stays by an error is removed next time.
        for cut in self.cuts()?.into_iter().rev().skip(KEPT) {
            self.files.remove(&name_of(cut))?;
        }
        Ok(())
    }

    /// Reads the newest snapshot that `read` (which is [`crate::Ledger::restore`]) accepts.
    ///
    /// A damaged one is passed over. Anything else is an error: a disk that cannot be read, another version, too
    /// low limits are for the operator, and an older snapshot would not help.
    pub fn load<T>(
        &self,
        mut read: impl FnMut(F::Reader) -> Result<T, SnapshotError>,
    ) -> Result<Found<T>, SnapshotError> {
        let mut passed_over = Vec::new();
        for cut in self.cuts()?.into_iter().rev() {
            let name = name_of(cut);
            match read(self.files.open(&name)?) {
                Ok(restored) => return Ok(Found { restored: Some(restored), passed_over }),
                Err(error @ SnapshotError::Damaged { .. }) => passed_over.push((name, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(Found { restored: None, passed_over })
    }

    /// Renames a snapshot that was passed over to `….damaged`, so that it does not count as one of those kept.
    /// For the process that owns the folder; an offline reader leaves all as it is.
    pub fn set_aside(&self, name: &str) -> io::Result<()> {
        self.files.rename(name, &format!("{name}.damaged"))?;
        self.files.sync_folder()
    }

    /// Cuts of the snapshots there are, oldest first. The log must be kept from the first of them on: if the
    /// newest turns out damaged, the fold begins there.
    pub fn cuts(&self) -> io::Result<Vec<Lsn>> {
        let mut cuts: Vec<_> = self.files.list()?.iter().filter_map(|name| cut_of(name)).collect();
        cuts.sort_unstable();
        Ok(cuts)
    }
}

fn name_of(cut: Lsn) -> String {
    format!("{PREFIX}{:020}{SUFFIX}", cut.0)
}

fn cut_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    digits.parse().ok().map(Lsn).filter(|&cut| name_of(cut) == name)
}
