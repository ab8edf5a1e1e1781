//! What the façade takes and gives: appended, delivered, reported.

use crate::codec::{Reader, put_u32, put_u64};
use crate::{Message, Position, StartFrom};
use serde::{Deserialize, Serialize};

/// What the log answers to an append that it accepted. Nothing is durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position of the batch's first record.
    pub first: Position,
    /// The batch is durable once `durable() >= end`.
    pub end: Position,
    /// Queue and offset of the batch's first message (0, 0 when it is delayed).
    pub queue: u32,
    /// See `queue`.
    pub offset: u64,
}

/// Where one message of a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: Position,
    /// Its queue.
    pub queue: u32,
    /// Its offset there; 0 for a delayed message, which gets its offset, and another id, when it is due.
    pub offset: u64,
}

impl Appended {
    /// Adds it to a snapshot.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.first.0);
        put_u64(out, self.end.0);
        put_u32(out, self.queue);
        put_u64(out, self.offset);
    }

    /// What [`Self::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            first: Position(reader.u64()?),
            end: Position(reader.u64()?),
            queue: reader.u32()?,
            offset: reader.u64()?,
        })
    }
}

/// Progress of durability, as the listener is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Everything below is durable.
    Up(Position),
    /// Everything below is on disk. Told in async mode only, where it trails `Up`; in sync mode `Up` says both.
    Synced(Position),
    /// The first write or sync error. What was not durable then has an unknown fate; restart.
    Poisoned(Position),
}

/// A lease on one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// To ack, nack or extend with.
    pub receipt: Receipt,
    /// 1 for the first delivery.
    pub attempt: u32,
    /// The message.
    pub message: Message,
}

/// Boot epoch, group, queue, offset, lease number; text form is opaque and URL-safe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// What a receive asks for.
#[derive(Debug, Clone)]
pub struct ReceiveRequest<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Group; created on first use, reading from first.
    pub group: &'a str,
    /// At most so many; more than [`RECEIVE_MAX`] are never given at once.
    pub max: usize,
    /// Lease duration; a lease also ends at the message's deadline.
    pub lease_ms: u64,
    /// Empty or `["*"]`: all. Each may be several, `"a || b"`. All receives of a group must ask for the same:
    /// what does not match is skipped for the whole group.
    pub tags: &'a [String],
}

/// Messages of one receive, at most.
pub const RECEIVE_MAX: usize = 1_024;

/// Something the owner must deal with; repeated (also after a restart) until `settle`d.
#[derive(Debug, Clone)]
pub struct Report {
    /// What happened.
    pub kind: ReportKind,
    /// In which group.
    pub group: String,
    /// To which message.
    pub message: Message,
}

/// Kinds of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// Its deadline passed before the group acknowledged it.
    Dropped,
    /// It used up its attempts.
    DeadLettered,
}

/// What the consumers of a broadcast have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Broadcast {
    /// Where one that is new starts.
    pub start: StartFrom,
    /// Attempts before a message is a dead letter of its consumer; `None`: the queue's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// Delay before attempt 2, 3 …, ms; the last one repeats. `None`: the queue's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delays_ms: Option<Vec<u64>>,
}

/// A half message that nobody has decided: its producer group is asked what became of it.
#[derive(Debug, Clone)]
pub struct Check {
    /// To commit or roll back with.
    pub id: Position,
    /// Which check this is, from 1.
    pub number: u32,
    /// The half message.
    pub message: Message,
}

/// What became of a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its message is in its topic.
    Committed,
    /// Nobody will ever see it.
    RolledBack,
}

/// Who sends, and which of its batches this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer<'a> {
    /// Up to 255 bytes; one that stays the same when the producer restarts.
    pub id: &'a str,
    /// Rises from batch to batch. The highest 32 of a producer are known; one below those is refused.
    pub sequence: u64,
}

/// Where a numbered batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// As the first append of this number answered. After a restart `end` is that of the batch's first record;
    /// all of the batch is durable then.
    pub appended: Appended,
    /// It was appended before: nothing was appended now.
    pub repeated: bool,
}
