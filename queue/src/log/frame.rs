//! The header of a commit frame, the unit that survives a crash whole or not at all. FORMAT.md, "Frame".
//!
//! Only the header: its records are the caller's.

use super::record::{u32_at, u64_at};

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER: usize = 64;
/// First four bytes of every frame.
pub(super) const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"TGFR");
/// Version of the format written by this release, of segments, frames and the checkpoint.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// Records.
    Data = 0,
    /// Nothing: it covers a range that a salvage gave up.
    Skip = 1,
}

/// A frame's header, as far as readers need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: FrameKind,
    /// Bytes after the header.
    pub(super) payload_len: u32,
    pub(super) records: u32,
    /// Where the header stands.
    pub(super) base: u64,
    /// Where the frame before it ended; differs from `base` at the start of a segment.
    pub(super) prev_end: u64,
    /// Everything below was on disk when this header was made.
    pub(super) durable: u64,
    /// Boot epoch of the writer.
    pub(super) epoch: u64,
}

/// What stands at a place where a frame may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Frame(FrameHeader),
    /// A sound header of a format that this release does not know.
    Newer(u32),
    Nothing,
}

impl FrameHeader {
    /// Where the frame ends.
    pub(super) fn end(&self) -> u64 {
        self.base + FRAME_HEADER as u64 + u64::from(self.payload_len)
    }

    /// Writes the header into the first bytes of `out`.
    pub(super) fn encode(&self, log_id: u64, out: &mut [u8]) {
        out[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        out[4] = FORMAT_VERSION as u8;
        out[5] = self.kind as u8;
        out[6..8].copy_from_slice(&(FRAME_HEADER as u16).to_le_bytes());
        out[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..24].copy_from_slice(&self.base.to_le_bytes());
        out[24..32].copy_from_slice(&self.prev_end.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        out[48..56].copy_from_slice(&log_id.to_le_bytes());
        out[56..60].fill(0);
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header of a frame of log `log_id` that begins at `base`. Anything that does not fit is `Nothing`.
    pub(super) fn parse(bytes: &[u8], log_id: u64, base: u64) -> Found {
        Self::read(bytes, log_id, base).unwrap_or(Found::Nothing)
    }

    fn read(bytes: &[u8], log_id: u64, base: u64) -> Option<Found> {
        if u32_at(bytes, 0)? != FRAME_MAGIC {
            return None;
        }
        // Magic, version, header length, base, log id and "the last four bytes are the checksum" keep their places
        // in all versions, so that an old release can tell a newer frame from damage.
        let header_len = usize::from(u16::from_le_bytes(bytes.get(6..8)?.try_into().ok()?));
        let crc_at = header_len.checked_sub(4).filter(|at| *at >= FRAME_HEADER - 4)?;
        if u32_at(bytes, crc_at)? != crc32c::crc32c(&bytes[..crc_at]) {
            return None;
        }
        if u64_at(bytes, 16)? != base || u64_at(bytes, 48)? != log_id {
            return None;
        }
        let version = u32::from(bytes[4]);
        if version > FORMAT_VERSION {
            return Some(Found::Newer(version));
        }
        let kind = match bytes[5] {
            0 => FrameKind::Data,
            1 => FrameKind::Skip,
            _ => return None,
        };
        let header = Self {
            kind,
            payload_len: u32_at(bytes, 8)?,
            records: u32_at(bytes, 12)?,
            base,
            prev_end: u64_at(bytes, 24)?,
            durable: u64_at(bytes, 32)?,
            epoch: u64_at(bytes, 40)?,
        };
        let sound = header_len == FRAME_HEADER
            && header.payload_len.is_multiple_of(8)
            && header.durable <= base
            && header.prev_end <= base;
        sound.then_some(Found::Frame(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Data,
            payload_len: 800,
            records: 3,
            base: 4096,
            prev_end: 4000,
            durable: 3000,
            epoch: 7,
        }
    }

    #[test]
    fn header_reads_back_only_at_its_place_in_its_log() {
        let mut bytes = [0; FRAME_HEADER];
        header().encode(99, &mut bytes);
        assert_eq!(FrameHeader::parse(&bytes, 99, 4096), Found::Frame(header()));
        assert_eq!(FrameHeader::parse(&bytes, 98, 4096), Found::Nothing);
        assert_eq!(FrameHeader::parse(&bytes, 99, 4104), Found::Nothing);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let mut bytes = [0; FRAME_HEADER];
        header().encode(99, &mut bytes);
        for bit in 0..FRAME_HEADER * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::parse(&bad, 99, 4096), Found::Nothing, "bit {bit}");
        }
    }

    #[test]
    fn newer_frame_is_told_from_damage() {
        let mut bytes = [0; 80];
        header().encode(99, &mut bytes);
        bytes[4] = 9;
        bytes[6] = 80;
        let crc = crc32c::crc32c(&bytes[..76]);
        bytes[76..80].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FrameHeader::parse(&bytes, 99, 4096), Found::Newer(9));
    }
}
