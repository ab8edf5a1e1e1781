//! `POST /v1/topics/{topic}/messages`: messages from outside, one atomic batch a request.
//!
//! ```text
//! ack        answered once                                     a crash may take it
//! none       at once, whatever became of it                    yes, and a full log as well
//! memory     the log has accepted it                           until it is durable
//! (absent)   it is durable as the flush mode has it            as the flush mode says
//! disk       it is on disk                                     no
//! ```

use super::off_the_loop;
use super::outgoing::Checked;
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::{Core, DURABLE_WAIT_MAX};
use http::StatusCode;
use tidegate_client::wire::{Ack, PublishAnswer, PublishRequest, Published};
use tidegate_queue::{
    AppendError, Message, NewMessage, Once, Place, Position, Producer, ProducerError, Space,
};
use tidegate_stock::Lsn;

/// Messages of one request.
const MESSAGES_MAX: usize = 1_024;
/// Bytes of a producer's id.
const PRODUCER_BYTES_MAX: usize = 255;

/// Cancel safe: a batch whose client went away is in the log or not, whole.
pub(in crate::api) async fn publish(core: &Core, topic: &str, body: &[u8]) -> Result<Answer, Refusal> {
    if topics::is_reserved(topic) {
        return Err(Refusal::TopicReserved);
    }
    let asked: PublishRequest<'_> = request::parse_json(body)?;
    let producer = producer(&asked)?;
    if asked.messages.is_empty() || asked.messages.len() > MESSAGES_MAX {
        return Err(Refusal::BadRequest(format!("`messages` must hold 1 to {MESSAGES_MAX} messages").into()));
    }
    let now_ms = core.app.clock.now_ms();
    let check = |message| Checked::new(message, &core.app.queue, now_ms);
    let checked = asked.messages.iter().map(check).collect::<Result<Vec<_>, _>>()?;
    let batch: Vec<NewMessage<'_>> = checked.iter().map(|message| message.as_new(topic)).collect();
    let results = match core.app.queue.append_placed(producer, &batch, Space::New) {
        Ok((once, places)) => {
            match asked.ack {
                Some(Ack::None | Ack::Memory) => {}
                None => durable(core, once.appended.end).await?,
                Some(Ack::Disk) => on_disk(core, once.appended.end).await?,
            }
            if once.repeated {
                first_results(core, &once, &batch).await?
            } else {
                places.iter().map(published).collect()
            }
        }
        // Whoever asked for no word gets none.
        Err(ProducerError::Append(AppendError::NoSpace | AppendError::Busy | AppendError::Poisoned))
            if asked.ack == Some(Ack::None) =>
        {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    Ok(answer::json(StatusCode::OK, &PublishAnswer { results }))
}

fn producer<'a>(asked: &'a PublishRequest<'_>) -> Result<Option<Producer<'a>>, Refusal> {
    match (asked.producer_id.as_deref(), asked.sequence) {
        (None, None) => Ok(None),
        (Some(id), Some(sequence)) if (1..=PRODUCER_BYTES_MAX).contains(&id.len()) => {
            Ok(Some(Producer { id, sequence }))
        }
        (Some(_), Some(_)) => Err(Refusal::BadRequest(
            format!("`producer_id` must have 1 to {PRODUCER_BYTES_MAX} bytes").into(),
        )),
        (Some(_), None) => Err(Refusal::BadRequest("`producer_id` needs `sequence` beside it".into())),
        (None, Some(_)) => Err(Refusal::BadRequest("`sequence` needs `producer_id` beside it".into())),
    }
}

/// Where the batch went that had this number first. It is the same batch, or the number was used twice.
async fn first_results(
    core: &Core,
    once: &Once,
    batch: &[NewMessage<'_>],
) -> Result<Vec<Published>, Refusal> {
    // Only what is durable can be read, and told as being there.
    durable(core, once.appended.end).await?;
    let queue = &core.app.queue;
    let first: Vec<Message> =
        queue.scan(once.appended.first).map_while(Result::ok).take(batch.len()).collect();
    if first.len() < batch.len() {
        // It was appended, and is deleted by now. A lone message's place is known without it.
        let [_] = batch else { return Err(Refusal::SequenceTooOld) };
        let (id, queue, offset) = (once.appended.first, once.appended.queue, once.appended.offset);
        return Ok(vec![published(&Place { id, queue, offset })]);
    }
    if !first.iter().zip(batch).all(|(stored, sent)| is_same(stored, sent)) {
        return Err(Refusal::SequenceMismatch);
    }
    let place = |stored: &Message| Place { id: stored.position, queue: stored.queue, offset: stored.offset };
    Ok(first.iter().map(place).map(|place| published(&place)).collect())
}

fn is_same(stored: &Message, sent: &NewMessage<'_>) -> bool {
    stored.topic == sent.topic
        && stored.tag == sent.tag
        && stored.keys.iter().map(String::as_str).eq(sent.keys.iter().copied())
        && stored.body == sent.body
}

/// Waits until everything below `end` may be told.
pub(super) async fn durable(core: &Core, end: Position) -> Result<(), Refusal> {
    core.told(Lsn(end.0)).await.map_err(|_| Refusal::NotOnDisk)
}

/// Waits until everything below `end` is on disk, in either flush mode.
async fn on_disk(core: &Core, end: Position) -> Result<(), Refusal> {
    durable(core, end).await?;
    let app = &core.app;
    if app.queue.synced() >= end {
        return Ok(());
    }
    // Async mode: one sync for all that came while the one before was under way.
    let synced = async {
        let _turn = app.syncs.acquire().await;
        if app.queue.synced() >= end {
            return Ok(());
        }
        let queue = app.queue.clone();
        off_the_loop(move || queue.wait_synced(queue.durable())).await?.map_err(|_| Refusal::NotOnDisk)
    };
    tokio::time::timeout(DURABLE_WAIT_MAX, synced).await.unwrap_or(Err(Refusal::NotOnDisk))
}

pub(super) fn published(place: &Place) -> Published {
    Published { id: place.id.to_string(), queue: place.queue, offset: place.offset }
}
