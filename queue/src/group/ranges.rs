//! Sets of offsets as `[start, end)` ranges. What happened to a queue's messages is contiguous nearly
//! everywhere, so a set of millions is a handful of ranges.

use std::collections::BTreeMap;

/// A set of offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    by_start: BTreeMap<u64, u64>,
    total: u64,
}

impl RangeSet {
    /// Members.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Members below `end`.
    pub(crate) fn total_below(&self, end: u64) -> u64 {
        self.by_start.range(..end).map(|(&start, &until)| until.min(end) - start).sum()
    }

    /// Ranges the set falls into: its size in memory.
    pub(crate) fn ranges(&self) -> usize {
        self.by_start.len()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(&start, &end)| (start, end))
    }

    pub(crate) fn to_vec(&self) -> Vec<(u64, u64)> {
        self.iter().collect()
    }

    pub(crate) fn contains(&self, offset: u64) -> bool {
        self.by_start.range(..=offset).next_back().is_some_and(|(_, &end)| offset < end)
    }

    /// The smallest offset at or above `from` that is not a member.
    pub(crate) fn next_absent(&self, from: u64) -> u64 {
        match self.by_start.range(..=from).next_back() {
            Some((_, &end)) if from < end => end,
            _ => from,
        }
    }

    /// The smallest member at or above `from`.
    pub(crate) fn next_present(&self, from: u64) -> Option<u64> {
        if self.contains(from) {
            return Some(from);
        }
        self.by_start.range(from..).next().map(|(&start, _)| start)
    }

    /// Adds one offset; false when it was a member.
    pub(crate) fn insert(&mut self, offset: u64) -> bool {
        let before = self.total;
        self.insert_range(offset, offset + 1);
        self.total > before
    }

    /// Adds `[start, end)`.
    pub(crate) fn insert_range(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut merged_start, mut merged_end) = (start, end);
        // Ranges that overlap or touch: at most one begins before `start`, the others begin inside.
        if let Some((&before, &before_end)) = self.by_start.range(..start).next_back()
            && before_end >= start
        {
            merged_start = before;
            merged_end = merged_end.max(before_end);
            self.by_start.remove(&before);
            self.total -= before_end - before;
        }
        while let Some((&next, &next_end)) = self.by_start.range(merged_start..=merged_end).next() {
            merged_end = merged_end.max(next_end);
            self.by_start.remove(&next);
            self.total -= next_end - next;
        }
        self.by_start.insert(merged_start, merged_end);
        self.total += merged_end - merged_start;
    }

    /// Takes `[start, end)` out.
    pub(crate) fn remove_range(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let first = self.by_start.range(..start).next_back().filter(|&(_, &e)| e > start).map(|(&s, _)| s);
        let mut at = first.unwrap_or(start);
        while at < end
            && let Some((&hit, &hit_end)) = self.by_start.range(at..end).next()
        {
            self.by_start.remove(&hit);
            self.total -= hit_end - hit;
            if hit < start {
                self.by_start.insert(hit, start);
                self.total += start - hit;
            }
            if hit_end > end {
                self.by_start.insert(end, hit_end);
                self.total += hit_end - end;
            }
            at = hit_end.min(end);
        }
    }

    /// Takes one offset out; false when it was no member.
    pub(crate) fn remove(&mut self, offset: u64) -> bool {
        let before = self.total;
        self.remove_range(offset, offset + 1);
        self.total < before
    }

    /// Takes the smallest offset out.
    pub(crate) fn pop_first(&mut self) -> Option<u64> {
        let (&start, _) = self.by_start.first_key_value()?;
        self.remove(start);
        Some(start)
    }

    /// Forgets the oldest ranges that end at or below `floor`, until at most `ranges_max` are left.
    /// True when something was forgotten.
    pub(crate) fn forget_oldest(&mut self, ranges_max: usize, floor: u64) -> bool {
        let mut forgot = false;
        while self.by_start.len() > ranges_max {
            match self.by_start.first_entry() {
                Some(oldest) if *oldest.get() <= floor => {
                    let (start, end) = oldest.remove_entry();
                    self.total -= end - start;
                    forgot = true;
                }
                _ => break,
            }
        }
        forgot
    }
}

impl FromIterator<(u64, u64)> for RangeSet {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut set = Self::default();
        for (start, end) in ranges {
            set.insert_range(start, end);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(ops in prop::collection::vec((0u8..4, 0u64..60, 0u64..12), 0..120)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (op, at, len) in ops {
                match op {
                    0 => { set.insert_range(at, at + len); model.extend(at..at + len); }
                    1 => { set.remove_range(at, at + len); model.retain(|o| !(at..at + len).contains(o)); }
                    2 => prop_assert_eq!(set.insert(at), model.insert(at)),
                    _ => prop_assert_eq!(set.pop_first(), model.pop_first()),
                }
                prop_assert_eq!(set.total(), model.len() as u64);
                for offset in 0..80 {
                    prop_assert_eq!(set.contains(offset), model.contains(&offset));
                    let absent = (offset..200).find(|o| !model.contains(o));
                    prop_assert_eq!(Some(set.next_absent(offset)), absent);
                    prop_assert_eq!(set.next_present(offset), model.range(offset..).next().copied());
                }
                // Touching ranges are one range, or a full set would not be small.
                let ranges = set.to_vec();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }

    #[test]
    fn only_what_lies_below_the_floor_is_forgotten() {
        let mut set: RangeSet = [(0, 1), (2, 3), (4, 5), (6, 7)].into_iter().collect();
        assert!(set.forget_oldest(1, 5));
        assert_eq!(set.to_vec(), [(6, 7)]);
        assert!(!set.forget_oldest(0, 5));
    }
}
