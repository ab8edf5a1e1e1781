use super::*;
use crate::log::{LogOptions, Positions, RecordParts};
use crate::storage::DiskStorage;
use crate::{Durability, Space};
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

const SMALL: Limits = Limits { tail_entries: 40, tail_log_bytes: 1 << 20, run_entries: 400 };

/// A log, its index, and what the index should find.
struct World {
    dir: tempfile::TempDir,
    storage: Arc<dyn Storage>,
    log: CommitLog,
    limits: Limits,
    index: KeyIndex,
    model: HashMap<String, Vec<Position>>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(dir.path()).unwrap());
        let options = LogOptions {
            segment_bytes: 4 << 20,
            flush: Durability::Async { interval_ms: 1 },
            pending_bytes_max: 64 << 20,
            ..LogOptions::default()
        };
        let log = CommitLog::open(Arc::clone(&storage), &options).unwrap();
        let index = open(&storage, &log, limits);
        Self { dir, storage, log, limits, index, model: HashMap::new() }
    }

    /// Messages with these keys, one each.
    fn append(&mut self, keys: impl Iterator<Item = u64>) {
        let keys: Vec<String> = keys.map(|key| key.to_string()).collect();
        let each: Vec<[&str; 2]> = keys.iter().map(|key| [key.as_str(), "all"]).collect();
        let records: Vec<_> = each
            .iter()
            .map(|keys| RecordParts { topic: "t", keys: &keys[..], ..RecordParts::default() })
            .collect();
        let mut positions = Positions::new();
        for records in records.chunks(1_000) {
            while self.log.append(Space::New, records, &mut positions) == Err(crate::AppendError::Busy) {
                std::thread::yield_now();
            }
            for (record, &position) in records.iter().zip(&positions) {
                for key in record.keys {
                    self.model.entry((*key).to_owned()).or_default().push(position);
                }
            }
        }
        self.log.wait_durable(self.log.end()).unwrap();
    }

    /// As if the dispatcher had seen it all, and had handed it over to an index that was behind.
    fn offer(&self) {
        self.index.take(Position(self.log.end().0 - 1), self.log.end(), &[]);
    }

    fn read_on(&self) {
        self.offer();
        while self.index.read_on(&self.log).unwrap() == Step::More {}
    }

    /// All that is due, until everything is there.
    fn keep(&self) {
        self.offer();
        loop {
            let step = self.index.read_on(&self.log).unwrap();
            self.index.tidy(&self.log, self.log.start()).unwrap();
            if step == Step::Done {
                return;
            }
        }
    }

    fn reopen(&mut self) {
        self.index = open(&self.storage, &self.log, self.limits);
    }

    fn find(&self, key: &str) -> Vec<Position> {
        self.index.candidates(key_hash(self.log.log_id(), "t", key, &mut Vec::new()), SAME_MAX)
    }

    /// Every key is found where it stands below what was read, the newest first.
    fn check(&self, from: Position) {
        let reach = self.index.reach();
        for (key, positions) in &self.model {
            let kept = positions.iter().rev().filter(|&&position| (from..reach).contains(&position));
            let kept: Vec<_> = kept.copied().take(SAME_MAX).collect();
            let found: Vec<_> = self.find(key).into_iter().filter(|&position| position >= from).collect();
            assert_eq!(found, kept, "{key}");
        }
        assert_eq!(self.find("none"), []);
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("keys")) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn open(storage: &Arc<dyn Storage>, log: &CommitLog, limits: Limits) -> KeyIndex {
    KeyIndex::open(Arc::clone(storage), log.log_id(), limits, log.start(), log.end()).unwrap()
}

#[test]
fn what_was_written_is_not_read_again_and_the_rest_is() {
    let mut world = World::new(SMALL);
    world.append(0..100);
    world.read_on();
    let written = world.index.flush(&world.log).unwrap();
    assert_eq!(written, world.log.end());
    world.append(50..150);
    world.read_on();
    world.check(Position(0));
    world.reopen();
    assert_eq!(world.index.reach(), written);
    world.check(Position(0));
    world.read_on();
    assert_eq!(world.index.reach(), world.log.end());
    world.check(Position(0));
}

#[test]
fn it_goes_on_where_the_dispatcher_hands_over_and_catches_up_when_that_is_further() {
    let mut world = World::new(SMALL);
    let mut at = world.log.start();
    let mut hand_over = |world: &mut World, keys: std::ops::Range<u64>| {
        world.append(keys);
        let (mut entries, mut buffer) = (Vec::new(), Vec::new());
        let from = at;
        let seen = world.log.visit(from, &mut |record| {
            world.index.see(&record, &mut entries, &mut buffer);
            ControlFlow::Continue(())
        });
        at = seen.unwrap();
        world.index.take(from, at, &entries)
    };
    assert!(!hand_over(&mut world, 0..10));
    assert_eq!(world.index.reach(), world.log.end());
    world.check(Position(0));
    assert!(hand_over(&mut world, 10..20), "time to write");
    world.index.tidy(&world.log, world.log.start()).unwrap();
    // As after a start whose files are gone: what is handed over does not follow.
    fs::remove_file(&world.files()[0]).unwrap();
    world.reopen();
    assert!(hand_over(&mut world, 20..30));
    assert_eq!(world.index.reach(), world.log.start());
    assert_eq!(world.index.read_on(&world.log).unwrap(), Step::Done);
    world.check(Position(0));
    world.index.flush(&world.log).unwrap();
    assert!(!hand_over(&mut world, 30..40), "from here on they are together");
    assert_eq!((world.index.reach(), world.index.state.lock().tail.len()), (world.log.end(), 20));
    world.check(Position(0));
}

#[test]
fn files_stay_few_and_memory_bounded() {
    let mut world = World::new(SMALL);
    for round in 0..200 {
        world.append(round * 20..round * 20 + 20);
        world.keep();
        assert!(world.index.state.lock().tail.len() < SMALL.tail_entries + 2 * STEP_RECORDS);
    }
    // 8,000 entries in files of at most 400, and a few of each smaller tier.
    assert!((20..=35).contains(&world.files().len()), "{}", world.files().len());
    world.check(Position(0));
    let files = world.files();
    let sizes = files.iter().map(|file| fs::metadata(file).unwrap().len());
    assert!(sizes.sum::<u64>() < 8_000 * 20, "16 bytes an entry, and a directory");
}

#[test]
fn sorted_chunks_in_memory_are_searched_too() {
    let mut world = World::new(Limits::default());
    world.append((0..20_000).map(|number| number % 7_000));
    world.read_on();
    assert_eq!(world.index.state.lock().tail.len(), 40_000);
    world.check(Position(0));
    world.index.flush(&world.log).unwrap();
    world.check(Position(0));
    world.append(0..20_000);
    world.read_on();
    world.index.flush(&world.log).unwrap();
    assert_eq!(world.find("all").len(), SAME_MAX);
    world.check(Position(0));
    assert!(fs::metadata(&world.files()[0]).unwrap().len() < 23_000 * 16, "of one key the newest are kept");
}

#[test]
fn a_file_that_is_damaged_or_missing_is_made_anew() {
    let mut world = World::new(SMALL);
    for round in 0..30 {
        world.append(round * 40..round * 40 + 40);
        world.keep();
    }
    let files = world.files();
    assert!(files.len() > 4);
    // Header, entries, directory.
    for (file, at) in [(1, 3), (2, 30), (0, 64), (2, 64 + 17), (1, usize::MAX), (3, usize::MAX - 7)] {
        for while_running in [true, false] {
            let files = world.files();
            let file = &files[file % files.len()];
            let mut bytes = fs::read(file).unwrap();
            let at = if at < 1_000 { at } else { bytes.len() - (usize::MAX - at) - 1 };
            bytes[at] ^= 0x10;
            fs::write(file, &bytes).unwrap();
            if !while_running {
                world.reopen();
            }
            // Whoever asks for what it holds finds out.
            world.model.keys().for_each(|key| drop(world.find(key)));
            world.keep();
            world.check(Position(0));
            world.reopen();
            world.keep();
            world.check(Position(0));
        }
    }
    for round in 30..60 {
        world.append(round * 40..round * 40 + 40);
        world.keep();
    }
    let files = world.files();
    fs::remove_file(&files[1]).unwrap();
    fs::write(world.dir.path().join("keys/next.tmp"), b"half a file").unwrap();
    fs::write(world.dir.path().join("keys/00000000000000000064-00000000000000000128"), b"").unwrap();
    world.reopen();
    let reach = world.index.reach();
    assert!(world.files().len() < files.len() - 1 && reach < world.log.end(), "what is behind a gap goes");
    world.check(Position(0));
    world.keep();
    world.check(Position(0));
}

#[test]
fn what_the_log_no_longer_holds_goes_file_by_file() {
    let mut world = World::new(SMALL);
    for round in 0..30 {
        world.append(round * 40..round * 40 + 40);
        world.keep();
    }
    let middle = world.model["600"][0];
    let before = world.files().len();
    world.index.remove_below(middle);
    assert!(world.files().len() < before);
    world.check(middle);
    let index =
        KeyIndex::open(Arc::clone(&world.storage), world.log.log_id(), SMALL, middle, world.log.end());
    world.index = index.unwrap();
    world.read_on();
    world.check(middle);
    // All of it.
    world.index.remove_below(world.log.end());
    world.check(world.log.end());
}

#[test]
fn files_of_another_log_or_beyond_its_end_are_not_believed() {
    let mut world = World::new(SMALL);
    world.append(0..100);
    world.read_on();
    world.index.flush(&world.log).unwrap();
    let (start, end) = (world.log.start(), world.log.end());
    let shorter =
        KeyIndex::open(Arc::clone(&world.storage), world.log.log_id(), SMALL, start, Position(end.0 - 8));
    assert_eq!((shorter.unwrap().reach(), world.files().len()), (start, 0));
    world.reopen();
    world.read_on();
    world.index.flush(&world.log).unwrap();
    let other = KeyIndex::open(Arc::clone(&world.storage), !world.log.log_id(), SMALL, start, end);
    assert_eq!((other.unwrap().reach(), world.files().len()), (start, 0));
}

#[test]
fn a_crash_at_any_call_leaves_an_index_that_is_whole() {
    use crate::storage::{FaultyCall, FaultyStorage, PowerLoss};
    let calls = [
        FaultyCall::Write,
        FaultyCall::ShortWrite,
        FaultyCall::Sync,
        FaultyCall::Rename,
        FaultyCall::SyncDir,
        FaultyCall::Allocate,
        FaultyCall::Remove,
    ];
    for (seed, (call, nth)) in
        (0..).zip(calls.into_iter().flat_map(|call| (1..8).map(move |nth| (call, nth))))
    {
        let mut world = World::new(SMALL);
        let faulty = FaultyStorage::new(world.dir.path());
        // The log goes on: what becomes of it in a crash is its own tests'.
        world.storage = faulty.as_storage();
        world.reopen();
        faulty.kill_at(call, "keys", nth);
        for round in 0..8 {
            world.append(round * 40..round * 40 + 40);
            world.offer();
            if world.index.read_on(&world.log).is_ok() {
                drop(world.index.tidy(&world.log, world.log.start()));
            }
            world.check(Position(0));
        }
        faulty.power_loss(seed, PowerLoss::Blocks(512));
        world.storage = faulty.as_storage();
        world.reopen();
        world.check(Position(0));
        world.keep();
        world.check(Position(0));
    }
}

#[test]
fn a_full_disk_stops_the_index_and_not_for_good() {
    use crate::storage::FaultyStorage;
    let mut world = World::new(SMALL);
    let faulty = FaultyStorage::new(world.dir.path());
    world.storage = faulty.as_storage();
    world.reopen();
    faulty.set_quota(Some(faulty.used()));
    let chunk = STEP_RECORDS as u64;
    for round in 0..4 {
        world.append(round * chunk..(round + 1) * chunk);
        world.offer();
        let read = world.index.read_on(&world.log).unwrap();
        assert_eq!(read == Step::Full, round > 1, "as much is held as is being written, and as much again");
        assert!(world.index.tidy(&world.log, world.log.start()).is_err());
        world.check(Position(0));
    }
    assert!(world.index.reach() < world.log.end());
    faulty.set_quota(None);
    world.keep();
    assert_eq!(world.index.reach(), world.log.end());
    world.check(Position(0));
}

#[derive(Debug, Clone)]
enum Op {
    Append { keys: Vec<u64> },
    ReadOn,
    Keep,
    Flush,
    Reopen,
    Remove { file: usize },
    Damage { file: usize, at: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::collection::vec(0..50u64, 1..60).prop_map(|keys| Op::Append { keys }),
        2 => Just(Op::ReadOn),
        4 => Just(Op::Keep),
        2 => Just(Op::Flush),
        2 => Just(Op::Reopen),
        1 => any::<usize>().prop_map(|file| Op::Remove { file }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, at)| Op::Damage { file, at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_key_is_found_whatever_becomes_of_the_files(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new(SMALL);
        for op in ops {
            match op {
                Op::Append { keys } => world.append(keys.into_iter()),
                Op::ReadOn => world.read_on(),
                Op::Keep => world.keep(),
                Op::Flush => drop(world.index.flush(&world.log).unwrap()),
                Op::Reopen => world.reopen(),
                Op::Remove { .. } | Op::Damage { .. } if world.files().is_empty() => {}
                Op::Remove { file } => {
                    let files = world.files();
                    fs::remove_file(&files[file % files.len()]).unwrap();
                    world.reopen();
                }
                Op::Damage { file, at } => {
                    let files = world.files();
                    let file = &files[file % files.len()];
                    let mut bytes = fs::read(file).unwrap();
                    let at = at % bytes.len();
                    bytes[at] ^= 1;
                    fs::write(file, bytes).unwrap();
                    world.reopen();
                    // Found out by whoever reads there; then it is given up.
                    world.model.keys().for_each(|key| drop(world.find(key)));
                    world.keep();
                }
            }
            world.check(Position(0));
        }
    }
}
