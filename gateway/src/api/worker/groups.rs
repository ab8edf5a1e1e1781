//! `PUT` of topics and groups, reset, and what became of every offset.

use super::{in_range, not_internal};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::Core;
use http::StatusCode;
use serde::Serialize;
use tidegate_client::wire::{self, GroupMode, GroupOffsets, PutGroup, PutTopic, QueueOffsets, ResetGroup};
use tidegate_queue::StartFrom;

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
}

pub(in crate::api) fn put_topic(core: &Core, topic: &str, body: &[u8]) -> Result<Answer, Refusal> {
    if topics::is_reserved(topic) {
        return Err(Refusal::TopicReserved);
    }
    let asked: PutTopic = request::parse_json(body)?;
    in_range("queues", asked.queues.into(), 1, QUEUES_MAX)?;
    core.app.queue.put_topic(topic, asked.queues)?;
    Ok(answer::json(StatusCode::OK, &Named { topic, group: None, queues: Some(asked.queues) }))
}

pub(in crate::api) fn put_group(
    core: &Core,
    topic: &str,
    group: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: PutGroup = if body.is_empty() { PutGroup::default() } else { request::parse_json(body)? };
    match asked.mode.unwrap_or_default() {
        GroupMode::Shared => {}
        GroupMode::Ordered => return Err(not_in_this_version("ordered")),
        GroupMode::Broadcast => return Err(not_in_this_version("broadcast")),
    }
    if let Some(attempts) = asked.max_attempts {
        in_range("max_attempts", attempts.into(), 1, ATTEMPTS_MAX)?;
    }
    if asked.retry_delays_ms.as_ref().is_some_and(|delays| delays.is_empty() || delays.len() > DELAYS_MAX) {
        return Err(Refusal::BadRequest(
            format!("`retry_delays_ms` must hold 1 to {DELAYS_MAX} delays").into(),
        ));
    }
    let start = start_from(asked.start.unwrap_or_default());
    core.app.queue.put_group(topic, group, start, asked.max_attempts, asked.retry_delays_ms)?;
    Ok(answer::json(StatusCode::OK, &Named { topic, group: Some(group), queues: None }))
}

fn not_in_this_version(mode: &str) -> Refusal {
    Refusal::BadRequest(format!("`mode` \"{mode}\" is not in this version; use \"shared\"").into())
}

pub(in crate::api) fn reset_group(
    core: &Core,
    topic: &str,
    group: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: ResetGroup = request::parse_json(body)?;
    core.app.queue.reset_group(topic, group, start_from(asked.to))?;
    Ok(answer::json(StatusCode::OK, &Named { topic, group: Some(group), queues: None }))
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
