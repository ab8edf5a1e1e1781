//! `PUT` of topics and groups, `DELETE` of groups, reset, and what became of every offset.

use super::{in_range, not_internal, off_the_loop};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::Core;
use http::StatusCode;
use serde::Serialize;
use tidegate_client::wire::{self, GroupMode, GroupOffsets, PutGroup, PutTopic, QueueOffsets, ResetGroup};
use tidegate_queue::{Broadcast, StartFrom};

/// Queues of a topic.
const QUEUES_MAX: u64 = 1_024;
/// Attempts, and how many delays may be told apart.
const ATTEMPTS_MAX: u64 = 1_000_000;
const DELAYS_MAX: usize = 64;

/// Answer to what changes a topic or group: which one.
#[derive(Serialize)]
struct Named<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<GroupMode>,
}

/// Cancel safe: it is done or not, whole; repeating it does no harm.
pub(in crate::api) async fn put_topic(core: &Core, topic: &str, body: &[u8]) -> Result<Answer, Refusal> {
    if topics::is_reserved(topic) {
        return Err(Refusal::TopicReserved);
    }
    let asked: PutTopic = request::parse_json(body)?;
    in_range("queues", asked.queues.into(), 1, QUEUES_MAX)?;
    let (queue, name) = (core.app.queue.clone(), topic.to_owned());
    off_the_loop(move || queue.put_topic(&name, asked.queues)).await??;
    // There may be more than were asked for: queues only grow.
    let queues = core.app.queue.queues_of(topic);
    Ok(answer::json(StatusCode::OK, &Named { topic, group: None, mode: None, queues }))
}

/// Cancel safe: repeating it does no harm.
pub(in crate::api) async fn put_group(
    core: &Core,
    topic: &str,
    group: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: PutGroup = if body.is_empty() { PutGroup::default() } else { request::parse_json(body)? };
    if let Some(attempts) = asked.max_attempts {
        in_range("max_attempts", attempts.into(), 1, ATTEMPTS_MAX)?;
    }
    if asked.retry_delays_ms.as_ref().is_some_and(|delays| delays.is_empty() || delays.len() > DELAYS_MAX) {
        return Err(Refusal::BadRequest(
            format!("`retry_delays_ms` must hold 1 to {DELAYS_MAX} delays").into(),
        ));
    }
    let before = core.app.queue.broadcast(topic, group);
    let mode = match (asked.mode, &before) {
        (Some(GroupMode::Shared | GroupMode::Ordered), Some(_)) => {
            return Err(Refusal::BadRequest("`mode`: this group is a broadcast; delete it first".into()));
        }
        (None, Some(_)) => Some(GroupMode::Broadcast),
        (mode, _) => mode,
    };
    let (queue, topic_name, name) = (core.app.queue.clone(), topic.to_owned(), group.to_owned());
    let start = asked.start.map(start_from);
    if mode == Some(GroupMode::Broadcast) {
        if is_owed_each_order(topic, group) {
            return Err(Refusal::BadRequest(
                "`mode`: this group owes each order to one worker; broadcast to a group of your own".into(),
            ));
        }
        let before = before.unwrap_or_default();
        let broadcast = Broadcast {
            start: start.unwrap_or(before.start),
            attempts_max: asked.max_attempts.or(before.attempts_max),
            retry_delays_ms: asked.retry_delays_ms.or(before.retry_delays_ms),
        };
        off_the_loop(move || queue.put_broadcast(&topic_name, &name, broadcast)).await??;
    } else {
        let put = move || {
            let start = start.unwrap_or_default();
            queue.put_group(&topic_name, &name, start, asked.max_attempts, asked.retry_delays_ms)?;
            mode.map_or(Ok(()), |mode| queue.set_ordered(&topic_name, &name, mode == GroupMode::Ordered))
        };
        off_the_loop(put).await??;
    }
    Ok(answer::json(StatusCode::OK, &Named { topic, group: Some(group), mode, queues: None }))
}

/// Forgets a group, or a broadcast with its consumers. Cancel safe: repeat it.
pub(in crate::api) async fn delete_group(core: &Core, topic: &str, group: &str) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    if is_owed_each_order(topic, group) {
        return Err(Refusal::BadRequest("this group owes every order to a worker; it stays".into()));
    }
    let (queue, topic_name, name) = (core.app.queue.clone(), topic.to_owned(), group.to_owned());
    if !off_the_loop(move || queue.delete_group(&topic_name, &name)).await?? {
        return Err(Refusal::GroupNotFound);
    }
    Ok(answer::json(StatusCode::OK, &Named { topic, group: Some(group), mode: None, queues: None }))
}

fn is_owed_each_order(topic: &str, group: &str) -> bool {
    topic == topics::ORDERS && group == topics::ORDER_WORKERS
}

pub(in crate::api) fn reset_group(
    core: &Core,
    topic: &str,
    group: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: ResetGroup = request::parse_json(body)?;
    let queue = &core.app.queue;
    if queue.broadcast(topic, group).is_some() {
        for consumer in queue.consumers(topic, group) {
            queue.reset_group(topic, &consumer, start_from(asked.to))?;
        }
    } else {
        queue.reset_group(topic, group, start_from(asked.to))?;
    }
    Ok(answer::json(StatusCode::OK, &Named { topic, group: Some(group), mode: None, queues: None }))
}

fn start_from(start: wire::StartFrom) -> StartFrom {
    match start {
        wire::StartFrom::First => StartFrom::First,
        wire::StartFrom::Last => StartFrom::Last,
        wire::StartFrom::Offset(offset) => StartFrom::Offset(offset),
        wire::StartFrom::TimeMs(at_ms) => StartFrom::TimeMs(at_ms),
    }
}

/// For loss detection: a consumer compares what it was delivered with what it should have been.
pub(in crate::api) fn offsets(core: &Core, topic: &str, group: &str) -> Result<Answer, Refusal> {
    let stats = core.app.queue.stats();
    let of_topic = stats.into_iter().find(|stats| stats.topic == topic).ok_or(Refusal::TopicNotFound)?;
    let of_group =
        of_topic.groups.into_iter().find(|stats| stats.group == group).ok_or(Refusal::GroupNotFound)?;
    let queues = of_group.queues.into_iter().map(|queue| QueueOffsets {
        queue: queue.queue,
        start: queue.start,
        end: queue.end,
        floor: queue.floor,
        dropped: queue.dropped,
        dead: queue.dead,
        skipped: queue.skipped,
    });
    let offsets = GroupOffsets { topic: topic.to_owned(), group: group.to_owned(), queues: queues.collect() };
    Ok(answer::json(StatusCode::OK, &offsets))
}
