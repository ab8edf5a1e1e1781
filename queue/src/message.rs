//! Messages: what a producer hands in, what the log gives back.

use crate::log::{Record, RecordView};
use crate::{Position, reserved};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Which queue of a topic a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueChoice<'a> {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By hash of the key: equal keys share a queue.
    Key(&'a str),
    /// As `Key`, and ordered groups go by this key instead of the message's first look-up key.
    Ordered(&'a str),
    /// This one; out of range is an error.
    Explicit(u32),
}

/// A message on its way into the log. Borrowed: appending copies it once, into the commit buffer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewMessage<'a> {
    /// Target topic; created on first use with the configured number of queues.
    pub topic: &'a str,
    /// Which of its queues.
    pub queue: QueueChoice<'a>,
    /// One tag to filter by; empty for none.
    pub tag: &'a str,
    /// Look-up keys.
    pub keys: &'a [&'a str],
    /// Free properties; names that begin with `tidegate.` are refused.
    pub properties: &'a [(&'a str, &'a str)],
    /// Held until this instant (Unix ms), then it appears in its topic. At most 40 days ahead; for RocketMQ's levels
    /// see [`Queue::deliver_at_level`](crate::Queue::deliver_at_level).
    pub deliver_at_ms: Option<u64>,
    /// Not delivered at or after this instant (Unix ms); its drop is reported.
    pub deadline_ms: Option<u64>,
    /// The payload.
    pub body: &'a [u8],
}

/// Deadline handling of a message (kept small: it is copied into the timer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Born (appended) at, Unix ms.
    pub born_at_ms: u64,
    /// Deliver not before, Unix ms.
    pub deliver_at_ms: Option<u64>,
    /// Deliver not at or after, Unix ms.
    pub deadline_ms: Option<u64>,
}

/// A message as it stands in the log. Cloning is cheap: body and head are slices of the mapped segment,
/// which stays mapped while a slice lives.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub position: Position,
    /// Topic.
    pub topic: String,
    /// Queue in the topic.
    pub queue: u32,
    /// Dense offset in that queue.
    pub offset: u64,
    /// Tag, empty for none.
    pub tag: String,
    /// Look-up keys.
    pub keys: Vec<String>,
    /// Free properties.
    pub properties: Vec<(String, String)>,
    /// Times.
    pub times: Deadlines,
    /// Payload, a slice of the map.
    pub body: Bytes,
}

impl Message {
    /// Copies the small fields out of the record; the payload stays where it is.
    pub(crate) fn from_record(record: &Record) -> Self {
        let view = record.view();
        Self {
            position: view.position,
            topic: view.topic.to_owned(),
            queue: view.queue,
            offset: view.queue_offset,
            tag: view.tag.to_owned(),
            keys: view.keys().map(str::to_owned).collect(),
            properties: own_properties(&view),
            times: Deadlines {
                born_at_ms: view.born_at_ms,
                deliver_at_ms: view.deliver_at_ms,
                deadline_ms: view.deadline_ms,
            },
            body: record.body(),
        }
    }
}

/// Without those that the queue keeps for itself.
fn own_properties(view: &RecordView<'_>) -> Vec<(String, String)> {
    let own = view.properties().filter(|(name, _)| !reserved::is_reserved(name));
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Where a new group starts, or is reset to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// The oldest message kept.
    #[default]
    First,
    /// Only what comes after now.
    Last,
    /// This offset in every queue (clamped to what is kept).
    Offset(u64),
    /// The first message born at or after this instant, Unix ms.
    TimeMs(u64),
}
