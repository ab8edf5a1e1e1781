//! A set of offsets as half-open ranges, kept apart and ascending.

use crate::wire::Range;
use std::collections::BTreeMap;

/// Set of `u64`; neighbours are joined, so dense sets stay small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IntervalSet {
    /// Start of each range to its end; ranges neither touch nor overlap, none is empty.
    ranges: BTreeMap<u64, u64>,
}

/// The range needs one more entry than allowed; nothing was inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the set already holds {0} separate ranges")]
pub struct TooManyRanges(pub usize);

impl IntervalSet {
    /// Adds `[from, to)`; an empty range adds nothing.
    pub fn insert(&mut self, (mut from, mut to): Range) {
        if from >= to {
            return;
        }
        // Only the last range that starts at or before `to` can be touched first; from there backwards.
        while let Some((&start, &end)) = self.ranges.range(..=to).next_back() {
            if end < from {
                break;
            }
            from = from.min(start);
            to = to.max(end);
            self.ranges.remove(&start);
        }
        self.ranges.insert(from, to);
    }

    /// As [`IntervalSet::insert`], unless that would leave more than `ranges_max` ranges.
    pub fn insert_bounded(&mut self, (from, to): Range, ranges_max: usize) -> Result<(), TooManyRanges> {
        let touches = self.ranges.range(..=to).next_back().is_some_and(|(_, end)| *end >= from);
        if !touches && from < to && self.ranges.len() >= ranges_max {
            return Err(TooManyRanges(self.ranges.len()));
        }
        self.insert((from, to));
        Ok(())
    }

    /// Whether `offset` is in it.
    pub fn contains(&self, offset: u64) -> bool {
        self.ranges.range(..=offset).next_back().is_some_and(|(_, end)| *end > offset)
    }

    /// Its ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().map(|(from, to)| (*from, *to))
    }

    /// Number of offsets in it.
    pub fn count(&self) -> u64 {
        self.iter().map(|(from, to)| to - from).sum()
    }

    /// What of `window` is in it.
    pub fn within(&self, (from, to): Range) -> Vec<Range> {
        let clipped = self.iter().map(|(start, end)| (start.max(from), end.min(to)));
        clipped.filter(|(start, end)| start < end).collect()
    }

    /// What of `window` is not in it.
    pub fn holes(&self, (from, to): Range) -> Vec<Range> {
        let mut holes = Vec::new();
        let mut next = from;
        for (start, end) in self.within((from, to)) {
            if next < start {
                holes.push((next, start));
            }
            next = end;
        }
        if next < to {
            holes.push((next, to));
        }
        holes
    }
}
