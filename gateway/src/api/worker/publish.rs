//! `POST /v1/topics/{topic}/messages`: messages from outside.
//!
//! With `ack = "disk"` the request is one atomic batch, answered when it is durable. With `"memory"` and
//! `"none"` each message is a batch of its own, answered when the log has accepted it: a crash may take it.

use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::Core;
use http::StatusCode;
use std::borrow::Cow;
use tidegate_client::wire::{self, Ack, PublishAnswer, PublishMessage, PublishRequest, Published};
use tidegate_queue::{Appended, NewMessage, QueueChoice, Space};
use tidegate_stock::Lsn;

/// Messages of one request.
const MESSAGES_MAX: usize = 1_024;
/// Keys and properties of one message.
const KEYS_MAX: usize = 64;
/// RocketMQ's delay levels, from 1, in ms.
const DELAY_LEVELS_MS: [u64; 18] = [
    1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000,
    540_000, 600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
];

/// Cancel safe: a batch whose client went away is in the log or not, whole.
pub(in crate::api) async fn publish(core: &Core, topic: &str, body: &[u8]) -> Result<Answer, Refusal> {
    if topics::is_reserved(topic) {
        return Err(Refusal::TopicReserved);
    }
    let asked: PublishRequest<'_> = request::parse_json(body)?;
    if asked.producer_id.is_some() || asked.sequence.is_some() {
        let field = if asked.producer_id.is_some() { "producer_id" } else { "sequence" };
        return Err(Refusal::BadRequest(format!("`{field}` is not in this version").into()));
    }
    if asked.messages.is_empty() || asked.messages.len() > MESSAGES_MAX {
        return Err(Refusal::BadRequest(format!("`messages` must hold 1 to {MESSAGES_MAX} messages").into()));
    }
    let now_ms = core.app.clock.now_ms();
    let checked =
        asked.messages.iter().map(|message| Checked::new(message, now_ms)).collect::<Result<Vec<_>, _>>()?;
    let batch: Vec<NewMessage<'_>> = checked.iter().map(|message| message.as_new(topic)).collect();
    let results = match asked.ack.unwrap_or_default() {
        Ack::Disk => durably(core, &batch).await?,
        Ack::Memory | Ack::None => one_by_one(core, &batch)?,
    };
    Ok(answer::json(StatusCode::OK, &PublishAnswer { results }))
}

async fn durably(core: &Core, batch: &[NewMessage<'_>]) -> Result<Vec<Published>, Refusal> {
    let queue = &core.app.queue;
    let appended = queue.append(batch, Space::New)?;
    core.told(Lsn(appended.end.0)).await.map_err(|_| Refusal::Unknown { ticket: None })?;
    if batch.len() == 1 {
        return Ok(vec![published(&appended)]);
    }
    // Durable records can be read: they say where each message of the batch went.
    let records = queue.scan(appended.first).map_while(Result::ok).take(batch.len());
    Ok(records
        .map(|message| Published {
            id: message.position.to_string(),
            queue: message.queue,
            offset: message.offset,
        })
        .collect())
}

fn one_by_one(core: &Core, batch: &[NewMessage<'_>]) -> Result<Vec<Published>, Refusal> {
    let append = |message: &NewMessage<'_>| {
        let appended = core.app.queue.append(std::slice::from_ref(message), Space::New)?;
        Ok(published(&appended))
    };
    batch.iter().map(append).collect()
}

fn published(appended: &Appended) -> Published {
    Published { id: appended.first.to_string(), queue: appended.queue, offset: appended.offset }
}

/// A message whose fields fit together, with what the log borrows from.
struct Checked<'a> {
    message: &'a PublishMessage<'a>,
    keys: Vec<&'a str>,
    properties: Vec<(&'a str, &'a str)>,
    queue: QueueChoice<'a>,
    deliver_at_ms: Option<u64>,
    body: Cow<'a, [u8]>,
}

impl<'a> Checked<'a> {
    fn new(message: &'a PublishMessage<'a>, now_ms: u64) -> Result<Self, Refusal> {
        let bad = |why: &'static str| Err(Refusal::BadRequest(why.into()));
        if message.keys.len() > KEYS_MAX || message.properties.0.len() > KEYS_MAX {
            return bad("`keys` and `properties` may hold at most 64 each");
        }
        let queue = match (message.queue, message.ordering_key.as_deref()) {
            (Some(_), Some(_)) => return bad("`queue` and `ordering_key` exclude each other"),
            (Some(queue), None) => QueueChoice::Explicit(queue),
            (None, Some(key)) => QueueChoice::Key(key),
            (None, None) => QueueChoice::RoundRobin,
        };
        let deliver_at_ms = match (message.deliver_at_ms, message.delay_level) {
            (Some(_), Some(_)) => return bad("`deliver_at_ms` and `delay_level` exclude each other"),
            (at_ms, None) => at_ms,
            (None, Some(level)) => match DELAY_LEVELS_MS.get((level as usize).wrapping_sub(1)) {
                Some(delay_ms) => Some(now_ms + delay_ms),
                None => return bad("`delay_level` must be between 1 and 18"),
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
            queue,
            deliver_at_ms,
            body,
        })
    }

    fn as_new<'n>(&'n self, topic: &'n str) -> NewMessage<'n> {
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
