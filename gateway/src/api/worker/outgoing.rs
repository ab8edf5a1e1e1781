//! A message from outside on its way into the log: whether its fields fit together.

use crate::http::Refusal;
use std::borrow::Cow;
use tidegate_client::wire::{self, PublishMessage};
use tidegate_queue::{NewMessage, Policies, Queue, QueueChoice};

/// Keys and properties of one message.
const KEYS_MAX: usize = 64;

/// A message whose fields fit together, with what the log borrows from.
pub(super) struct Checked<'a> {
    message: &'a PublishMessage<'a>,
    keys: Vec<&'a str>,
    properties: Vec<(&'a str, &'a str)>,
    queue: QueueChoice<'a>,
    deliver_at_ms: Option<u64>,
    body: Cow<'a, [u8]>,
}

impl<'a> Checked<'a> {
    pub(super) fn new(message: &'a PublishMessage<'a>, queue: &Queue, now_ms: u64) -> Result<Self, Refusal> {
        let bad = |why: &'static str| Err(Refusal::BadRequest(why.into()));
        if message.keys.len() > KEYS_MAX || message.properties.0.len() > KEYS_MAX {
            return bad("`keys` and `properties` may hold at most 64 each");
        }
        let choice = match (message.queue, message.ordering_key.as_deref()) {
            (Some(_), Some(_)) => return bad("`queue` and `ordering_key` exclude each other"),
            (Some(queue), None) => QueueChoice::Explicit(queue),
            (None, Some(key)) => QueueChoice::Ordered(key),
            (None, None) => QueueChoice::RoundRobin,
        };
        let deliver_at_ms = match (message.deliver_at_ms, message.delay_level) {
            (Some(_), Some(_)) => return bad("`deliver_at_ms` and `delay_level` exclude each other"),
            (Some(at_ms), None) if at_ms > now_ms.saturating_add(Policies::DELAY_MAX_MS) => {
                return bad("`deliver_at_ms` must lie at most 40 days ahead");
            }
            (at_ms, None) => at_ms,
            (None, Some(level)) => match queue.deliver_at_level(level) {
                Ok(at_ms) => Some(at_ms),
                Err(_) => return bad("`delay_level` must be between 1 and 18"),
            },
        };
        if let (Some(deliver_at_ms), Some(deadline_ms)) = (deliver_at_ms, message.deadline_ms)
            && deadline_ms <= deliver_at_ms
        {
            return bad("`deadline_ms` must lie after the time of delivery");
        }
        let body = match wire::decode_bytes(&message.body) {
            Ok(Some(bytes)) => Cow::Owned(bytes),
            Ok(None) => Cow::Borrowed(message.body.get().as_bytes()),
            Err(error) => return Err(Refusal::BadRequest(error.to_string().into())),
        };
        Ok(Self {
            message,
            keys: message.keys.iter().map(String::as_str).collect(),
            properties: message
                .properties
                .0
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            queue: choice,
            deliver_at_ms,
            body,
        })
    }

    pub(super) fn as_new<'n>(&'n self, topic: &'n str) -> NewMessage<'n> {
        NewMessage {
            topic,
            queue: self.queue,
            tag: self.message.tag.as_deref().unwrap_or(""),
            keys: &self.keys,
            properties: &self.properties,
            deliver_at_ms: self.deliver_at_ms,
            deadline_ms: self.message.deadline_ms,
            body: &self.body,
        }
    }
}
