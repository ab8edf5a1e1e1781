//! What was promised, independent of how the queue keeps it.

use std::collections::{BTreeMap, HashMap, HashSet};
use tidegate_queue::{Position, Receipt};

/// What is known of a message's fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Accepted; a crash may take it.
    Accepted,
    /// It was told durable, or was seen after a crash: it must stay.
    Durable,
    /// A crash took it: it must not come back.
    Gone,
    /// A half message that is not decided: it must not be seen.
    Half,
    /// Its rollback was accepted, up to here; a crash may take that.
    RollingBack(Position),
    /// Its rollback was told durable: it must never be seen.
    RolledBack,
    /// Retention took it, and was allowed to: it must not come back.
    Deleted,
}

/// A message that began as a half message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Half {
    pub(crate) id: Position,
    pub(crate) begun_ms: u64,
    pub(crate) end: Position,
    /// It was told durable, so a decision must find it.
    pub(crate) durable: bool,
    /// Its rollback was accepted once; after a crash it may be so or not.
    pub(crate) rollback_asked: bool,
}

/// One message that the log accepted.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Messages of one batch share a number; numbers rise in the order of acceptance.
    pub(crate) batch: u32,
    pub(crate) topic: usize,
    /// `None`: the queue chose it.
    pub(crate) queue: Option<u32>,
    pub(crate) due_ms: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) len: usize,
    /// Which ordering key it has.
    pub(crate) key: usize,
    /// The batch is durable once the log is, up to here.
    pub(crate) end: Position,
    pub(crate) fate: Fate,
    pub(crate) half: Option<Half>,
    /// When it was sent.
    pub(crate) at_ms: u64,
}

/// A group that acknowledges.
#[derive(Debug, Default)]
pub(crate) struct GroupModel {
    /// Acknowledged, or its report settled, in any life.
    pub(crate) done: HashSet<u32>,
    /// Delivered in this life, and not done since.
    pub(crate) open: HashSet<u32>,
    /// The same as `done` in this life.
    pub(crate) now: HashSet<u32>,
    /// The same, covered by a checkpoint that was told written: must never come again.
    pub(crate) safe: HashSet<u32>,
    /// Leases of this life, by message, and when they end.
    pub(crate) leases: BTreeMap<u32, (Receipt, u64)>,
    /// How often each was delivered, in all lives.
    pub(crate) deliveries: HashMap<u32, u32>,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) sent: Vec<Sent>,
    pub(crate) batches: u32,
    pub(crate) groups: [GroupModel; 3],
    /// The last of them was told ordered.
    pub(crate) ordered: bool,
    /// Where messages were seen in their queues: none may move, vanish or be replaced.
    pub(crate) seen: HashMap<(usize, u32, u64), (u32, Position)>,
    /// Queues that the topic was told to have.
    pub(crate) queues_min: u32,
    /// Numbered batches: their first message, and where it was told to stand.
    pub(crate) numbered: BTreeMap<u64, (u32, Position)>,
    /// Messages that were old enough and dealt with by all groups when something was deleted.
    pub(crate) deletable: HashSet<u32>,
    /// No offset below may be given out again, though the messages there are deleted.
    pub(crate) offsets: HashMap<(usize, u32), u64>,
    /// Owner's word in this life, and the furthest it was ever given.
    pub(crate) released: Option<Position>,
    pub(crate) released_ever: Position,
}

/// The payload of message `id`: says which it is, and fills `len` bytes.
pub(crate) fn body(id: u32, len: usize) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.resize(4 + len, id as u8);
    body
}

pub(crate) fn id_of(body: &[u8]) -> u32 {
    u32::from_le_bytes(body[..4].try_into().unwrap())
}

impl Model {
    /// Everything below `end` was told durable.
    pub(crate) fn told_durable(&mut self, end: Position) {
        for sent in &mut self.sent {
            match sent.fate {
                Fate::Accepted if sent.end <= end => sent.fate = Fate::Durable,
                Fate::RollingBack(upto) if upto <= end => sent.fate = Fate::RolledBack,
                _ => {}
            }
            if let Some(half) = &mut sent.half {
                half.durable |= half.end <= end;
            }
        }
    }

    /// A checkpoint was told written that covers what was done until now.
    pub(crate) fn told_checkpointed(&mut self) {
        for group in &mut self.groups {
            group.safe.extend(group.now.iter().copied());
        }
    }

    /// After a crash: everything below `kept` must still be there.
    pub(crate) fn holds(&mut self, kept: Position) {
        self.told_durable(kept);
        self.seen.retain(|_, (_, position)| *position < kept);
    }

    /// The log has another record at this position: a half message that stood there was lost.
    pub(crate) fn replaced(&mut self, id: Position) {
        for sent in self.sent.iter_mut().filter(|sent| sent.half.is_some_and(|half| half.id == id)) {
            assert!(!sent.half.is_some_and(|half| half.durable), "a durable half message was replaced");
            (sent.fate, sent.half) = (Fate::Gone, None);
        }
    }

    /// The process is gone.
    pub(crate) fn crashed(&mut self) {
        for half in self.sent.iter_mut().filter_map(|sent| sent.half.as_mut()).filter(|half| !half.durable) {
            // Whether it survived shows when it is decided.
            half.end = Position(u64::MAX);
        }
        for group in &mut self.groups {
            group.now.clear();
            group.open.clear();
            group.leases.clear();
        }
        self.released = None;
    }

    /// Retention may take what is dealt with now, if it is old enough and in a topic that has groups; of the other
    /// topic everything that is old enough.
    pub(crate) fn may_delete(&mut self, now_ms: u64, retention_ms: u64) {
        for (id, sent) in (0..).zip(&self.sent) {
            // What was done in an earlier life may be on disk, told so or not.
            let dealt_with =
                || self.groups.iter().all(|group| group.done.contains(&id) && !group.open.contains(&id));
            let old = sent.at_ms.saturating_add(retention_ms) <= now_ms;
            if old && (sent.topic > 0 || dealt_with()) {
                self.deletable.insert(id);
            }
        }
    }

    /// The log begins at `start` now: what was seen below is not looked for any more, its offsets stay taken.
    pub(crate) fn begins_at(&mut self, start: Position) {
        for ((topic, queue, offset), (_, position)) in &self.seen {
            if *position < start {
                let taken = self.offsets.entry((*topic, *queue)).or_default();
                *taken = (*taken).max(offset + 1);
            }
        }
        self.seen.retain(|_, (_, position)| *position >= start);
    }

    /// `there`: ids that the log holds after a crash. What was promised is there, batches are whole, and what is
    /// missing is missing from the end.
    pub(crate) fn look(&mut self, there: &HashSet<u32>, start: Position) {
        let mut first_missing = None;
        let mut batch_there: HashMap<u32, bool> = HashMap::new();
        let mut accepted: Vec<_> = self.sent.iter_mut().enumerate().collect();
        accepted.sort_by_key(|(_, sent)| sent.batch);
        let dealt_with = |id: u32| {
            self.groups
                .iter()
                .map(|group| (group.safe.contains(&id), group.done.contains(&id)))
                .collect::<Vec<_>>()
        };
        for (id, sent) in accepted {
            let here = there.contains(&(id as u32));
            let known = matches!(sent.fate, Fate::Accepted | Fate::Durable);
            if known && !here && sent.end <= start && self.deletable.contains(&(id as u32)) {
                sent.fate = Fate::Deleted;
            }
            match sent.fate {
                Fate::Deleted => assert!(!here, "message {id} was deleted and came back"),
                Fate::Durable => assert!(
                    here,
                    "message {id} was durable and is lost: {sent:?}, the log begins at {start}, safe and done: {:?}",
                    dealt_with(id as u32)
                ),
                Fate::Gone => assert!(!here, "message {id} came back after a crash without it"),
                Fate::Accepted => {
                    let whole = *batch_there.entry(sent.batch).or_insert(here);
                    assert_eq!(whole, here, "message {id}: half a batch is there");
                    if !here {
                        first_missing.get_or_insert(id);
                    }
                    assert!(
                        !here || first_missing.is_none(),
                        "{id} is there, the older {first_missing:?} not"
                    );
                    sent.fate = match sent.half {
                        _ if here => Fate::Durable,
                        Some(_) => Fate::Half,
                        None => Fate::Gone,
                    };
                }
                Fate::Half => assert!(!here, "message {id} was not committed and is there"),
                Fate::RolledBack => assert!(!here, "message {id} was rolled back and is there"),
                Fate::RollingBack(_) => {
                    assert!(!here, "message {id} was to be rolled back and is there");
                    sent.fate = Fate::Half;
                }
            }
        }
    }
}
