//! The text form of a receipt: which lease, of which group, given out in which life of the process.

use crate::Receipt;

const BYTES: usize = 32;

/// What a receipt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseId {
    /// Rises at every open of the log: leases do not outlive the process.
    pub boot_epoch: u64,
    /// Hash of topic and group.
    pub group: u32,
    pub queue: u32,
    pub offset: u64,
    pub number: u32,
}

impl LeaseId {
    pub(crate) fn to_receipt(self) -> Receipt {
        let mut bytes = [0u8; BYTES];
        bytes[..8].copy_from_slice(&self.boot_epoch.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.group.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.queue.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.number.to_be_bytes());
        // Not against forgery (workers are trusted) but against a receipt cut or mixed up on its way.
        let check = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&check.to_be_bytes());
        let mut text = String::with_capacity(2 * BYTES);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Receipt(text)
    }

    pub(crate) fn parse(receipt: &Receipt) -> Option<Self> {
        let text = receipt.0.as_bytes();
        if text.len() != 2 * BYTES {
            return None;
        }
        let mut bytes = [0u8; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
        }
        let u32_at = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if u32_at(28)? != crc32c::crc32c(&bytes[..28]) {
            return None;
        }
        Some(Self {
            boot_epoch: u64_at(0)?,
            group: u32_at(8)?,
            queue: u32_at(12)?,
            offset: u64_at(16)?,
            number: u32_at(24)?,
        })
    }
}

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_what_was_altered() {
        let lease = LeaseId { boot_epoch: 7, group: 0xDEAD_BEEF, queue: 3, offset: u64::MAX - 1, number: 9 };
        let receipt = lease.to_receipt();
        assert_eq!(LeaseId::parse(&receipt), Some(lease));
        for at in 0..receipt.0.len() {
            let mut altered = receipt.0.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(LeaseId::parse(&Receipt(String::from_utf8(altered).unwrap())), None);
        }
        assert_eq!(LeaseId::parse(&Receipt("é".into())), None);
    }
}
