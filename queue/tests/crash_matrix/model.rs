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
    /// The batch is durable once the log is, up to here.
    pub(crate) end: Position,
    pub(crate) fate: Fate,
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
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) sent: Vec<Sent>,
    pub(crate) batches: u32,
    pub(crate) groups: [GroupModel; 2],
    /// Where messages were seen in their queues: none may move, vanish or be replaced.
    pub(crate) seen: HashMap<(usize, u32, u64), (u32, Position)>,
    /// Queues that the topic was told to have.
    pub(crate) queues_min: u32,
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
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::Accepted && sent.end <= end) {
            sent.fate = Fate::Durable;
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

    /// The process is gone.
    pub(crate) fn crashed(&mut self) {
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
        for (id, sent) in self.sent.iter_mut().enumerate() {
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
                    sent.fate = if here { Fate::Durable } else { Fate::Gone };
                }
            }
        }
    }
}
