//! Read-only maps of whole files: the only unsafe code of the crate.
//!
//! A map gives out slices only below its `stable` mark, which says "nobody writes these bytes any more". The
//! file may be written above the mark at the same time; no reference to those bytes ever exists here.

use crate::sync::atomic::{AtomicUsize, Ordering};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::ops::Range;

/// A whole file, mapped for reading.
pub(super) struct Map {
    map: MmapRaw,
    stable: AtomicUsize,
}

impl Map {
    /// Maps a file that is not empty. Bytes below `stable` are never written again while the map lives, and the
    /// file is never shortened (the folder is locked; only the log writes in it, and it only appends).
    pub(super) fn new(file: &File, stable: usize) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw_read_only(file)?;
        let stable = AtomicUsize::new(stable.min(map.len()));
        Ok(Self { map, stable })
    }

    /// Bytes mapped.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Everything below is written for good.
    pub(super) fn stable(&self) -> usize {
        self.stable.load(Ordering::Acquire)
    }

    /// Declares everything below `end` written for good. Never goes back.
    pub(super) fn settle(&self, end: usize) {
        self.stable.fetch_max(end.min(self.map.len()), Ordering::Release);
    }

    /// These bytes, when all of them are stable.
    #[allow(unsafe_code)]
    pub(super) fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.stable() {
            return None;
        }
        // SAFETY: start <= end <= stable <= map.len(), so the range lies inside the mapping, which lives as long as
        // `self` and so as the slice. Bytes below `stable` are not written again and the file is not shortened
        // while it is mapped: `new` and `settle` state that, their callers in this module's parent uphold it.
        Some(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(range.start), range.len()) })
    }
}
