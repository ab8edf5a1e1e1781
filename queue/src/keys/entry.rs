//! What is kept of a key.

use crate::Position;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of one in a file.
pub(super) const ENTRY_BYTES: usize = 16;
/// Of one hash, as many are kept in a chunk or file: the newest ones. No look-up asks for more.
pub(crate) const SAME_MAX: usize = 1_024;

/// A message with a key of this hash stands there. Ordered by hash; of one hash, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(super) hash: u64,
    pub(super) position: Position,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.hash, other.position).cmp(&(other.hash, self.position))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Entry {
    pub(super) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..].copy_from_slice(&self.position.0.to_le_bytes());
        bytes
    }

    /// `bytes` is one entry.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self { hash: word(0), position: Position(word(8)) }
    }
}

/// Hash of a key of a topic: xxh3 of the topic, a zero byte and the key, seeded by the log, so that nobody outside can
/// make keys that collide.
pub(crate) fn key_hash(log_id: u64, topic: &str, key: &str, buffer: &mut Vec<u8>) -> u64 {
    buffer.clear();
    buffer.extend_from_slice(topic.as_bytes());
    buffer.push(0);
    buffer.extend_from_slice(key.as_bytes());
    xxh3_64_with_seed(buffer, log_id)
}

/// Hash of the id that a message had before it came into its queue.
pub(crate) fn id_hash(log_id: u64, id: Position) -> u64 {
    xxh3_64_with_seed(&id.0.to_le_bytes(), log_id)
}
