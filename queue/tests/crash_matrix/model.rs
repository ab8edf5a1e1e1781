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
}

/// A group that acknowledges.
#[derive(Debug, Default)]
pub(crate) struct GroupModel {
    /// Acknowledged, or its report settled, in any life.
    pub(crate) done: HashSet<u32>,
    /// The same in this life.
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
            group.leases.clear();
        }
    }

    /// `there`: ids that the log holds after a crash. What was promised is there, batches are whole, and what is
    /// missing is missing from the end.
    pub(crate) fn look(&mut self, there: &HashSet<u32>) {
        let mut first_missing = None;
        let mut batch_there: HashMap<u32, bool> = HashMap::new();
        let mut accepted: Vec<_> = self.sent.iter_mut().enumerate().collect();
        accepted.sort_by_key(|(_, sent)| sent.batch);
        for (id, sent) in accepted {
            let here = there.contains(&(id as u32));
            match sent.fate {
                Fate::Durable => assert!(here, "message {id} was durable and is lost"),
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
