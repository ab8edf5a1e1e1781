//! One record: the bytes of one message in the log, and views of them. FORMAT.md, "Record".
//!
//! Knows nothing of frames, segments or files.

use crate::Position;
use bytes::Bytes;

/// Fixed part of a record.
pub(crate) const RECORD_HEADER: usize = 72;
/// Records and frames start at multiples of this.
pub(crate) const ALIGN: usize = 8;

const HAS_DELIVER_AT: u8 = 1;
const HAS_DEADLINE: u8 = 2;
const HAS_ORIGIN: u8 = 4;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordKind {
    /// A message of a queue, with its dense offset.
    #[default]
    Message = 0,
    /// A message held until its delivery time; it has no queue offset yet.
    Delayed = 1,
    /// A record of the queue itself (topics, groups, settled reports).
    Control = 2,
    /// A message that waits for the commit of its transaction.
    Half = 3,
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Message),
            1 => Some(Self::Delayed),
            2 => Some(Self::Control),
            3 => Some(Self::Half),
            _ => None,
        }
    }
}

/// A record on its way into the log. Everything is copied once, by the append.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordParts<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Topic.
    pub topic: &'a str,
    /// Queue of the topic.
    pub queue: u32,
    /// Dense offset in the queue, assigned by the caller.
    pub queue_offset: u64,
    /// Tag, empty for none.
    pub tag: &'a str,
    /// Look-up keys.
    pub keys: &'a [&'a str],
    /// Free properties.
    pub properties: &'a [(&'a str, &'a str)],
    /// When it is appended, Unix ms.
    pub born_at_ms: u64,
    /// Deliver not before, Unix ms.
    pub deliver_at_ms: Option<u64>,
    /// Deliver not at or after, Unix ms.
    pub deadline_ms: Option<u64>,
    /// Position of the delayed record that this one delivers.
    pub origin: Option<Position>,
    /// Payload.
    pub body: &'a [u8],
}

impl RecordParts<'_> {
    fn keys_len(&self) -> usize {
        self.keys.iter().map(|key| 2 + key.len()).sum()
    }

    fn properties_len(&self) -> usize {
        self.properties.iter().map(|(name, value)| 6 + name.len() + value.len()).sum()
    }

    /// Bytes this record takes in the log, without any share of a frame header.
    pub fn encoded_len(&self) -> usize {
        let len = RECORD_HEADER
            + self.topic.len()
            + self.tag.len()
            + self.keys_len()
            + self.properties_len()
            + self.body.len();
        len.next_multiple_of(ALIGN)
    }

    /// What the length fields cannot hold.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let short = usize::from(u16::MAX);
        if self.topic.len() > short {
            return Err("topic name too long");
        }
        if self.tag.len() > short {
            return Err("tag too long");
        }
        if self.keys_len() > short {
            return Err("keys too long");
        }
        if self.properties.iter().any(|(name, _)| name.len() > short) {
            return Err("property name too long");
        }
        if self.encoded_len() > u32::MAX as usize {
            return Err("message too large");
        }
        Ok(())
    }

    /// Appends the record to `buf`, checksum still zero (see [`seal`]).
    pub(crate) fn encode(&self, buf: &mut Vec<u8>) {
        let len = self.encoded_len();
        let start = buf.len();
        buf.reserve(len);
        let mut flags = 0;
        if self.deliver_at_ms.is_some() {
            flags |= HAS_DELIVER_AT;
        }
        if self.deadline_ms.is_some() {
            flags |= HAS_DEADLINE;
        }
        if self.origin.is_some() {
            flags |= HAS_ORIGIN;
        }
        let mut head = [0; RECORD_HEADER];
        head[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        head[8] = self.kind as u8;
        head[9] = flags;
        head[10..12].copy_from_slice(&(self.topic.len() as u16).to_le_bytes());
        head[12..14].copy_from_slice(&(self.tag.len() as u16).to_le_bytes());
        head[14..16].copy_from_slice(&(self.keys_len() as u16).to_le_bytes());
        head[16..20].copy_from_slice(&(self.properties_len() as u32).to_le_bytes());
        head[20..24].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        head[24..28].copy_from_slice(&self.queue.to_le_bytes());
        head[32..40].copy_from_slice(&self.queue_offset.to_le_bytes());
        head[40..48].copy_from_slice(&self.born_at_ms.to_le_bytes());
        head[48..56].copy_from_slice(&self.deliver_at_ms.unwrap_or(0).to_le_bytes());
        head[56..64].copy_from_slice(&self.deadline_ms.unwrap_or(0).to_le_bytes());
        head[64..72].copy_from_slice(&self.origin.unwrap_or_default().0.to_le_bytes());
        buf.extend_from_slice(&head);
        buf.extend_from_slice(self.topic.as_bytes());
        buf.extend_from_slice(self.tag.as_bytes());
        for key in self.keys {
            buf.extend_from_slice(&(key.len() as u16).to_le_bytes());
            buf.extend_from_slice(key.as_bytes());
        }
        for (name, value) in self.properties {
            buf.extend_from_slice(&(name.len() as u16).to_le_bytes());
            buf.extend_from_slice(&(value.len() as u32).to_le_bytes());
            buf.extend_from_slice(name.as_bytes());
            buf.extend_from_slice(value.as_bytes());
        }
        buf.extend_from_slice(self.body);
        buf.resize(start + len, 0);
    }
}

/// Checksum of a record at its place in its log: the same bytes elsewhere do not verify, so neither a body that
/// imitates a record nor a misplaced block is taken for one.
fn checksum(record: &[u8], log_id: u64, position: u64) -> u32 {
    let place = (log_id ^ position).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    crc32c::crc32c_append((place >> 32) as u32, &record[4..])
}

/// Total length of the record that starts `bytes`, when it is one that could fit in them.
pub(crate) fn framed_len(bytes: &[u8]) -> Option<usize> {
    let len = u32_at(bytes, 4)? as usize;
    (len >= RECORD_HEADER && len.is_multiple_of(ALIGN) && len <= bytes.len()).then_some(len)
}

/// Fills in the checksum of `record`, which is exactly one encoded record.
pub(crate) fn seal(record: &mut [u8], log_id: u64, position: u64) {
    let crc = checksum(record, log_id, position);
    record[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Does the checksum of exactly this record at this place hold?
pub(crate) fn verifies(record: &[u8], log_id: u64, position: u64) -> bool {
    u32_at(record, 0) == Some(checksum(record, log_id, position))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A record as it stands in the log, borrowed from the map.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Where it stands; also its id.
    pub position: Position,
    /// What it is.
    pub kind: RecordKind,
    /// Topic.
    pub topic: &'a str,
    /// Queue of the topic.
    pub queue: u32,
    /// Dense offset in the queue.
    pub queue_offset: u64,
    /// Tag, empty for none.
    pub tag: &'a str,
    /// When it was appended, Unix ms.
    pub born_at_ms: u64,
    /// Deliver not before, Unix ms.
    pub deliver_at_ms: Option<u64>,
    /// Deliver not at or after, Unix ms.
    pub deadline_ms: Option<u64>,
    /// Position of the delayed record that this one delivers.
    pub origin: Option<Position>,
    /// Payload.
    pub body: &'a [u8],
    keys: &'a [u8],
    properties: &'a [u8],
    len: usize,
}

impl<'a> RecordView<'a> {
    /// Reads exactly one record. `None` when its fields do not fit together; the checksum is not looked at.
    pub(crate) fn parse(record: &'a [u8], position: Position) -> Option<Self> {
        let flags = *record.get(9)?;
        let flagged = |flag: u8, value: u64| (flags & flag != 0).then_some(value);
        let mut at = RECORD_HEADER;
        let mut take = |len: usize| {
            let part = record.get(at..at.checked_add(len)?)?;
            at += len;
            Some(part)
        };
        let topic = std::str::from_utf8(take(u16_at(record, 10)?.into())?).ok()?;
        let tag = std::str::from_utf8(take(u16_at(record, 12)?.into())?).ok()?;
        let keys = take(u16_at(record, 14)?.into())?;
        let properties = take(u32_at(record, 16)? as usize)?;
        let body = take(u32_at(record, 20)? as usize)?;
        if at.next_multiple_of(ALIGN) != record.len() {
            return None;
        }
        Some(Self {
            position,
            kind: RecordKind::from_byte(record[8])?,
            topic,
            queue: u32_at(record, 24)?,
            queue_offset: u64_at(record, 32)?,
            tag,
            born_at_ms: u64_at(record, 40)?,
            deliver_at_ms: flagged(HAS_DELIVER_AT, u64_at(record, 48)?),
            deadline_ms: flagged(HAS_DEADLINE, u64_at(record, 56)?),
            origin: flagged(HAS_ORIGIN, u64_at(record, 64)?).map(Position),
            body,
            keys,
            properties,
            len: record.len(),
        })
    }

    /// Look-up keys.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.keys;
        std::iter::from_fn(move || {
            let len = usize::from(u16_at(rest, 0)?);
            let key = std::str::from_utf8(rest.get(2..2 + len)?).ok()?;
            rest = &rest[2 + len..];
            Some(key)
        })
    }

    /// Properties.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.properties;
        std::iter::from_fn(move || {
            let name_end = 6 + usize::from(u16_at(rest, 0)?);
            let value_end = name_end.checked_add(u32_at(rest, 2)? as usize)?;
            let name = std::str::from_utf8(rest.get(6..name_end)?).ok()?;
            let value = std::str::from_utf8(rest.get(name_end..value_end)?).ok()?;
            rest = &rest[value_end..];
            Some((name, value))
        })
    }

    /// Bytes it takes in the log.
    pub fn encoded_len(&self) -> usize {
        self.len
    }
}

/// A record that keeps its segment mapped. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Record {
    position: Position,
    bytes: Bytes,
}

impl Record {
    /// `bytes` is exactly one record; `None` when its fields do not fit together.
    pub(crate) fn new(position: Position, bytes: Bytes) -> Option<Self> {
        RecordView::parse(&bytes, position)?;
        Some(Self { position, bytes })
    }

    /// Where it stands; also its id.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Its fields.
    pub fn view(&self) -> RecordView<'_> {
        RecordView::parse(&self.bytes, self.position).expect("parsed once, when it was made")
    }

    /// The payload, a slice of the map.
    pub fn body(&self) -> Bytes {
        self.bytes.slice_ref(self.view().body)
    }
}
