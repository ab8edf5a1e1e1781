//! The log's own decoders on any bytes; see `crate::fuzz`.

use super::checkpoint::Checkpoint;
use super::frame::{Found, FrameHeader};
use super::record::{self, RecordParts, RecordView};
use super::segment::SegmentHeader;
use crate::Position;

const LOG_ID: u64 = 0x0123_4567_89AB_CDEF;
const AT: u64 = 4_160;

pub(crate) fn record(bytes: &[u8]) {
    if let Some(len) = record::framed_len(bytes) {
        assert!(len <= bytes.len() && len.is_multiple_of(8) && len >= 72);
    }
    let Some(view) = RecordView::parse(bytes, Position(AT)) else { return };
    let keys: Vec<_> = view.keys().collect();
    let properties: Vec<_> = view.properties().collect();
    assert_eq!(view.encoded_len(), bytes.len());
    let parts = RecordParts {
        kind: view.kind,
        topic: view.topic,
        queue: view.queue,
        queue_offset: view.queue_offset,
        tag: view.tag,
        keys: &keys,
        properties: &properties,
        born_at_ms: view.born_at_ms,
        deliver_at_ms: view.deliver_at_ms,
        deadline_ms: view.deadline_ms,
        origin: view.origin,
        body: view.body,
    };
    parts.check().expect("what was read fits");
    let mut again = Vec::new();
    parts.encode(&mut again);
    record::seal(&mut again, LOG_ID, AT);
    assert!(record::verifies(&again, LOG_ID, AT));
    assert!(!record::verifies(&again, LOG_ID, AT + 8) && !record::verifies(&again, LOG_ID + 1, AT));
    let seen = RecordView::parse(&again, Position(AT)).expect("what was read can be written and read again");
    assert_eq!((seen.kind, seen.topic, seen.tag, seen.body), (view.kind, view.topic, view.tag, view.body));
    assert_eq!((seen.queue, seen.queue_offset, seen.origin), (view.queue, view.queue_offset, view.origin));
    assert_eq!(
        (seen.born_at_ms, seen.deliver_at_ms, seen.deadline_ms),
        (view.born_at_ms, view.deliver_at_ms, view.deadline_ms)
    );
    assert!(seen.keys().eq(keys.iter().copied()) && seen.properties().eq(properties.iter().copied()));
    let bit = bytes.first().map_or(0, |&byte| usize::from(byte) * 31) % (again.len() * 8);
    again[bit / 8] ^= 1 << (bit % 8);
    assert!(!record::verifies(&again, LOG_ID, AT), "bit {bit}");
}

pub(crate) fn headers(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let mut head = rest[..rest.len().min(256)].to_vec();
    if choice & 0x80 != 0 && head.len() >= 64 {
        let crc_at = if choice % 4 == 0 { usize::from(u16::from_le_bytes([head[6], head[7]])) } else { 64 };
        if let Some(crc_at) = crc_at.checked_sub(4).filter(|at| at + 4 <= head.len()) {
            let crc = crc32c::crc32c(&head[..crc_at]);
            head[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        }
    }
    match choice % 4 {
        0 => {
            let word = |at| record::u64_at(&head, at).unwrap_or(0);
            // Where it says that it stands, as far as a position can be: files end long before 2^62.
            let (base, log_id) = (word(16) & !(3 << 62), word(48));
            if let Found::Frame(header) = FrameHeader::parse(&head, log_id, base) {
                assert!(header.end() > base && header.durable <= base && header.prev_end <= base);
                let mut again = [0; 64];
                header.encode(log_id, &mut again);
                assert_eq!(FrameHeader::parse(&again, log_id, base), Found::Frame(header));
            }
        }
        1 => {
            let Some(head) = head.first_chunk::<64>() else { return };
            if let Some((_, sequence, checkpoint)) = Checkpoint::parse(head) {
                let again = Checkpoint::parse(&checkpoint.encode(sequence)).map(|(_, seq, seen)| (seq, seen));
                assert_eq!(again, Some((sequence, checkpoint)));
            }
        }
        _ => {
            let Some(head) = head.first_chunk::<64>() else { return };
            let base = record::u64_at(head, 24).unwrap_or(0);
            if let Ok(Some(header)) = SegmentHeader::parse(head, base) {
                assert!((4096..=1 << 30).contains(&header.len), "{header:?}");
                assert!(base.checked_add(header.len).is_some(), "{header:?}");
            }
        }
    }
}
