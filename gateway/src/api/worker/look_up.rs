//! `GET /v1/topics/{topic}/messages?id=…|key=…`.
//!
//! An id is a position and costs one read. For keys there is no index yet: the log is searched on a thread of
//! its own, one search at a time, within a bound of time.

use super::{looked_up, not_internal};
use crate::http::{Answer, Refusal, answer, request};
use crate::state::Core;
use http::StatusCode;
use std::time::{Duration, Instant};
use tidegate_client::wire::ReceiveAnswer;
use tidegate_queue::{Message, Position, Queue};

/// Messages of one key that are told, at most.
const FOUND_MAX: usize = 64;
/// A search ends after; what it would have missed is told as "busy", never as "not there".
const SEARCH_MAX: Duration = Duration::from_secs(5);
/// Records between two looks at the time.
const STEP: usize = 1_024;

pub(in crate::api) async fn look_up(
    core: &Core,
    topic: &str,
    query: Option<&str>,
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let found = match (request::query(query, "id"), request::query(query, "key")) {
        (Some(id), None) => {
            let id =
                id.parse().map_err(|_| Refusal::BadRequest(format!("`id` {id} is no message id").into()))?;
            core.app.queue.find(Position(id)).filter(|message| *message.topic == *topic).into_iter().collect()
        }
        (None, Some(key)) => {
            let _turn = core
                .app
                .searches
                .try_acquire()
                .map_err(|_| Refusal::QueueBusy("another search of the log is running; retry shortly"))?;
            let (queue, topic, key) = (core.app.queue.clone(), topic.to_owned(), key.into_owned());
            let search = tokio::task::spawn_blocking(move || search(&queue, &topic, &key));
            search.await.ok().flatten().ok_or(Refusal::QueueBusy(
                "the log is too long to be searched for a key in time; look the message up by its id",
            ))?
        }
        _ => return Err(Refusal::BadRequest("exactly one of `id` and `key` is needed".into())),
    };
    let messages = found.iter().map(looked_up).collect();
    Ok(answer::json(StatusCode::OK, &ReceiveAnswer { messages }))
}

/// `None`: out of time.
fn search(queue: &Queue, topic: &str, key: &str) -> Option<Vec<Message>> {
    let end = Instant::now() + SEARCH_MAX;
    let mut found = Vec::new();
    // A part that cannot be read ends the search: the log says so itself.
    for (count, message) in queue.scan(queue.start()).map_while(Result::ok).enumerate() {
        if *message.topic == *topic && message.keys.iter().any(|candidate| *candidate == *key) {
            found.push(message);
            if found.len() == FOUND_MAX {
                break;
            }
        }
        if count % STEP == STEP - 1 && Instant::now() >= end {
            return None;
        }
    }
    Some(found)
}
