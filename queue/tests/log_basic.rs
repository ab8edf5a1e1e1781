//! The CommitLog in good times: what is appended reads back, in order, also after a reopen.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::Arc;
use tidegate_queue::log::{CommitLog, LogOptions, Positions, RecordParts};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{AppendError, Durability, Position, Space};

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 8192,
        flush: Durability::Sync,
        pending_bytes_max: 1 << 20,
        ..LogOptions::default()
    }
}

fn open(dir: &std::path::Path) -> CommitLog {
    CommitLog::open(Arc::new(DiskStorage::new(dir).unwrap()), &options()).unwrap()
}

fn append(log: &CommitLog, bodies: &[&[u8]]) -> (Positions, Position) {
    let parts: Vec<_> =
        bodies.iter().map(|body| RecordParts { topic: "orders", body, ..Default::default() }).collect();
    let mut positions = Positions::new();
    loop {
        match log.append(Space::New, &parts, &mut positions) {
            Ok(range) => return (positions, range.end),
            Err(AppendError::Busy) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn appended_records_read_back_over_many_segments_and_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..4 {
        let log = open(dir.path());
        assert_eq!(log.recovered().boot_epoch, round + 1);
        assert_eq!(log.recovered().clean, round == 2, "round {round}");
        for i in 0..100 {
            let body = vec![i as u8; i * 7];
            let (positions, end) = append(&log, &[&body, b"x"]);
            log.wait_durable(end).unwrap();
            expected.push((positions[0], body));
            expected.push((positions[1], b"x".to_vec()));
        }
        let seen: Vec<_> = log
            .scan(log.recovered().start)
            .map(|record| record.unwrap())
            .map(|record| (record.position(), record.body().to_vec()))
            .collect();
        assert_eq!(seen, expected);
        let mut count = 0;
        let next = log
            .visit(Position(0), &mut |view| {
                assert_eq!(view.body, expected[count].1);
                count += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((count, next), (expected.len(), log.end()));
        for (position, body) in &expected {
            assert_eq!(log.read(*position).unwrap().body(), body);
        }
        if round % 2 == 1 {
            log.close().unwrap();
        }
    }
}
