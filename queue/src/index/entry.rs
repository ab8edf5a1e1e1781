//! One entry of a ConsumeQueue: 20 bytes, little-endian: 8 position, 4 size, 8 tag hash.

use crate::Position;

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 20;

/// Where a message stands, and the hash of its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub position: Position,
    /// Bytes of the record; 0 says that the message was lost with a damaged part of the log.
    pub size: u32,
    pub tag_hash: u64,
}

impl Entry {
    /// Stands for a message that a salvaged log has lost.
    pub(crate) const LOST: Self = Self { position: Position(0), size: 0, tag_hash: 0 };

    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_le_bytes());
        bytes[12..].copy_from_slice(&self.tag_hash.to_le_bytes());
        bytes
    }

    /// `bytes` are [`ENTRY_BYTES`] long.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| bytes[at..at + 4].iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        Self {
            position: Position(word(0) | word(4) << 32),
            size: word(8) as u32,
            tag_hash: word(12) | word(16) << 32,
        }
    }
}

/// FNV-1a: it stands in files, so it must not change between releases. 0 for no tag.
pub(crate) fn tag_hash(tag: &str) -> u64 {
    if tag.is_empty() {
        return 0;
    }
    tag.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_reads_back() {
        let entry =
            Entry { position: Position(0x0102_0304_0506_0708), size: 0xA0B0_C0D0, tag_hash: u64::MAX - 5 };
        assert_eq!(Entry::decode(&entry.encode()), entry);
        assert_eq!(entry.encode()[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
    }
}
