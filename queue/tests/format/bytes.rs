//! Bytes by hand: everything here comes from FORMAT.md alone; nothing of the crate is used.

pub(crate) const LOG_ID: u64 = 0x1122_3344_5566_7788;
pub(crate) const SEGMENT: u64 = 4_096;

/// CRC32C, bit by bit.
pub(crate) fn crc32c_from(start: u32, bytes: &[u8]) -> u32 {
    let mut crc = !start;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !crc
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_from(0, bytes)
}

pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A header of 64 bytes whose last four are its checksum.
fn header(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = fields.concat();
    assert!(bytes.len() <= 60);
    bytes.resize(60, 0);
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

pub(crate) fn segment_header(base: u64) -> Vec<u8> {
    header(&[
        b"TGSEGMNT",
        &1u32.to_le_bytes(),
        &64u32.to_le_bytes(),
        &LOG_ID.to_le_bytes(),
        &base.to_le_bytes(),
        &SEGMENT.to_le_bytes(),
    ])
}

pub(crate) struct Checkpoint {
    pub(crate) closed: bool,
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) epoch: u64,
    pub(crate) oldest: u64,
}

pub(crate) fn checkpoint_slot(slot: &Checkpoint) -> Vec<u8> {
    header(&[
        b"TGCHECKP",
        &1u32.to_le_bytes(),
        &u32::from(slot.closed).to_le_bytes(),
        &LOG_ID.to_le_bytes(),
        &slot.sequence.to_le_bytes(),
        &slot.durable.to_le_bytes(),
        &slot.epoch.to_le_bytes(),
        &slot.oldest.to_le_bytes(),
    ])
}

/// One record's fields, as the table names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    pub(crate) topic: String,
    pub(crate) tag: String,
    pub(crate) keys: Vec<String>,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    pub(crate) born_at_ms: u64,
    pub(crate) deliver_at_ms: Option<u64>,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) origin: Option<u64>,
}

fn place_sum(log_id: u64, position: u64) -> u32 {
    ((log_id ^ position).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

impl Record {
    /// As it stands in the log at `position`.
    pub(crate) fn bytes(&self, position: u64) -> Vec<u8> {
        let mut keys = Vec::new();
        for key in &self.keys {
            keys.extend_from_slice(&(key.len() as u16).to_le_bytes());
            keys.extend_from_slice(key.as_bytes());
        }
        let mut properties = Vec::new();
        for (name, value) in &self.properties {
            properties.extend_from_slice(&(name.len() as u16).to_le_bytes());
            properties.extend_from_slice(&(value.len() as u32).to_le_bytes());
            properties.extend_from_slice(name.as_bytes());
            properties.extend_from_slice(value.as_bytes());
        }
        let flags = u8::from(self.deliver_at_ms.is_some())
            | u8::from(self.deadline_ms.is_some()) << 1
            | u8::from(self.origin.is_some()) << 2;
        let length = 72 + self.topic.len() + self.tag.len() + keys.len() + properties.len() + self.body.len();
        let length = length.div_ceil(8) * 8;
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&[self.kind, flags]);
        for len in [self.topic.len(), self.tag.len(), keys.len()] {
            bytes.extend_from_slice(&(len as u16).to_le_bytes());
        }
        for word in [properties.len() as u32, self.body.len() as u32, self.queue, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let (at, until) = (self.deliver_at_ms.unwrap_or(0), self.deadline_ms.unwrap_or(0));
        for word in [self.offset, self.born_at_ms, at, until, self.origin.unwrap_or(0)] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(bytes.len(), 72);
        bytes.extend_from_slice(self.topic.as_bytes());
        bytes.extend_from_slice(self.tag.as_bytes());
        bytes.extend_from_slice(&keys);
        bytes.extend_from_slice(&properties);
        bytes.extend_from_slice(&self.body);
        bytes.resize(length, 0);
        let sum = crc32c_from(place_sum(LOG_ID, position), &bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the record at the beginning of `bytes`; answers its length too.
    pub(crate) fn parse(bytes: &[u8], log_id: u64, position: u64) -> (Self, usize) {
        let length = u32_at(bytes, 4) as usize;
        assert!(length.is_multiple_of(8) && length >= 72, "length {length} at {position}");
        let bytes = &bytes[..length];
        let sum = crc32c_from(place_sum(log_id, position), &bytes[4..]);
        assert_eq!(u32_at(bytes, 0), sum, "checksum at {position}");
        assert_eq!(u32_at(bytes, 28), 0);
        let flags = bytes[9];
        assert_eq!(flags & !7, 0);
        let flagged = |flag, at| {
            assert!(flags & flag != 0 || u64_at(bytes, at) == 0);
            (flags & flag != 0).then(|| u64_at(bytes, at))
        };
        let mut at = 72;
        let mut take = |len: usize| {
            at += len;
            &bytes[at - len..at]
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (topic, tag) = (text(take(u16_at(bytes, 10))), text(take(u16_at(bytes, 12))));
        let (mut keys_left, mut properties_left) =
            (take(u16_at(bytes, 14)), take(u32_at(bytes, 16) as usize));
        let body = take(u32_at(bytes, 20) as usize).to_vec();
        let mut keys = Vec::new();
        while !keys_left.is_empty() {
            let end = 2 + u16_at(keys_left, 0);
            keys.push(text(&keys_left[2..end]));
            keys_left = &keys_left[end..];
        }
        let mut properties = Vec::new();
        while !properties_left.is_empty() {
            let name_end = 6 + u16_at(properties_left, 0);
            let end = name_end + u32_at(properties_left, 2) as usize;
            properties.push((text(&properties_left[6..name_end]), text(&properties_left[name_end..end])));
            properties_left = &properties_left[end..];
        }
        let padding = &bytes[at..];
        assert!(padding.len() < 8 && padding.iter().all(|byte| *byte == 0), "padding at {position}");
        let record = Self {
            kind: bytes[8],
            topic,
            tag,
            keys,
            properties,
            body,
            queue: u32_at(bytes, 24),
            offset: u64_at(bytes, 32),
            born_at_ms: u64_at(bytes, 40),
            deliver_at_ms: flagged(1, 48),
            deadline_ms: flagged(2, 56),
            origin: flagged(4, 64),
        };
        (record, length)
    }
}

/// A frame at `base` with these records; answers where each stands.
pub(crate) fn frame(
    base: u64,
    before: u64,
    durable: u64,
    epoch: u64,
    records: &[Record],
) -> (Vec<u8>, Vec<u64>) {
    let (mut payload, mut positions) = (Vec::new(), Vec::new());
    for record in records {
        let position = base + 64 + payload.len() as u64;
        positions.push(position);
        payload.extend(record.bytes(position));
    }
    let mut bytes = header(&[
        b"TGFR",
        &[1, 0],
        &64u16.to_le_bytes(),
        &(payload.len() as u32).to_le_bytes(),
        &(records.len() as u32).to_le_bytes(),
        &base.to_le_bytes(),
        &before.to_le_bytes(),
        &durable.to_le_bytes(),
        &epoch.to_le_bytes(),
        &LOG_ID.to_le_bytes(),
    ]);
    bytes.extend(payload);
    (bytes, positions)
}
