//! Half messages: in the log, seen by nobody until they are committed. A pure state machine over positions.
//!
//! ```text
//! open ──commit──▶ committed        one way, once; who comes second is told what was first
//!   │ └──roll back──▶ rolled back
//!   └─ checked every so often, then rolled back
//! ```
//!
//! Derived from the log, which holds the half, each check, and the decision.

use crate::codec::{Reader, put_text, put_u32, put_u64};
use crate::{Appended, Outcome, Position};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Open ones, at most.
const OPEN_MAX: usize = 100_000;
/// Decided ones that are remembered: the last ones.
const DECIDED_MAX: usize = 50_000;

/// A half message that is not decided.
#[derive(Debug)]
struct Half {
    producer_group: Arc<str>,
    checks: u32,
    /// When it is checked next.
    due_ms: u64,
    /// What its message will take in the log.
    bytes: u32,
}

/// What is known of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Decided(Outcome, Appended),
    /// No half message, or one that was decided long ago.
    Unknown,
}

/// What the log says of half messages, in its order.
#[derive(Debug)]
pub(crate) enum Event {
    Opened { id: Position, producer_group: Arc<str>, due_ms: u64, bytes: u32 },
    Checked { id: Position, number: u32, due_ms: u64 },
    Decided { id: Position, outcome: Outcome, appended: Appended },
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    open: BTreeMap<Position, Half>,
    due: BTreeSet<(u64, Position)>,
    /// Checks that nobody has taken yet, by producer group.
    asked: HashMap<Arc<str>, BTreeSet<Position>, foldhash::fast::RandomState>,
    decided: HashMap<Position, (Outcome, Appended), foldhash::fast::RandomState>,
    decided_order: VecDeque<Position>,
    bytes: u64,
}

impl Halves {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= OPEN_MAX
    }

    /// What the log needs to commit all that are open.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|&(at_ms, _)| at_ms)
    }

    pub(crate) fn state(&self, id: Position) -> State {
        if self.open.contains_key(&id) {
            return State::Open;
        }
        let decided = self.decided.get(&id);
        decided.map_or(State::Unknown, |&(outcome, appended)| State::Decided(outcome, appended))
    }

    /// Takes what the log says, or what it has just accepted; a second time it changes nothing.
    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Opened { id, producer_group, due_ms, bytes } => {
                if self.state(id) == State::Unknown {
                    self.bytes += u64::from(bytes);
                    self.due.insert((due_ms, id));
                    self.open.insert(id, Half { producer_group, checks: 0, due_ms, bytes });
                }
            }
            Event::Checked { id, number, due_ms } => {
                if let Some(half) = self.open.get_mut(&id)
                    && half.checks < number
                {
                    half.checks = number;
                    self.reschedule(id, due_ms);
                }
            }
            Event::Decided { id, outcome, appended } => self.decide(id, outcome, appended),
        }
    }

    fn decide(&mut self, id: Position, outcome: Outcome, appended: Appended) {
        let Some(half) = self.open.remove(&id) else { return };
        self.bytes -= u64::from(half.bytes);
        self.due.remove(&(half.due_ms, id));
        if let Some(asked) = self.asked.get_mut(&half.producer_group) {
            asked.remove(&id);
            if asked.is_empty() {
                self.asked.remove(&half.producer_group);
            }
        }
        self.decided.insert(id, (outcome, appended));
        self.decided_order.push_back(id);
        if self.decided_order.len() > DECIDED_MAX
            && let Some(oldest) = self.decided_order.pop_front()
        {
            self.decided.remove(&oldest);
        }
    }

    /// The oldest one that is open.
    pub(crate) fn oldest(&self) -> Option<Position> {
        self.open.first_key_value().map(|(&id, _)| id)
    }

    /// Adds everything to a snapshot but who was asked: they are asked again when the next check is due.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.open.len() as u32);
        for (id, half) in &self.open {
            put_u64(out, id.0);
            put_text(out, &half.producer_group);
            put_u32(out, half.checks);
            put_u64(out, half.due_ms);
            put_u32(out, half.bytes);
        }
        put_u32(out, self.decided_order.len() as u32);
        for id in &self.decided_order {
            let Some((outcome, appended)) = self.decided.get(id) else { continue };
            put_u64(out, id.0);
            put_u32(out, u32::from(*outcome == Outcome::Committed));
            appended.encode(out);
        }
    }

    /// What [`Self::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut halves = Self::default();
        for _ in 0..reader.u32()? {
            let (id, producer_group) = (Position(reader.u64()?), reader.text()?.into());
            let (checks, due_ms, bytes) = (reader.u32()?, reader.u64()?, reader.u32()?);
            halves.bytes += u64::from(bytes);
            halves.due.insert((due_ms, id));
            halves.open.insert(id, Half { producer_group, checks, due_ms, bytes });
        }
        for _ in 0..reader.u32()? {
            let id = Position(reader.u64()?);
            let outcome = if reader.u32()? != 0 { Outcome::Committed } else { Outcome::RolledBack };
            halves.decided.insert(id, (outcome, Appended::decode(reader)?));
            halves.decided_order.push_back(id);
        }
        Some(halves)
    }

    fn reschedule(&mut self, id: Position, due_ms: u64) {
        if let Some(half) = self.open.get_mut(&id) {
            self.due.remove(&(half.due_ms, id));
            half.due_ms = due_ms;
            self.due.insert((due_ms, id));
        }
    }

    /// The next one to be checked, and how often it was. It is looked at again at `again_ms`, unless something
    /// else comes of it.
    pub(crate) fn take_due(&mut self, now_ms: u64, again_ms: u64) -> Option<(Position, u32)> {
        let (_, id) = self.due.first().copied().filter(|&(at_ms, _)| at_ms <= now_ms)?;
        self.reschedule(id, again_ms);
        Some((id, self.open.get(&id)?.checks))
    }

    /// Its producer group is to be asked.
    pub(crate) fn ask(&mut self, id: Position) {
        if let Some(half) = self.open.get(&id) {
            self.asked.entry(Arc::clone(&half.producer_group)).or_default().insert(id);
        }
    }

    /// Takes up to `max` questions for a producer group: which, and the number of the check.
    pub(crate) fn take_asked(&mut self, producer_group: &str, max: usize) -> Vec<(Position, u32)> {
        let Some(asked) = self.asked.get_mut(producer_group) else { return Vec::new() };
        let ids: Vec<_> = std::iter::from_fn(|| asked.pop_first()).take(max).collect();
        if asked.is_empty() {
            self.asked.remove(producer_group);
        }
        ids.into_iter().filter_map(|id| Some((id, self.open.get(&id)?.checks))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Position = Position(64);

    fn appended(at: u64) -> Appended {
        Appended { first: Position(at), end: Position(at + 8), queue: 0, offset: 0 }
    }

    fn opened() -> Halves {
        let mut halves = Halves::default();
        halves.apply(Event::Opened { id: ID, producer_group: "shop".into(), due_ms: 10, bytes: 100 });
        halves
    }

    #[test]
    fn what_was_decided_first_stays() {
        let mut halves = opened();
        halves.apply(Event::Decided { id: ID, outcome: Outcome::RolledBack, appended: appended(1) });
        halves.apply(Event::Decided { id: ID, outcome: Outcome::Committed, appended: appended(2) });
        halves.apply(Event::Opened { id: ID, producer_group: "shop".into(), due_ms: 10, bytes: 100 });
        assert_eq!(halves.state(ID), State::Decided(Outcome::RolledBack, appended(1)));
        assert_eq!((halves.len(), halves.bytes(), halves.next_due_ms()), (0, 0, None));
    }

    #[test]
    fn a_decision_survives_a_snapshot_and_what_the_log_says_again() {
        let mut halves = opened();
        let open = Position(640);
        halves.apply(Event::Opened { id: open, producer_group: "shop".into(), due_ms: 20, bytes: 7 });
        halves.apply(Event::Checked { id: open, number: 2, due_ms: 30 });
        halves.apply(Event::Decided { id: ID, outcome: Outcome::RolledBack, appended: appended(1) });
        let mut bytes = Vec::new();
        halves.encode(&mut bytes);
        let mut again = Halves::decode(&mut Reader(&bytes)).unwrap();
        again.apply(Event::Opened { id: ID, producer_group: "shop".into(), due_ms: 10, bytes: 100 });
        again.apply(Event::Checked { id: open, number: 2, due_ms: 99 });
        again.apply(Event::Decided { id: ID, outcome: Outcome::Committed, appended: appended(2) });
        assert_eq!(again.state(ID), State::Decided(Outcome::RolledBack, appended(1)));
        assert_eq!((again.len(), again.bytes(), again.next_due_ms()), (1, 7, Some(30)));
        assert_eq!(again.oldest(), Some(open));
    }

    #[test]
    fn a_check_is_asked_once_and_counts_once() {
        let mut halves = opened();
        assert_eq!(halves.take_due(9, 0), None);
        assert_eq!(halves.take_due(10, 15), Some((ID, 0)));
        assert_eq!(halves.next_due_ms(), Some(15), "looked at again should nothing come of it");
        halves.apply(Event::Checked { id: ID, number: 1, due_ms: 40 });
        halves.ask(ID);
        halves.apply(Event::Checked { id: ID, number: 1, due_ms: 99 });
        assert_eq!(halves.next_due_ms(), Some(40));
        assert!(halves.take_asked("other", 9).is_empty());
        assert_eq!(halves.take_asked("shop", 9), [(ID, 1)]);
        assert!(halves.take_asked("shop", 9).is_empty() && halves.asked.is_empty());
    }

    #[test]
    fn what_is_remembered_of_decided_ones_is_bounded() {
        let mut halves = Halves::default();
        for at in 0..DECIDED_MAX as u64 + 10 {
            let id = Position(at);
            halves.apply(Event::Opened { id, producer_group: "shop".into(), due_ms: 10, bytes: 100 });
            halves.apply(Event::Decided { id, outcome: Outcome::Committed, appended: appended(at) });
        }
        assert_eq!(halves.decided.len(), DECIDED_MAX);
        assert_eq!(halves.state(Position(9)), State::Unknown);
    }
}
