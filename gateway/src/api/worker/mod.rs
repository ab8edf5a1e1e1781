//! The worker API: messages under lease, publishing, topics and groups, ticket transitions.
//!
//! ```text
//! receive.rs      long poll; the last look at the ledger before an order goes out
//! delivered.rs    the answer to a receive: payloads as slices of the mapped log
//! leases.rs       ack, nack, extend
//! consumers.rs    consumers of a broadcast
//! publish.rs      messages from outside; `outgoing.rs`: whether their fields fit together
//! transactions.rs half messages, their resolution, their checks
//! groups.rs       topics, groups, offsets
//! look_up.rs      messages by id or key
//! transitions.rs  created, rejected, paid, cancelled
//! ```
//!
//! Topics that begin with `%` are the gateway's own: nobody else reads, leases or writes them. `orders` and
//! `order-events` are read by anyone with the token and written by the gateway alone.

mod consumers;
mod delivered;
mod groups;
mod leases;
mod look_up;
mod outgoing;
mod publish;
mod receive;
mod transactions;
mod transitions;

pub(super) use groups::{delete_group, offsets, put_group, put_topic, reset_group};
pub(super) use leases::{ack, extend, nack};
pub(super) use look_up::look_up;
pub(super) use publish::publish;
pub(super) use receive::receive;
pub(super) use transactions::{begin, checks, resolve};
pub(super) use transitions::transition;

use crate::http::Refusal;
use std::borrow::Cow;
use tidegate_client::wire;
use tidegate_queue::{AppendError, Message, ProducerError, ReceiveError};
use tidegate_stock::JournalError;

/// Refuses the gateway's own topics.
pub(super) fn not_internal(topic: &str) -> Result<(), Refusal> {
    if topic.starts_with('%') { Err(Refusal::TopicReserved) } else { Ok(()) }
}

/// A message as it travels.
pub(super) fn message_object<'m>(message: &'m Message, receipt: &'m str, attempt: u32) -> wire::Message<'m> {
    wire::Message {
        receipt: Cow::Borrowed(receipt),
        id: Cow::Owned(message.position.to_string()),
        topic: Cow::Borrowed(&message.topic),
        queue: message.queue,
        offset: message.offset,
        tag: Cow::Borrowed(&message.tag),
        keys: Cow::Borrowed(&message.keys),
        properties: wire::Properties(Cow::Borrowed(&message.properties)),
        attempt,
        born_at_ms: message.times.born_at_ms,
        deadline_ms: message.times.deadline_ms,
        body: wire::json_or_bytes(&message.body),
    }
}

/// A message that is looked at, not delivered.
pub(crate) fn looked_up(message: &Message) -> wire::Message<'_> {
    message_object(message, "", 0)
}

/// Work that waits for the disk, on a thread of its own: the event loop has others to serve. Dropped, it is done all
/// the same.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::QueueBusy("the gateway is stopping"))
}

/// A whole number in `from..=to`, or a refusal that names the field.
fn in_range(field: &'static str, value: u64, from: u64, to: u64) -> Result<u64, Refusal> {
    if (from..=to).contains(&value) {
        Ok(value)
    } else {
        Err(Refusal::BadRequest(format!("`{field}` must be between {from} and {to}, not {value}").into()))
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NoSpace => Self::Journal(JournalError::NoSpace),
            AppendError::Busy => Self::Journal(JournalError::Busy),
            AppendError::Poisoned => Self::Journal(JournalError::Poisoned),
            AppendError::TooManyDelayed => Self::QueueBusy("too many delayed messages are pending"),
            AppendError::Invalid(why) => Self::BadRequest(why.into()),
        }
    }
}

impl From<ProducerError> for Refusal {
    fn from(error: ProducerError) -> Self {
        match error {
            ProducerError::Append(error) => error.into(),
            ProducerError::TooOld => Self::SequenceTooOld,
            ProducerError::TooMany => {
                Self::QueueBusy("too many producers were active within a day; retry later, or use fewer ids")
            }
        }
    }
}

impl From<ReceiveError> for Refusal {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Invalid(why) => Self::BadRequest(why.into()),
            ReceiveError::Busy => Self::QueueBusy("too many receives wait on this group"),
        }
    }
}
