//! Damaged folders: what is a torn tail, what is corruption, and that recovery can be repeated.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::*;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tidegate_queue::Position;
use tidegate_queue::log::{CommitLog, LogOptions, LogReader, OpenError, salvage, verify};
use tidegate_queue::storage::{FaultyStorage, PowerLoss};

/// A log of `count` records in commits of their own; closed if `clean`, else killed right after the last one.
fn make(dir: &Path, count: u64, clean: bool) {
    let storage = FaultyStorage::new(dir);
    let log = open(storage.as_storage()).unwrap();
    for number in 0..count {
        append_durably(&log, &[number]).unwrap();
    }
    if clean {
        log.close().unwrap();
    }
    storage.kill();
}

fn segment(dir: &Path, base: u64) -> PathBuf {
    dir.join("commitlog").join(format!("{base:020}"))
}

fn flip(path: &Path, byte: u64, bit: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut one = [0];
    file.read_exact_at(&mut one, byte).unwrap();
    one[0] ^= 1 << bit;
    file.write_all_at(&one, byte).unwrap();
}

/// The files of a folder that a log writes.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in ["checkpoint", "commitlog"] {
        let path = dir.join(name);
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
                files.insert(
                    entry.path().strip_prefix(dir).unwrap().to_owned(),
                    fs::read(entry.path()).unwrap(),
                );
            }
        } else if path.exists() {
            files.insert(name.into(), fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn truncation_at_every_byte_of_the_last_record_keeps_the_others() {
    let source = tempfile::tempdir().unwrap();
    make(source.path(), 7, false);
    let reader = LogReader::open(source.path()).unwrap();
    let last = reader.records().last().unwrap().unwrap();
    let (from, to) = (last.position().0, last.position().0 + last.view().encoded_len() as u64);
    drop((last, reader));
    let original = fs::read(segment(source.path(), 0)).unwrap();
    for at in from..to {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(source.path(), dir.path());
        OpenOptions::new().write(true).open(segment(dir.path(), 0)).unwrap().set_len(at).unwrap();
        let storage = FaultyStorage::new(dir.path());
        let log = open(storage.as_storage()).unwrap_or_else(|error| panic!("{at}: {error}"));
        // Padding is zeros, and so is what a shortened file is filled up with.
        let count = if original[at as usize..to as usize].iter().all(|byte| *byte == 0) { 7 } else { 6 };
        assert!(numbers(&log).into_iter().eq(0..count), "{at}");
        append_durably(&log, &[count]).unwrap();
        log.close().unwrap();
        drop(log);
        assert!(numbers(&open(storage.as_storage()).unwrap()).into_iter().eq(0..=count), "{at}");
    }
}

#[test]
fn truncation_below_what_was_durable_is_refused_at_every_byte() {
    let source = tempfile::tempdir().unwrap();
    make(source.path(), 3, true);
    let end = verify(source.path()).unwrap().end.0;
    for at in 0..end {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(source.path(), dir.path());
        OpenOptions::new().write(true).open(segment(dir.path(), 0)).unwrap().set_len(at).unwrap();
        let storage = FaultyStorage::new(dir.path());
        assert!(matches!(open(storage.as_storage()), Err(OpenError::Corrupt { .. })), "{at}");
    }
}

/// Flips a bit in every byte of every file. Each is refused as corruption, or the log opens with the first records
/// of the original, unaltered, at least `known` of them.
fn flip_every_byte(clean: bool, count: u64, known: u64) {
    let source = tempfile::tempdir().unwrap();
    make(source.path(), count, clean);
    let end = verify(source.path()).unwrap().end.0;
    let (mut refused, mut opened) = (0, 0);
    for (name, bytes) in bytes_of(source.path()) {
        for byte in 0..bytes.len() as u64 {
            // Of the zeros after the log's end, one byte in sixteen.
            let is_segment_zero = name.starts_with("commitlog") && byte > end + 128;
            if (is_segment_zero || name.ends_with("checkpoint") && byte % 4096 > 80) && byte % 64 != 0 {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            copy_dir(source.path(), dir.path());
            flip(&dir.path().join(&name), byte, (byte % 8) as u8);
            match open(FaultyStorage::new(dir.path()).as_storage()) {
                Err(OpenError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{} {byte}: {error}", name.display()),
                Ok(log) => {
                    let seen = numbers(&log);
                    let expected = known..=count;
                    assert!(expected.contains(&(seen.len() as u64)), "{} {byte}: {seen:?}", name.display());
                    assert!(
                        seen.iter().copied().eq(0..seen.len() as u64),
                        "{} {byte}: {seen:?}",
                        name.display()
                    );
                    opened += 1;
                }
            }
        }
    }
    assert!(refused > 100 && opened > 10, "{refused} {opened}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_log_is_refused_or_harmless() {
    flip_every_byte(true, 4, 4);
}

#[test]
fn a_flipped_bit_anywhere_in_a_log_after_a_crash_costs_at_most_what_was_not_known_durable() {
    // The header of the last commit knows that those before it are durable.
    flip_every_byte(false, 4, 3);
}

#[test]
fn fm29_a_flipped_bit_in_the_middle_is_refused_by_file_and_byte_and_salvage_loses_only_its_frame() {
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), 60, clean);
        let reader = LogReader::open(dir.path()).unwrap();
        let report = reader.report().clone();
        assert!(report.is_sound() && report.segments > 3 && report.records == 60, "{report}");
        let hit = reader.records().nth(30).unwrap().unwrap();
        let frame = hit.position().0 - 64;
        let base = frame / SEGMENT * SEGMENT;
        drop(reader);
        flip(&segment(dir.path(), base), hit.position().0 - base + 80, 3);
        let before = bytes_of(dir.path());
        for _ in 0..2 {
            match open_dir(dir.path()) {
                Err(OpenError::Corrupt { file, offset, .. }) => {
                    assert_eq!((file, offset), (segment(dir.path(), base), frame - base));
                }
                other => panic!("{:?}", other.err()),
            }
        }
        assert_eq!(bytes_of(dir.path()), before, "a refused start changes nothing");
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.damages.len(), report.records), (1, 59), "{report}");
        assert!(report.to_string().contains("DAMAGED"), "{report}");
        let lost = salvage(dir.path()).unwrap();
        assert_eq!(lost, [report.damages[0].from..report.damages[0].to]);
        assert_eq!(lost[0].start.0, frame);
        assert!(dir.path().join(format!("salvage/{frame:020}")).exists());
        let log = open_dir(dir.path()).unwrap();
        assert!(numbers(&log).into_iter().eq((0..60).filter(|number| *number != 30)));
        append_durably(&log, &[60]).unwrap();
        log.close().unwrap();
        drop(log);
        assert!(verify(dir.path()).unwrap().is_sound());
    }
}

/// Three boots of twenty records each; answers where the records' frames begin.
fn make_three_boots(dir: &Path) -> Vec<u64> {
    for boot in 0..3 {
        let log = open_dir(dir).unwrap();
        for number in boot * 20..(boot + 1) * 20 {
            append_durably(&log, &[number]).unwrap();
        }
        log.close().unwrap();
    }
    let reader = LogReader::open(dir).unwrap();
    reader.records().map(|record| record.unwrap().position().0 - 64).collect()
}

#[test]
fn fm29_one_salvage_of_a_log_of_many_boots_loses_the_damaged_frames_alone() {
    let source = tempfile::tempdir().unwrap();
    let frames = make_three_boots(source.path());
    assert_eq!(frames.len(), 60);
    let places: [&[usize]; 7] = [&[5], &[0], &[19], &[20], &[30], &[5, 12], &[5, 30, 50]];
    for hit in places {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(source.path(), dir.path());
        for frame in hit.iter().map(|number| frames[*number]) {
            let base = frame / SEGMENT * SEGMENT;
            flip(&segment(dir.path(), base), frame - base + 64 + 80, 3);
        }
        let damaged = verify(dir.path()).unwrap();
        assert_eq!(damaged.damages.len(), hit.len(), "{hit:?}: {damaged}");
        assert!(damaged.to_string().contains("damaged: the next start refuses"), "{damaged}");
        assert!(!damaged.to_string().contains("not closed"), "{damaged}");
        let lost = salvage(dir.path()).unwrap();
        assert_eq!(lost.len(), hit.len(), "{hit:?}");
        let report = verify(dir.path()).unwrap();
        assert!(report.is_sound(), "{hit:?}: {report}");
        assert_eq!(report.records, 60 - hit.len() as u64, "{hit:?}: {report}");
        let inside = |part: &std::ops::Range<Position>| {
            lost.iter().any(|range| range.start <= part.start && part.end <= range.end)
        };
        assert!(report.given_up.iter().all(inside), "{hit:?}: {report}");
        assert!(lost.iter().all(|range| report.given_up.iter().any(|part| part.start == range.start)));
        assert!(report.to_string().contains("given up"), "{report}");
        assert_eq!(salvage(dir.path()).unwrap(), [], "{hit:?}: nothing is left to give up");
        let log = open_dir(dir.path()).unwrap();
        let kept = (0..60).filter(|number| !hit.contains(&(*number as usize)));
        assert!(numbers(&log).into_iter().eq(kept), "{hit:?}: {:?}", numbers(&log));
    }
}

#[test]
fn damage_at_the_logs_start_and_right_after_a_skip_frame_is_seen() {
    // Neither frame's link to the one before it is compared; that must not let a reader pass over it.
    let dir = tempfile::tempdir().unwrap();
    let frames = make_three_boots(dir.path());
    for (round, number) in [0, 1, 30, 31].into_iter().enumerate() {
        let base = frames[number] / SEGMENT * SEGMENT;
        flip(&segment(dir.path(), base), frames[number] - base + 64 + 80, 3);
        assert!(matches!(open_dir(dir.path()), Err(OpenError::Corrupt { .. })), "{number}");
        let lost = salvage(dir.path()).unwrap();
        assert_eq!((lost.len(), lost[0].start.0), (1, frames[number]), "{number}");
        let report = verify(dir.path()).unwrap();
        assert!(report.is_sound() && report.records == 59 - round as u64, "{number}: {report}");
    }
    let kept = (0..60).filter(|number| ![0, 1, 30, 31].contains(number));
    assert!(numbers(&open_dir(dir.path()).unwrap()).into_iter().eq(kept));
}

#[test]
fn a_missing_segment_is_corruption_and_salvage_goes_on_after_it() {
    for missing in [0, SEGMENT, 2 * SEGMENT] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), 60, true);
        fs::remove_file(segment(dir.path(), missing)).unwrap();
        match open_dir(dir.path()) {
            Err(OpenError::Corrupt { file, .. }) => assert_eq!(file, segment(dir.path(), missing)),
            other => panic!("{:?}", other.err()),
        }
        salvage(dir.path()).unwrap();
        let seen = numbers(&open_dir(dir.path()).unwrap());
        assert!(seen.len() > 30 && seen.len() < 60, "{seen:?}");
        assert_eq!(seen.last(), Some(&59));
    }
}

#[test]
fn the_last_segments_missing_below_what_was_durable_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 60, true);
    let mut names: Vec<_> =
        fs::read_dir(dir.path().join("commitlog")).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for name in &names[2..] {
        fs::remove_file(name).unwrap();
    }
    assert!(matches!(open_dir(dir.path()), Err(OpenError::Corrupt { .. })));
    for name in &names[..2] {
        fs::remove_file(name).unwrap();
    }
    assert!(matches!(open_dir(dir.path()), Err(OpenError::Corrupt { .. })));
}

#[test]
fn a_lost_checkpoint_is_corruption_and_one_damaged_slot_is_not() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 5, true);
    flip(&dir.path().join("checkpoint"), 20, 0);
    let log = open_dir(dir.path()).unwrap();
    assert_eq!((numbers(&log).len(), log.recovered().boot_epoch), (5, 2));
    drop(log);
    fs::remove_file(dir.path().join("checkpoint")).unwrap();
    assert!(matches!(open_dir(dir.path()), Err(OpenError::Corrupt { .. })));
    salvage(dir.path()).unwrap();
    assert_eq!(numbers(&open_dir(dir.path()).unwrap()).len(), 5);
}

#[test]
fn recovery_killed_at_every_call_and_repeated_answers_the_same() {
    let source = tempfile::tempdir().unwrap();
    {
        // Torn: two frames in flight over a segment's end, of which the power loss keeps parts.
        let storage = FaultyStorage::new(source.path());
        let log = open(storage.as_storage()).unwrap();
        for number in 0..10 {
            append_durably(&log, &[number]).unwrap();
        }
        wait_for_segments(source.path(), 2);
        storage.hold_syncs_of("commitlog/0");
        append(&log, &[10]).unwrap();
        assert!(storage.wait_for_held_sync(1));
        for number in 11..24 {
            append(&log, &[number]).unwrap();
        }
        storage.pass_sync();
        assert!(storage.wait_for_held_sync(2));
        storage.power_loss(2, PowerLoss::Blocks(512));
    }
    assert!(verify(source.path()).unwrap().torn_tail);
    let expected = {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(source.path(), dir.path());
        numbers(&open_dir(dir.path()).unwrap())
    };
    assert!(expected.len() >= 11);
    for at in 1.. {
        let mut completed = true;
        for mode in [None, Some(PowerLoss::Everything), Some(PowerLoss::Blocks(512))] {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(source.path(), dir.path());
            let storage = FaultyStorage::new(dir.path());
            storage.kill_at_call(at);
            completed &= open(storage.as_storage()).is_ok();
            match mode {
                None => storage.kill(),
                Some(mode) => storage.power_loss(at, mode),
            }
            for _ in 0..2 {
                let log = open(storage.as_storage()).unwrap_or_else(|error| panic!("{at} {mode:?}: {error}"));
                assert_eq!(numbers(&log), expected, "{at} {mode:?}");
            }
        }
        if completed {
            assert!(at > 8, "{at}");
            break;
        }
    }
}

#[test]
fn boot_epoch_rises_at_every_open_however_the_last_run_ended() {
    let (_dir, storage) = faulty();
    for round in 1..8 {
        let log = open(storage.as_storage()).unwrap();
        assert_eq!(log.recovered().boot_epoch, round);
        match round % 3 {
            0 => log.close().unwrap(),
            1 => storage.kill(),
            _ => storage.power_loss(round, PowerLoss::Everything),
        }
    }
}

#[test]
fn newer_format_is_refused_by_name() {
    for (file, crc_at) in [("checkpoint", 60), ("commitlog/00000000000000000000", 60)] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), 3, true);
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        for slot in if file == "checkpoint" { vec![0, 4096] } else { vec![0] } {
            bytes[slot + 8] = 77;
            let crc = crc32c::crc32c(&bytes[slot..slot + crc_at]);
            bytes[slot + crc_at..slot + crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        }
        fs::write(&path, bytes).unwrap();
        match open_dir(dir.path()) {
            Err(OpenError::NewerFormat { file, found: 77, known: 1 }) => assert_eq!(file, path),
            other => panic!("{file}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_folder_in_use_is_refused_by_owner_and_tools() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_dir(dir.path()).unwrap();
    for error in [open_dir(dir.path()).err().unwrap(), verify(dir.path()).unwrap_err()] {
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("locked by another process"), "{error}");
    }
    drop(log);
    assert!(verify(dir.path()).unwrap().is_sound());
}

#[test]
fn a_folder_without_a_log_is_no_data_folder_for_tools() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(dir.path()), Err(OpenError::NotDataFolder { .. })));
    assert!(matches!(salvage(dir.path()), Err(OpenError::NotDataFolder { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn segments_of_another_log_are_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(one.path(), 30, true);
    make(other.path(), 30, true);
    fs::copy(segment(other.path(), SEGMENT), segment(one.path(), SEGMENT)).unwrap();
    assert!(matches!(open_dir(one.path()), Err(OpenError::Corrupt { .. })));
}

#[test]
fn segment_size_may_change_between_runs() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), 30, true);
    let storage = FaultyStorage::new(dir.path());
    let log = CommitLog::open(storage.as_storage(), &LogOptions { segment_bytes: 4 * SEGMENT, ..options() })
        .unwrap();
    for number in 30..130 {
        append_durably(&log, &[number]).unwrap();
    }
    log.close().unwrap();
    drop(log);
    assert!(numbers(&open_dir(dir.path()).unwrap()).into_iter().eq(0..130));
}
