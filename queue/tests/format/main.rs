//! FORMAT.md against the crate, both ways: a log built byte by byte is read by the crate, and what the crate wrote is
//! read by a parser written from the text alone. And whatever a newer release wrote is refused by name.
#![allow(clippy::unwrap_used)]

#[path = "../queue_support/mod.rs"]
mod queue_support;

mod by_hand;
mod bytes;

use by_hand::build;
use bytes::*;
use queue_support::*;
use std::fs;
use std::sync::Arc;
use tidegate_queue::log::{LogReader, RecordKind};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::*;

fn of_view(view: &log::RecordView<'_>) -> Record {
    Record {
        kind: match view.kind {
            RecordKind::Message => 0,
            RecordKind::Delayed => 1,
            RecordKind::Control => 2,
            RecordKind::Half => 3,
        },
        topic: view.topic.into(),
        tag: view.tag.into(),
        keys: view.keys().map(str::to_owned).collect(),
        properties: view.properties().map(|(name, value)| (name.into(), value.into())).collect(),
        body: view.body.into(),
        queue: view.queue,
        offset: view.queue_offset,
        born_at_ms: view.born_at_ms,
        deliver_at_ms: view.deliver_at_ms,
        deadline_ms: view.deadline_ms,
        origin: view.origin.map(|origin| origin.0),
    }
}

#[test]
fn the_crate_reads_a_log_that_was_built_by_hand() {
    for closed in [true, false] {
        let folder = Folder::new();
        let written = build(folder.dir.path(), closed);
        {
            let reader = LogReader::open(folder.dir.path()).unwrap();
            let report = reader.report();
            assert!(report.is_sound() && !report.torn_tail && report.clean == closed, "{report}");
            assert_eq!((report.segments, report.frames, report.epoch), (2, 6, 3));
            let seen: Vec<_> = reader.records().map(Result::unwrap).collect();
            let seen: Vec<_> = seen.iter().map(|one| (one.position().0, of_view(&one.view()))).collect();
            assert_eq!(seen, written);
        }
        // The whole queue comes up on it, and means the same by it.
        folder.clock.advance(5_000);
        let queue = folder.open_with(QueueOptions { segment_bytes: SEGMENT, ..folder.options() });
        assert_eq!(queue.id(), LOG_ID);
        let found = receive(&queue, GROUP, 64, 60_000);
        let offsets: Vec<_> = found.iter().map(|one| (one.message.queue, one.message.offset)).collect();
        assert_eq!(offsets, (0..6).map(|offset| (1, offset)).collect::<Vec<_>>());
        assert_eq!(found[1].message.keys, ["ticket-1", "", "buyer-9"]);
        assert_eq!(&found[5].message.body[..], b"later");
        assert_eq!((queue.delayed(), queue.open_transactions()), (0, 0));
        let next = NewMessage { queue: QueueChoice::Explicit(1), ..message(b"next") };
        assert_eq!(append(&queue, &[next]).offset, 6);
    }
}

#[test]
fn what_the_crate_writes_is_read_by_a_parser_made_from_the_text() {
    let folder = Folder::new();
    let queue = folder.open_with(QueueOptions { segment_bytes: SEGMENT, ..folder.options() });
    let mut expected = Vec::new();
    let rich = NewMessage {
        tag: "größe",
        keys: &["ticket-1", "", "buyer-9"],
        properties: &[("colour", "blue"), ("empty", "")],
        deadline_ms: Some(NOW_MS + 60_000),
        ..message(b"rich")
    };
    append(&queue, &[rich]);
    expected.push((0, "rich".to_owned()));
    for n in 0..20 {
        let body = format!("{n:0400}");
        append(&queue, &[message(body.as_bytes()), message(b"second")]);
        expected.extend([(0, body), (0, "second".into())]);
    }
    append(&queue, &[NewMessage { deliver_at_ms: Some(NOW_MS + 5_000), ..message(b"later") }]);
    let once = Producer { id: "till 4", sequence: 17 };
    queue.append_once(once, &[message(b"numbered")], Space::New).unwrap();
    let halves = [b"kept", b"gone"].map(|body| queue.begin("payments", &message(body)).unwrap().first);
    settle_down(&queue);
    queue.commit(halves[0]).unwrap();
    queue.roll_back(halves[1]).unwrap();
    folder.clock.advance(5_000);
    queue.tick();
    settle_down(&queue);
    let later = [(1, "later"), (0, "numbered"), (3, "kept"), (3, "gone"), (0, "kept"), (2, ""), (0, "later")];
    expected.extend(later.map(|(kind, body)| (kind, body.to_owned())));
    let (log_id, end) = (queue.id(), queue.end().0);
    queue.close().unwrap();
    drop(queue);

    let read = |path: &str| fs::read(folder.dir.path().join(path)).unwrap();
    let checkpoint = read("checkpoint");
    assert_eq!(checkpoint.len(), 8_192);
    let slot = [0, 4_096]
        .map(|at| &checkpoint[at..at + 64])
        .into_iter()
        .max_by_key(|slot| u64_at(slot, 24))
        .unwrap();
    assert_eq!((&slot[..8], u32_at(slot, 60)), (&b"TGCHECKP"[..], crc32c(&slot[..60])));
    assert_eq!((u32_at(slot, 8), u32_at(slot, 12), u64_at(slot, 16)), (1, 1, log_id));
    assert_eq!((u64_at(slot, 32), u64_at(slot, 48)), (end, 0));

    let (mut base, mut before, mut records, mut starts) = (0, 64, Vec::new(), Vec::new());
    while before < end {
        let segment = read(&format!("commitlog/{base:020}"));
        let head = &segment[..64];
        assert_eq!((&head[..8], u32_at(head, 60)), (&b"TGSEGMNT"[..], crc32c(&head[..60])));
        assert_eq!((u32_at(head, 8), u32_at(head, 12), u64_at(head, 16)), (1, 64, log_id));
        assert_eq!((u64_at(head, 24), u64_at(head, 32)), (base, segment.len() as u64));
        let mut at = 64;
        while at + 64 <= segment.len() && segment[at..].starts_with(b"TGFR") {
            let frame = &segment[at..at + 64];
            assert_eq!((frame[4], frame[5], u16_at(frame, 6)), (1, 0, 64));
            assert_eq!(u32_at(frame, 60), crc32c(&frame[..60]));
            let position = base + at as u64;
            assert_eq!((u64_at(frame, 16), u64_at(frame, 24), u64_at(frame, 48)), (position, before, log_id));
            assert!(u64_at(frame, 32) <= position && u64_at(frame, 40) == 1);
            let payload_end = at + 64 + u32_at(frame, 8) as usize;
            at += 64;
            let mut count = 0;
            while at < payload_end {
                let (record, len) = Record::parse(&segment[at..payload_end], log_id, base + at as u64);
                starts.push(base + at as u64);
                records.push(record);
                (at, count) = (at + len, count + 1);
            }
            assert_eq!(count, u32_at(frame, 12));
            before = base + at as u64;
        }
        assert!(segment[at..].iter().all(|byte| *byte == 0), "zeros after the last frame");
        base += segment.len() as u64;
    }
    assert_eq!(before, end);
    let seen: Vec<_> =
        records.iter().map(|one| (one.kind, String::from_utf8(one.body.clone()).unwrap())).collect();
    assert_eq!(seen, expected);
    assert_eq!((records[0].tag.as_str(), records[0].deadline_ms), ("größe", Some(NOW_MS + 60_000)));
    assert_eq!(records[0].keys, ["ticket-1", "", "buyer-9"]);
    assert_eq!(records[0].properties, [("colour".into(), "blue".into()), ("empty".into(), String::new())]);
    let tail = &records[records.len() - 7..];
    assert_eq!(tail[1].properties, [("tidegate.producer".to_owned(), "17 till 4".to_owned())]);
    assert_eq!(tail[2].properties, [("tidegate.producer-group".to_owned(), "payments".to_owned())]);
    assert_eq!((tail[4].origin, tail[4].properties.len()), (Some(halves[0].0), 0));
    assert_eq!((tail[5].origin, tail[5].tag.as_str()), (Some(halves[1].0), "rollback"));
    let delayed = starts[starts.len() - 7];
    assert_eq!((tail[6].origin, tail[0].deliver_at_ms), (Some(delayed), Some(NOW_MS + 5_000)));

    // The index of queue 0: one entry a message, in order.
    let index = read("consumequeue/orders/0/00000000000000000000");
    let messages = records.iter().zip(&starts).filter(|(record, _)| record.kind == 0);
    for (offset, (record, position)) in messages.enumerate() {
        let entry = &index[offset * 20..offset * 20 + 20];
        let tag = if record.tag.is_empty() { 0 } else { fnv1a(&record.tag) };
        let len = record.bytes(*position).len() as u32;
        assert_eq!((u64_at(entry, 0), u32_at(entry, 8), u64_at(entry, 12)), (*position, len, tag));
        assert_eq!(record.offset, offset as u64);
    }
}

/// Makes a folder with every kind of file in it, lets `change` make one of them newer, and opens it.
fn refused(file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"one")]);
    let lease = receive(&queue, GROUP, 1, 60_000);
    ack(&queue, GROUP, &lease[0]).unwrap();
    queue.close().unwrap();
    drop(queue);
    let path = folder.dir.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    let storage = Arc::new(DiskStorage::new(folder.dir.path()).unwrap());
    let opened = Queue::open(folder.options(), storage, Arc::clone(&folder.clock) as Arc<dyn Clock>);
    match opened {
        Err(OpenError::NewerFormat { file: named, found, known: 1 }) if found > 1 => assert_eq!(named, path),
        other => panic!("{file}: {:?}", other.err()),
    }
    // It is as it was: the newer release opens it.
    assert_eq!(fs::read(&path).unwrap(), bytes, "{file} was changed");
}

fn seal(head: &mut [u8]) {
    let crc = crc32c(&head[..60]);
    head[60..64].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_newer_version_of_each_kind_of_file_is_refused_by_name() {
    refused("commitlog/00000000000000000000", |bytes| {
        bytes[8] = 2;
        seal(&mut bytes[..64]);
    });
    // A frame.
    refused("commitlog/00000000000000000000", |bytes| {
        bytes[64 + 4] = 2;
        seal(&mut bytes[64..128]);
    });
    refused("checkpoint", |bytes| {
        for at in [0, 4_096] {
            bytes[at + 8] = 2;
            seal(&mut bytes[at..at + 64]);
        }
    });
    refused("catalog/topics.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let json = text.rsplit_once("\ncrc32c ").unwrap().0.replacen("\"version\": 1", "\"version\": 2", 1);
        *bytes = format!("{json}\ncrc32c {:08x}\n", crc32c(json.as_bytes())).into_bytes();
    });
    refused("groups/acks", |bytes| {
        bytes[..8].copy_from_slice(b"TGACKS02");
        let end = 28 + u64_at(bytes, 16) as usize;
        let crc = crc32c(&[&bytes[..24], &bytes[28..end]].concat());
        bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    });
    refused("snapshot/state", |bytes| {
        bytes[8] = 2;
        seal(&mut bytes[..64]);
    });
}
