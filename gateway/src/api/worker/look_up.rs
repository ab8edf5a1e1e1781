//! `GET /v1/topics/{topic}/messages?id=…|key=…`: an id costs one read, a key the few that the key index names.

use super::{looked_up, not_internal, off_the_loop};
use crate::http::{Answer, Refusal, answer, request};
use crate::state::Core;
use http::StatusCode;
use std::time::Duration;
use tidegate_client::wire::ReceiveAnswer;
use tidegate_queue::{Message, Position, Queue};
use tokio::time::{Instant, sleep};

/// Messages of one key that are told, at most: the newest.
const FOUND_MAX: usize = 64;
/// How long a look-up waits until what was durable when it came can be found. What it would have missed is told as
/// "busy", never as "not there".
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
const CATCH_UP_STEP: Duration = Duration::from_millis(2);

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
            let queue = core.app.queue.clone();
            let found = off_the_loop(move || queue.find(Position(id))).await?;
            found.filter(|message| *message.topic == *topic).into_iter().collect()
        }
        (None, Some(key)) => {
            let _turn = core
                .app
                .searches
                .try_acquire()
                .map_err(|_| Refusal::QueueBusy("too many look-ups by key are running; retry shortly"))?;
            by_key(&core.app.queue, topic, &key).await?
        }
        _ => return Err(Refusal::BadRequest("exactly one of `id` and `key` is needed".into())),
    };
    let messages = found.iter().map(looked_up).collect();
    Ok(answer::json(StatusCode::OK, &ReceiveAnswer { messages }))
}

/// Newest first. Cancel safe.
async fn by_key(queue: &Queue, topic: &str, key: &str) -> Result<Vec<Message>, Refusal> {
    let (target, end) = (queue.durable(), Instant::now() + CATCH_UP_MAX);
    while queue.dispatched() < target && Instant::now() < end {
        sleep(CATCH_UP_STEP).await;
    }
    let (looking, topic, key) = (queue.clone(), topic.to_owned(), key.to_owned());
    let found = off_the_loop(move || looking.look_up_key(&topic, &key, FOUND_MAX)).await?;
    if queue.keys_reach() < target {
        return Err(Refusal::QueueBusy(
            "the index of keys is not up to date: it is being made, or the disk is full; retry later, or look \
             the message up by its id",
        ));
    }
    Ok(found)
}
