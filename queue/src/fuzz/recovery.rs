//! Opening a damaged data folder: never a panic or an endless loop, never a record that was not written, always the
//! same again.
//!
//! The input is a list of edits of a small log of three boots, closed or killed. What a start accepts of it must be
//! the beginning of what was written, whatever the edits; what a salvage accepts, some of it in the same order.

use crate::log::{CommitLog, LogOptions, LogReader, OpenError, Positions, RecordParts};
use crate::storage::{DiskStorage, FaultyStorage, Storage};
use crate::{Durability, Position, Space};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const SEGMENT: u64 = 4_096;
/// Edits of one input, at most.
pub(super) const EDITS_MAX: usize = 16;

pub(super) type Files = BTreeMap<PathBuf, Vec<u8>>;
type Seen = Vec<(Position, Vec<u8>)>;

/// The folder and what is in it.
struct Base {
    files: Files,
    records: Seen,
}

/// `dir` is a folder of the caller's, on a quick disk; everything in it is replaced.
pub fn recovery(bytes: &[u8], dir: &Path) {
    let mut input = Input(bytes);
    let closed = input.byte() & 1 == 1;
    let base = base(closed, dir);
    let mut files = base.files.clone();
    for _ in 0..EDITS_MAX {
        if input.0.is_empty() {
            break;
        }
        edit(&mut files, &mut input);
    }
    write(dir, &files);
    let reader = LogReader::open(dir).map(|reader| {
        let records: Seen = reader
            .records()
            .map(|record| record.expect("what was surveyed reads back"))
            .map(|record| (record.position(), record.body().to_vec()))
            .collect();
        (records, reader.report().is_sound())
    });
    if let Ok(log) = open(dir, false) {
        let seen = all(&log);
        assert!(base.records.starts_with(&seen), "a start accepts the beginning of what was written");
        if let Ok((read, sound)) = reader {
            // A reader gives no file its length back, so it may call damaged what a start makes whole.
            let short = |(path, bytes): (&PathBuf, &Vec<u8>)| {
                path.starts_with("commitlog") && bytes.len() < SEGMENT as usize
            };
            assert!(files.iter().any(short) || sound && read == seen, "a reader sees what a start sees");
        }
        assert_durable(log, &seen, dir);
    } else if let Ok(log) = open(dir, true) {
        let seen = all(&log);
        let mut written = base.records.iter();
        assert!(
            seen.iter().all(|record| written.any(|one| one == record)),
            "a salvage accepts what was written"
        );
        assert_durable(log, &seen, dir);
    }
}

/// A start that follows finds the same; and what is appended then is there at the next one.
fn assert_durable(log: CommitLog, seen: &Seen, dir: &Path) {
    let epoch = log.recovered().boot_epoch;
    drop(log);
    let log = open(dir, false).expect("what was opened opens again");
    assert_eq!(&all(&log), seen, "the second start finds the same");
    assert!(log.recovered().boot_epoch > epoch);
    append(&log, b"after");
    log.close().expect("the disk is healthy");
    let log = open(dir, false).expect("what was closed opens");
    let after = all(&log);
    assert!(after.starts_with(seen) && after.len() == seen.len() + 1 && after[seen.len()].1 == b"after");
    assert!(log.recovered().clean);
}

fn open(dir: &Path, salvage: bool) -> Result<CommitLog, OpenError> {
    let storage = Arc::new(DiskStorage::new(dir).expect("the folder is there"));
    open_on(storage, salvage)
}

fn open_on(storage: Arc<dyn Storage>, salvage: bool) -> Result<CommitLog, OpenError> {
    let (flush, pending_bytes_max) = (Durability::Sync, 1 << 20);
    CommitLog::open(
        storage,
        &LogOptions { segment_bytes: SEGMENT, flush, pending_bytes_max, salvage, ..LogOptions::default() },
    )
}

fn all(log: &CommitLog) -> Seen {
    log.scan(log.recovered().start)
        .map(|record| record.expect("what was recovered reads back"))
        .map(|record| (record.position(), record.body().to_vec()))
        .collect()
}

fn append(log: &CommitLog, body: &[u8]) {
    let parts = RecordParts { topic: "t", tag: "a", keys: &["k"], body, ..RecordParts::default() };
    loop {
        match log.append(Space::New, &[parts], &mut Positions::new()) {
            Ok(range) => return log.wait_durable(range.end).expect("the disk is healthy"),
            // The next segment is on its way.
            Err(crate::AppendError::Busy) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The folder to edit, made once.
fn base(closed: bool, near: &Path) -> &'static Base {
    static BASES: [OnceLock<Base>; 2] = [OnceLock::new(), OnceLock::new()];
    BASES[usize::from(closed)].get_or_init(|| {
        let dir = near.join("base");
        let _ = fs::remove_dir_all(&dir);
        let storage = FaultyStorage::new(&dir);
        for boot in 0..3u8 {
            let log = open_on(storage.as_storage(), false).expect("a new log");
            for n in 0..12u8 {
                append(&log, &vec![boot * 16 + n; 40 + usize::from(n) * 60]);
            }
            if closed && boot == 2 {
                log.close().expect("the disk is healthy");
            }
            storage.kill();
        }
        let mut files = Files::new();
        read(&dir, Path::new(""), &mut files);
        let log = open(&dir, false).expect("it opens as it is");
        let records = all(&log);
        // How many segments were prepared ahead is a matter of time: an input shall mean the same each time.
        let end = log.end().0;
        files.retain(|path, _| {
            let name = path.strip_prefix("commitlog").ok().and_then(Path::to_str);
            name.is_none_or(|name| name.parse().is_ok_and(|base: u64| base < end))
        });
        drop(log);
        assert_eq!(records.len(), 36);
        let _ = fs::remove_dir_all(&dir);
        Base { files, records }
    })
}

pub(super) fn read(root: &Path, dir: &Path, into: &mut Files) {
    for entry in fs::read_dir(root.join(dir)).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = dir.join(entry.file_name());
        if entry.path().is_dir() {
            read(root, &path, into);
        } else {
            into.insert(path, fs::read(entry.path()).expect("a file"));
        }
    }
}

pub(super) fn write(dir: &Path, files: &Files) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir.join("commitlog")).expect("a folder");
    for (path, bytes) in files {
        fs::create_dir_all(dir.join(path).parent().expect("a file in a folder")).expect("a folder");
        fs::write(dir.join(path), bytes).expect("a file");
    }
}

/// One edit: kind, file, place, and what its kind needs.
pub(super) fn edit(files: &mut Files, input: &mut Input<'_>) {
    let kind = input.byte();
    let paths: Vec<_> = files.keys().cloned().collect();
    if paths.is_empty() {
        return;
    }
    let path = paths[usize::from(input.byte()) % paths.len()].clone();
    let len = files[&path].len();
    let at = usize::from(input.word()) % (len + 1);
    let count = usize::from(input.word());
    let bytes = files.get_mut(&path).expect("chosen from the list");
    match kind % 8 {
        // One bit.
        0 if at < len => bytes[at] ^= 1 << (count % 8),
        // Bytes of the input.
        1 => {
            let part = input.take(count % 65);
            let end = (at + part.len()).min(len);
            bytes[at..end].copy_from_slice(&part[..end - at]);
        }
        // Zeros, as a lost block, aligned or not.
        2 => bytes[at..(at + count).min(len)].fill(0),
        3 => {
            let at = at / 512 * 512;
            bytes[at..(at + 512).min(len)].fill(0);
        }
        // Shortened, lengthened, gone.
        4 => bytes.truncate(at),
        5 => bytes.resize(len + count % 8_192, 0),
        6 if count % 4 == 0 => drop(files.remove(&path)),
        // A block of another file, or of another place.
        _ => {
            let from = files[&paths[usize::from(input.byte()) % paths.len()]].clone();
            let (at, source) = (at / 512 * 512, usize::from(input.word()) / 512 * 512);
            let part = from.get(source..(source + 512).min(from.len())).unwrap_or_default();
            let bytes = files.get_mut(&path).expect("chosen from the list");
            let end = (at + part.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&part[..end - at]);
        }
    }
}

pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from(self.byte()) | u16::from(self.byte()) << 8
    }
}
