//! Topics and groups: their creation, their figures, their dead letters, and what became of every offset.

use serde::{Deserialize, Serialize};

/// `PUT /v1/topics/{topic}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutTopic {
    /// Number of queues; only grows.
    pub queues: u32,
}

/// How a group shares its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupMode {
    /// Each message to one consumer.
    #[default]
    Shared,
    /// As `Shared`, one at a time per ordering key, in the order of their sending.
    Ordered,
    /// Each message to each consumer; a receive names its consumer.
    Broadcast,
}

/// Where a group starts or is moved to: `"first"`, `"last"`, `{"offset":n}` or `{"time_ms":n}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// The oldest message kept.
    #[default]
    First,
    /// Only what comes after now.
    Last,
    /// This offset in every queue.
    Offset(u64),
    /// The first message born at or after, Unix ms.
    TimeMs(u64),
}

/// `PUT /v1/topics/{topic}/groups/{group}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutGroup {
    /// Absent: as it is; `shared` for a group that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GroupMode>,
    /// Absent: `first`. Only for a group that is new; of a broadcast, for consumers that are new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartFrom>,
    /// Attempts before a message is a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Delay before attempt 2, 3 …; the last one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delays_ms: Option<Vec<u64>>,
}

/// `POST …/groups/{group}/reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetGroup {
    /// Where to.
    pub to: StartFrom,
}

/// `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TopicList {
    /// By name.
    pub topics: Vec<TopicStats>,
}

/// Figures of one topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicStats {
    /// Name.
    pub topic: String,
    /// Number of queues.
    pub queues: u32,
    /// Messages appended since the gateway's start.
    pub appended: u64,
    /// Appended per second, of late.
    pub in_per_second: f64,
    /// Its groups.
    pub groups: Vec<GroupStats>,
}

/// Figures of one group of a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupStats {
    /// Name.
    pub group: String,
    /// Messages neither acknowledged, dropped nor dead.
    pub backlog: u64,
    /// Age of the oldest of them.
    pub oldest_age_ms: u64,
    /// Under lease now.
    pub leased: u64,
    /// Acknowledged since the gateway's start.
    pub acked: u64,
    /// Delivered since the gateway's start, redeliveries included.
    pub delivered: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Acknowledged per second, of late.
    pub out_per_second: f64,
}

/// `GET /v1/topics/{topic}/groups/{group}/offsets`: what the group did not deliver, for loss detection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffsets {
    /// Topic.
    pub topic: String,
    /// Group.
    pub group: String,
    /// Per queue.
    pub queues: Vec<QueueOffsets>,
}

/// Offsets `[from, to)`; a pair on the wire.
pub type Range = (u64, u64);

/// One queue of [`GroupOffsets`]. Ranges are half-open, ascending, and apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueOffsets {
    /// Queue number.
    pub queue: u32,
    /// First offset the group had to see.
    pub start: u64,
    /// One past the newest durable offset.
    pub end: u64,
    /// Everything below is settled.
    pub floor: u64,
    /// Dropped at the deadline.
    pub dropped: Vec<Range>,
    /// Dead-lettered.
    pub dead: Vec<Range>,
    /// Skipped by tag filter, reset, or because the owner found that they must not be delivered.
    pub skipped: Vec<Range>,
}

/// `POST …/dead-letters/redrive`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// Which; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// What became of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveResult {
    /// Message id.
    pub id: String,
    /// Back in its group.
    pub ok: bool,
    /// Slug of the refusal, `ticket-terminal` or `not-found`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Answer to a redrive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RedriveAnswer {
    /// One for each.
    pub results: Vec<RedriveResult>,
}
