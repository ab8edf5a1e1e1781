//! One segment: a file of fixed size, named by the position of its first byte, all zeros before use.
//! FORMAT.md, "Segment".

use super::error::{OpenError, ReadError};
use super::frame::FORMAT_VERSION;
use super::map::Map;
use super::record::{u32_at, u64_at};
use crate::Position;
use crate::storage::{Storage, StorageFile};
use crate::sync::{Mutex, RwLock};
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the segments.
pub(super) const DIR: &str = "commitlog";
/// Bytes of a segment's own header.
pub(super) const SEGMENT_HEADER: u64 = 64;
/// Bytes of a segment: a multiple of the smallest, at most the largest.
pub(super) const SEGMENT_MIN: u64 = 4096;
pub(super) const SEGMENT_MAX: u64 = 1 << 30;
/// What the header's write brings to the disk with it.
const BLOCK: u64 = 4096;
const MAGIC: [u8; 8] = *b"TGSEGMNT";
/// Name of a segment that is being made.
pub(super) const UNFINISHED: &str = "next.tmp";

/// A segment that is complete on disk.
pub(super) struct Segment {
    /// Position of the file's first byte.
    pub(super) base: u64,
    /// Bytes of the file, as its header says.
    pub(super) len: u64,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) map: Map,
    /// Held while zeros are written into it.
    pub(super) filling: Mutex<()>,
}

/// What a segment's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentHeader {
    pub(super) log_id: u64,
    pub(super) len: u64,
}

impl SegmentHeader {
    /// Reads the header of the segment at `base`; `Ok(None)` when it is damaged, `Err` with a newer version.
    pub(super) fn parse(head: &[u8; SEGMENT_HEADER as usize], base: u64) -> Result<Option<Self>, u32> {
        if head[..8] != MAGIC || u32_at(head, 60) != Some(crc32c::crc32c(&head[..60])) {
            return Ok(None);
        }
        let version = u32_at(head, 8).unwrap_or(0);
        if version > FORMAT_VERSION {
            return Err(version);
        }
        let (Some(log_id), Some(len)) = (u64_at(head, 16), u64_at(head, 32)) else { return Ok(None) };
        // A length that no release writes would be allocated, and make positions overflow.
        let possible = (SEGMENT_MIN..=SEGMENT_MAX).contains(&len)
            && len.is_multiple_of(SEGMENT_MIN)
            && base.checked_add(len).is_some();
        Ok((possible && u64_at(head, 24) == Some(base)).then_some(Self { log_id, len }))
    }
}

impl Segment {
    /// Path in the data folder.
    pub(super) fn path_of(base: u64) -> PathBuf {
        Path::new(DIR).join(format!("{base:020}"))
    }

    /// Base from a file name; `None` when it is no segment's.
    pub(super) fn base_of(name: &Path) -> Option<u64> {
        let name = name.to_str()?;
        (name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok())?
    }

    /// Makes a segment: its space allocated, its header written, synced under another name first, so that one with a
    /// segment's name is always whole. Failing leaves nothing behind that the next try, or the next open, does not replace.
    pub(super) fn create(storage: &dyn Storage, base: u64, len: u64, log_id: u64) -> io::Result<Self> {
        let unfinished = Path::new(DIR).join(UNFINISHED);
        let made = (|| {
            let file = storage.open(&unfinished, true)?;
            file.allocate(0)?;
            file.allocate(len)?;
            Self::write_header(&*file, base, len, log_id)?;
            file.sync()
        })();
        if let Err(error) = made {
            // Gives back what a full disk had left; when this fails too, the next try starts with the same file.
            let _ = storage.remove(&unfinished);
            return Err(error);
        }
        storage.rename(&unfinished, &Self::path_of(base))?;
        storage.sync_dir(Path::new(DIR))?;
        Self::open(storage, base, len, SEGMENT_HEADER)
    }

    /// Writes the header of a segment.
    pub(super) fn write_header(file: &dyn StorageFile, base: u64, len: u64, log_id: u64) -> io::Result<()> {
        let mut head = [0; SEGMENT_HEADER as usize];
        head[0..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&(SEGMENT_HEADER as u32).to_le_bytes());
        head[16..24].copy_from_slice(&log_id.to_le_bytes());
        head[24..32].copy_from_slice(&base.to_le_bytes());
        head[32..40].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c(&head[..60]);
        head[60..64].copy_from_slice(&crc.to_le_bytes());
        file.write_at(0, &[IoSlice::new(&head)])
    }

    /// Reads the header; `Ok(None)` when it is damaged.
    pub(super) fn read_header(
        file: &std::fs::File,
        base: u64,
        path: &Path,
    ) -> Result<Option<SegmentHeader>, OpenError> {
        let mut head = [0; SEGMENT_HEADER as usize];
        match file.read_exact_at(&mut head, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
            Ok(()) => {}
        }
        SegmentHeader::parse(&head, base).map_err(|found| OpenError::NewerFormat {
            file: path.to_owned(),
            found,
            known: FORMAT_VERSION,
        })
    }

    /// Opens and maps a segment whose bytes below offset `stable` are written for good.
    pub(super) fn open(storage: &dyn Storage, base: u64, len: u64, stable: u64) -> io::Result<Self> {
        let file = storage.open(&Self::path_of(base), false)?;
        let map = Map::new(file.file(), stable as usize)?;
        Ok(Self { base, len, file, map, filling: Mutex::new(()) })
    }

    /// Bytes of the file that [`Segment::create`] has not written: for [`StorageFile::fill`], before frames come.
    pub(super) fn unfilled(len: u64) -> Range<u64> {
        BLOCK.min(len)..len
    }

    /// Position of the first frame.
    pub(super) fn start(&self) -> u64 {
        self.base + SEGMENT_HEADER
    }

    /// Position after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.base + self.len
    }

    /// Everything below is written for good.
    pub(super) fn stable_end(&self) -> u64 {
        self.base + self.map.stable() as u64
    }

    /// Stable bytes between two positions of this segment.
    pub(super) fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        let start = range.start.checked_sub(self.base)?;
        let end = range.end.checked_sub(self.base)?;
        self.map.slice(start as usize..end as usize)
    }

    /// Declares everything below a position written for good.
    pub(super) fn settle(&self, end: u64) {
        self.map.settle(end.saturating_sub(self.base) as usize);
    }

    /// Stable bytes that keep the segment mapped.
    pub(super) fn owned_bytes(self: &Arc<Self>, range: Range<u64>) -> Option<Bytes> {
        self.bytes(range.clone())?;
        Some(Bytes::from_owner(Slice { segment: Arc::clone(self), range }))
    }
}

/// The segments that readers may look into, ascending.
pub(super) struct Segments {
    root: PathBuf,
    pub(super) log_id: u64,
    list: RwLock<Vec<Arc<Segment>>>,
}

impl Segments {
    pub(super) fn new(root: PathBuf, log_id: u64, list: Vec<Arc<Segment>>) -> Self {
        Self { root, log_id, list: RwLock::new(list) }
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.list.write().push(segment);
    }

    /// The segment in which a position lies; the end of the last one lies in it.
    pub(super) fn at(&self, position: u64) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let index = list.partition_point(|segment| segment.base <= position).checked_sub(1)?;
        Some(Arc::clone(&list[index])).filter(|segment| position <= segment.end())
    }

    /// Why there is nothing to read at a position that is in no segment.
    pub(super) fn absent(&self, position: u64) -> ReadError {
        let position = Position(position);
        match self.list.read().first() {
            Some(first) if position.0 < first.base => {
                ReadError::Removed { position, start: Position(first.start()) }
            }
            _ => ReadError::Absent(position),
        }
    }

    /// Base of the first segment that must stay when all that end at or below `position` may go; never the last one
    /// of the list goes.
    pub(super) fn first_kept(&self, position: u64) -> u64 {
        let list = self.list.read();
        let kept = list.partition_point(|segment| segment.end() <= position).min(list.len() - 1);
        list[kept].base
    }

    /// Where each of them begins and ends.
    pub(super) fn ranges(&self) -> Vec<Range<Position>> {
        self.list.read().iter().map(|one| Position(one.base)..Position(one.end())).collect()
    }

    /// Takes out those below `base`. Whoever holds one keeps it.
    pub(super) fn forget_below(&self, base: u64) -> Vec<Arc<Segment>> {
        let mut list = self.list.write();
        let gone = list.partition_point(|segment| segment.base < base);
        list.drain(..gone).collect()
    }

    /// Those with bytes in a range of positions.
    pub(super) fn overlapping(&self, range: Range<u64>) -> Vec<Arc<Segment>> {
        let list = self.list.read();
        list.iter().filter(|one| one.base < range.end && one.end() > range.start).cloned().collect()
    }

    /// File and byte of a position, for messages.
    pub(super) fn place(&self, segment: &Segment, position: u64) -> (PathBuf, u64) {
        (self.root.join(Segment::path_of(segment.base)), position - segment.base)
    }
}

struct Slice {
    segment: Arc<Segment>,
    range: Range<u64>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // Stable bytes stay stable, and `owned_bytes` has looked.
        self.segment.bytes(self.range.clone()).unwrap_or_default()
    }
}
