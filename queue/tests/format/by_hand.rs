//! A log of two segments with each kind of record in it, built byte by byte.

use super::bytes::*;
use std::fs;
use std::path::Path;

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

fn records() -> Vec<Vec<Record>> {
    let message = |offset, body: &[u8]| Record {
        topic: "orders".into(),
        queue: 1,
        offset,
        born_at_ms: NOW_MS,
        body: body.into(),
        ..Record::default()
    };
    vec![
        vec![
            message(0, b"plain"),
            Record {
                tag: "größe".into(),
                keys: vec!["ticket-1".into(), String::new(), "buyer-9".into()],
                properties: vec![("colour".into(), "blue".into()), ("empty".into(), String::new())],
                deadline_ms: Some(NOW_MS + 60_000),
                ..message(1, &[7; 301])
            },
        ],
        vec![Record { kind: 1, offset: 0, deliver_at_ms: Some(NOW_MS + 5_000), ..message(0, b"later") }],
        vec![Record {
            kind: 3,
            offset: 0,
            properties: vec![("tidegate.producer-group".into(), "payments".into())],
            ..message(0, b"half")
        }],
        vec![message(2, &[8; 2_500])],
        // Does not fit into the first segment any more.
        vec![message(3, &[9; 1_000]), message(4, b"")],
    ]
}

/// Writes a data folder by hand; answers every record with its position.
pub(crate) fn build(dir: &Path, closed: bool) -> Vec<(u64, Record)> {
    let mut segments = vec![segment_header(0)];
    let (mut end, mut written) = (64, Vec::new());
    let mut frames = records();
    // A delivery, a check and a rollback name records by their positions.
    let mut origin_of = Vec::new();
    let mut put = |records: &[Record], end: &mut u64| -> Vec<u64> {
        let before = *end;
        let (mut bytes, mut positions) = frame(before, before, before, 3, records);
        let base = (segments.len() as u64 - 1) * SEGMENT;
        if before + bytes.len() as u64 > base + SEGMENT {
            segments.last_mut().unwrap().resize(SEGMENT as usize, 0);
            segments.push(segment_header(base + SEGMENT));
            (bytes, positions) = frame(base + SEGMENT + 64, before, before, 3, records);
        }
        segments.last_mut().unwrap().extend_from_slice(&bytes);
        *end = (segments.len() as u64 - 1) * SEGMENT + segments.last().unwrap().len() as u64;
        positions
    };
    for records in frames.drain(..) {
        let positions = put(&records, &mut end);
        origin_of.push(positions[0]);
        written.extend(positions.into_iter().zip(records));
    }
    let (delayed, half) = (origin_of[1], origin_of[2]);
    let last = [
        Record { origin: Some(delayed), offset: 5, ..written[2].1.clone() },
        Record {
            kind: 2,
            tag: "check".into(),
            offset: 1,
            born_at_ms: NOW_MS,
            origin: Some(half),
            ..Record::default()
        },
        Record {
            kind: 2,
            tag: "rollback".into(),
            born_at_ms: NOW_MS,
            origin: Some(half),
            ..Record::default()
        },
    ];
    let last = last.map(|record| Record { kind: if record.tag.is_empty() { 0 } else { 2 }, ..record });
    written.extend(put(&last, &mut end).into_iter().zip(last.clone()));
    assert_eq!(segments.len(), 2);
    fs::create_dir_all(dir.join("commitlog")).unwrap();
    for (number, mut bytes) in segments.into_iter().enumerate() {
        bytes.resize(SEGMENT as usize, 0);
        fs::write(dir.join(format!("commitlog/{:020}", number as u64 * SEGMENT)), bytes).unwrap();
    }
    let slot = |sequence| Checkpoint {
        closed,
        sequence,
        durable: if closed { end } else { 64 },
        epoch: 3,
        oldest: 0,
    };
    let mut checkpoint = checkpoint_slot(&slot(8));
    checkpoint.resize(4_096, 0);
    checkpoint.extend(checkpoint_slot(&slot(9)));
    checkpoint.resize(8_192, 0);
    fs::write(dir.join("checkpoint"), checkpoint).unwrap();
    written
}
