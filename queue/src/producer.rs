//! Which numbered batches of which producers are in the log, so that one that is sent again is not appended again.
//! Derived from the log: a batch carries its producer and number.

use crate::Appended;
use crate::codec::{Reader, put_text, put_u32, put_u64};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Producers remembered, at most.
const PRODUCERS_MAX: usize = 10_000;
/// Sequence numbers of one producer that are remembered: the highest ones.
const SEQUENCES_MAX: usize = 32;
/// A producer that was silent for so long may be forgotten to make room for another.
const SILENT_MS: u64 = 24 * 60 * 60 * 1000;

/// What is known of a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    New,
    /// It was appended: there.
    Repeated(Appended),
    /// Too far below the producer's highest to tell.
    TooOld,
    /// A new producer, and as many as can be remembered are active.
    TooMany,
}

#[derive(Debug, Default)]
struct Window {
    appended: BTreeMap<u64, Appended>,
    /// The highest number that was forgotten.
    forgotten: Option<u64>,
    used_ms: u64,
}

/// All producers.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    windows: HashMap<Box<str>, Window, foldhash::fast::RandomState>,
}

impl Producers {
    pub(crate) fn look(&self, id: &str, sequence: u64, now_ms: u64) -> Known {
        let Some(window) = self.windows.get(id) else {
            let full = self.windows.len() >= PRODUCERS_MAX;
            return if full && self.silent(now_ms).is_none() { Known::TooMany } else { Known::New };
        };
        match window.appended.get(&sequence) {
            Some(appended) => Known::Repeated(*appended),
            None if window.forgotten.is_some_and(|forgotten| sequence <= forgotten) => Known::TooOld,
            None => Known::New,
        }
    }

    /// Remembers a batch that the log has accepted, or that a recovery found. The first of a number stays.
    pub(crate) fn note(&mut self, id: &str, sequence: u64, appended: Appended, now_ms: u64) {
        if !self.windows.contains_key(id) && self.windows.len() >= PRODUCERS_MAX {
            // A recovery meets them in the order of the log: who was silent longest is the one to forget.
            let silent = self.silent(now_ms).or_else(|| self.silent(u64::MAX));
            if let Some(id) = silent {
                self.windows.remove(&id);
            }
        }
        let window = self.windows.entry(id.into()).or_default();
        window.used_ms = window.used_ms.max(now_ms);
        // A start may note again what a snapshot has seen forgotten: that must not make older numbers new.
        if window.forgotten.is_some_and(|forgotten| sequence <= forgotten) {
            return;
        }
        window.appended.entry(sequence).or_insert(appended);
        if window.appended.len() > SEQUENCES_MAX {
            window.forgotten = window.appended.pop_first().map(|(sequence, _)| sequence);
        }
    }

    /// Adds everything to a snapshot.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.windows.len() as u32);
        for (id, window) in &self.windows {
            put_text(out, id);
            put_u64(out, window.used_ms);
            put_u32(out, u32::from(window.forgotten.is_some()));
            put_u64(out, window.forgotten.unwrap_or(0));
            put_u32(out, window.appended.len() as u32);
            for (&sequence, appended) in &window.appended {
                put_u64(out, sequence);
                appended.encode(out);
            }
        }
    }

    /// What [`Self::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut windows = HashMap::default();
        for _ in 0..reader.u32()? {
            let (id, used_ms) = (reader.text()?, reader.u64()?);
            let (was_forgotten, forgotten) = (reader.u32()? != 0, reader.u64()?);
            let appended = (0..reader.u32()?)
                .map(|_| Some((reader.u64()?, Appended::decode(reader)?)))
                .collect::<Option<_>>()?;
            let window = Window { appended, forgotten: was_forgotten.then_some(forgotten), used_ms };
            windows.insert(id.into(), window);
        }
        Some(Self { windows })
    }

    /// Who was silent longest, if it was long enough.
    fn silent(&self, now_ms: u64) -> Option<Box<str>> {
        let (id, window) = self.windows.iter().min_by_key(|(_, window)| window.used_ms)?;
        (window.used_ms.saturating_add(SILENT_MS) <= now_ms).then(|| id.clone())
    }
}

/// The property of a numbered batch.
pub(crate) fn encode(id: &str, sequence: u64) -> String {
    format!("{sequence} {id}")
}

/// Sequence and id of such a property.
pub(crate) fn decode(property: &str) -> Option<(u64, &str)> {
    let (sequence, id) = property.split_once(' ')?;
    Some((sequence.parse().ok()?, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    fn at(position: u64) -> Appended {
        Appended { first: Position(position), end: Position(position + 8), queue: 0, offset: position }
    }

    #[test]
    fn what_falls_out_of_the_window_is_refused_and_never_appended_again() {
        let mut producers = Producers::default();
        for sequence in 0..40 {
            assert_eq!(producers.look("a", sequence, 0), Known::New);
            producers.note("a", sequence, at(sequence), 0);
        }
        assert_eq!(producers.look("a", 39, 0), Known::Repeated(at(39)));
        assert_eq!(producers.look("a", 8, 0), Known::Repeated(at(8)));
        assert_eq!(producers.look("a", 7, 0), Known::TooOld);
        assert_eq!(producers.look("b", 7, 0), Known::New);
    }

    #[test]
    fn a_gap_may_be_filled_later() {
        let mut producers = Producers::default();
        producers.note("a", 5, at(5), 0);
        assert_eq!(producers.look("a", 3, 0), Known::New);
        producers.note("a", 3, at(9), 0);
        assert_eq!(producers.look("a", 3, 0), Known::Repeated(at(9)));
    }

    #[test]
    fn active_producers_are_never_forgotten_for_a_new_one() {
        let mut producers = Producers::default();
        for number in 0..PRODUCERS_MAX as u64 {
            producers.note(&number.to_string(), 1, at(number), number);
        }
        assert_eq!(producers.look("new", 1, SILENT_MS - 1), Known::TooMany);
        assert_eq!(producers.look("new", 1, SILENT_MS), Known::New);
        producers.note("new", 1, at(1), SILENT_MS);
        assert_eq!(producers.windows.len(), PRODUCERS_MAX);
        assert_eq!(producers.look("1", 1, SILENT_MS), Known::Repeated(at(1)));
    }

    #[test]
    fn what_is_noted_again_after_a_snapshot_changes_nothing() {
        let mut producers = Producers::default();
        for sequence in 0..40 {
            producers.note("a", sequence, at(sequence), 7);
        }
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let mut again = Producers::decode(&mut Reader(&bytes)).unwrap();
        for sequence in 2..40 {
            again.note("a", sequence, at(sequence + 1_000), 7);
        }
        assert_eq!(again.look("a", 7, 7), Known::TooOld);
        assert_eq!(again.look("a", 4, 7), Known::TooOld);
        assert_eq!(again.look("a", 8, 7), Known::Repeated(at(8)));
        assert_eq!(again.look("a", 40, 7), Known::New);
    }

    #[test]
    fn the_property_reads_back() {
        assert_eq!(decode(&encode("till 7", u64::MAX)), Some((u64::MAX, "till 7")));
        assert_eq!(decode("7"), None);
    }
}
