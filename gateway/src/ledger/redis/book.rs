//! What this gateway's own log tells besides orders: whose logs make up the ledger, and its sales. Snapshots of it are
//! kept in the data folder, so that a start reads only what comes after the newest, and the log need not be kept for it.
//!
//! ```text
//! file    crc32c of what follows (8 hexadecimal digits) | a space | JSON: version, book
//! ```
//!
//! A snapshot is folded from the one before and the log up to its cut, so it is exact by construction. Two are kept.

use super::roll::Roll;
use crate::pipeline::{DecodeError, SharedRecord, decode, decode_shared, topics};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tidegate_queue::log::FIRST_POSITION;
use tidegate_queue::{Message, Position, Queue, ReadError};
use tidegate_stock::embedded::snapshot_store::{Folder, SnapshotStore};
use tidegate_stock::redis::ops::SaleRecorded;
use tidegate_stock::{Lsn, Record, SaleSpec, SaleSwitch, SnapshotError};
use tracing::warn;

/// Snapshots of the book, in the data folder.
const SNAPSHOTS: &str = "fleet";
const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) roll: Roll,
    pub(super) sales: BTreeMap<String, Line>,
}

/// A sale of the book.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Where its first record stands: all of its records are from there on.
    pub(super) first: u64,
    /// Its newest record …
    pub(super) recorded: SaleRecorded,
    /// … and what that says.
    pub(super) spec: SaleSpec,
    pub(super) switch: SaleSwitch,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    book: &'a Book,
}

#[derive(Deserialize)]
struct Found {
    version: u32,
    book: Book,
}

/// Why there is no book.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The log cannot be read to its end.
    #[error("the log cannot be read: {0}; verify it with `tidegate log verify`")]
    Read(#[from] ReadError),
    /// A record of the log is not readable.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The snapshots cannot be read or written, and not because they are damaged.
    #[error("the snapshots in {folder} cannot be used: {source}", folder = .folder.display())]
    Snapshot {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: SnapshotError,
    },
    /// The log has lost its beginning, and no snapshot makes up for it.
    #[error(
        "the log begins at position {start} only, and no snapshot in {folder} reaches so far: it is not known whose logs \
         make up the ledger, nor of which sales this one holds records; restore a snapshot or the missing part of \
         commitlog/ from a copy; if there is none, start with an empty data folder and give the old gateway up with \
         `tidegate gateway forget ID`",
        folder = .folder.display()
    )]
    BeginningLost {
        /// Where the log begins.
        start: Position,
        /// Where snapshots were looked for.
        folder: PathBuf,
    },
}

impl Book {
    /// As the newest snapshot that can be used has it, and where the log goes on after it. A damaged one, or one of
    /// positions after the log's end, is passed over for the one before it, or for the whole log.
    pub(super) fn load(dir: &Path, kept: &Range<Position>) -> Result<(Self, Position), BookError> {
        let folder = dir.join(SNAPSHOTS);
        let failed = |source| BookError::Snapshot { folder: folder.clone(), source };
        let store = store(dir)?;
        let found = store.load(|file| {
            let found = read(file)?;
            match found {
                (_, cut) if cut > kept.end.0 => Err(damaged("its cut lies after the log's end")),
                found => Ok(found),
            }
        });
        let found = found.map_err(failed)?;
        for (name, error) in found.passed_over {
            warn!(name, %error, "a snapshot of the fleet is passed over; an older one and more of the log are used instead");
            // Left where it is, it would count as one of those kept.
            store.set_aside(&name).map_err(|source| failed(source.into()))?;
        }
        let (book, cut) = found.restored.unwrap_or_default();
        let cut = Position(cut);
        if cut < kept.start && kept.start > FIRST_POSITION {
            return Err(BookError::BeginningLost { start: kept.start, folder });
        }
        Ok((book, cut.max(kept.start)))
    }

    /// Takes what the log holds from one position to another. Answers how many records that were.
    pub(super) fn fold(&mut self, queue: &Queue, from: Position, to: Position) -> Result<u64, BookError> {
        let mut records = 0;
        for message in queue.scan(from) {
            let message = message?;
            if message.position >= to {
                break;
            }
            if message.topic == topics::LEDGER {
                records += 1;
                self.note(&message)?;
            }
        }
        Ok(records)
    }

    fn note(&mut self, message: &Message) -> Result<(), DecodeError> {
        let told = decode_shared(message);
        if let Some(SharedRecord::Member(word)) = told {
            self.roll.note(word);
            return Ok(());
        }
        decode(message, |record| {
            if let (Record::Sale(record), Some(SharedRecord::Sale(recorded))) = (record, told) {
                let first = self.sales.get(record.sale).map_or(message.position.0, |line| line.first);
                let (spec, switch) = (record.spec.clone(), record.switch);
                self.sales.insert(record.sale.to_owned(), Line { first, recorded, spec, switch });
            }
        })?;
        Ok(())
    }

    /// Writes it down, durably, as it stands at `cut`; the snapshot before is kept.
    pub(super) fn save(&self, dir: &Path, cut: Position) -> Result<(), BookError> {
        let written = serde_json::to_vec(&Written { version: VERSION, book: self });
        let saved = written.map_err(|error| SnapshotError::Io(error.into())).and_then(|json| {
            let mut body = cut.0.to_le_bytes().to_vec();
            body.extend_from_slice(&json);
            store_of(dir)?.save(Lsn(cut.0), |file| {
                write!(file, "{:08x} ", crc32c::crc32c(&body))?;
                Ok(file.write_all(&body)?)
            })
        });
        saved.map_err(|source| BookError::Snapshot { folder: dir.join(SNAPSHOTS), source })
    }
}

/// Cuts of the snapshots there are, oldest first.
pub(super) fn cuts(dir: &Path) -> Result<Vec<Lsn>, BookError> {
    let cuts = store(dir)?.cuts();
    cuts.map_err(|source| BookError::Snapshot { folder: dir.join(SNAPSHOTS), source: source.into() })
}

fn store(dir: &Path) -> Result<SnapshotStore<Folder>, BookError> {
    store_of(dir).map_err(|source| BookError::Snapshot { folder: dir.join(SNAPSHOTS), source })
}

fn store_of(dir: &Path) -> Result<SnapshotStore<Folder>, SnapshotError> {
    Ok(SnapshotStore::new(Folder::open(dir.join(SNAPSHOTS))?))
}

fn damaged(what: &'static str) -> SnapshotError {
    SnapshotError::Damaged { offset: 0, what }
}

fn read(mut file: impl Read) -> Result<(Book, u64), SnapshotError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let parts =
        bytes.split_at_checked(9).and_then(|(crc, body)| Some((crc, body, body.split_first_chunk()?)));
    let (crc, body, (cut, json)) = parts.ok_or_else(|| damaged("it is too short"))?;
    if crc != format!("{:08x} ", crc32c::crc32c(body)).as_bytes() {
        return Err(damaged("its checksum does not match"));
    }
    let found: Found = serde_json::from_slice(json).map_err(|_| damaged("it is no book"))?;
    if found.version != VERSION {
        return Err(SnapshotError::Version { version: found.version });
    }
    Ok((found.book, u64::from_le_bytes(*cut)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pipeline::{MemberWord, Membership};

    fn book(process: u64) -> Book {
        let mut book = Book::default();
        book.roll.note(MemberWord {
            gateway: "a".to_owned(),
            membership: Membership::Joined,
            at_ms: 7,
            process,
        });
        book
    }

    fn kept(start: u64, end: u64) -> Range<Position> {
        Position(start)..Position(end)
    }

    #[test]
    fn the_newest_sound_snapshot_that_the_log_reaches_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(Book::load(dir, &kept(64, 64)).unwrap(), (Book::default(), Position(64)));
        for cut in [1_000, 2_000, 3_000] {
            book(cut).save(dir, Position(cut)).unwrap();
        }
        assert_eq!(cuts(dir).unwrap(), [Lsn(2_000), Lsn(3_000)]);
        assert_eq!(Book::load(dir, &kept(64, 3_000)).unwrap(), (book(3_000), Position(3_000)));
        assert_eq!(Book::load(dir, &kept(64, 2_999)).unwrap(), (book(2_000), Position(2_000)));
        assert_eq!(cuts(dir).unwrap(), [Lsn(2_000)], "the other is set aside");
    }

    #[test]
    fn nothing_is_begun_anew_when_the_log_has_lost_its_beginning_and_the_snapshots_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for cut in [1_000, 2_000] {
            book(cut).save(dir, Position(cut)).unwrap();
        }
        let mut flips = 0;
        for file in std::fs::read_dir(dir.join(SNAPSHOTS)).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            flips += 1;
        }
        assert_eq!(flips, 2);
        let lost = Book::load(dir, &kept(900, 5_000)).unwrap_err();
        assert!(lost.to_string().contains("tidegate gateway forget"), "{lost}");
        assert_eq!(Book::load(dir, &kept(64, 5_000)).unwrap(), (Book::default(), Position(64)));
    }
}
