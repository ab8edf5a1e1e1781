//! Dead letters of a group, and their second chance. An order whose ticket has come to its end gets none: nobody
//! waits for it any more.

use crate::api::worker::{looked_up, not_internal};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::Core;
use http::StatusCode;
use tidegate_client::wire::{ProblemType, ReceiveAnswer, RedriveAnswer, RedriveRequest, RedriveResult};
use tidegate_queue::{Message, Position};
use tidegate_stock::TicketId;

/// Dead letters told or put back by one request.
const MAX: usize = 1_000;

pub(in crate::api) fn dead_letters(core: &Core, topic: &str, group: &str) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let letters = core.app.queue.dead_letters(topic, group, MAX);
    let messages = letters.iter().map(looked_up).collect();
    Ok(answer::json(StatusCode::OK, &ReceiveAnswer { messages }))
}

pub(in crate::api) async fn redrive(
    core: &Core,
    topic: &str,
    group: &str,
    body: &[u8],
) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let app = &core.app;
    let asked: RedriveRequest =
        if body.is_empty() { RedriveRequest::default() } else { request::parse_json(body)? };
    let letters = match asked.ids {
        None => app
            .queue
            .dead_letters(topic, group, MAX)
            .into_iter()
            .map(|message| (message.position.to_string(), Some(message)))
            .collect(),
        Some(ids) if ids.len() > MAX => {
            return Err(Refusal::BadRequest(format!("`ids` may hold at most {MAX}").into()));
        }
        Some(ids) => ids.into_iter().map(|id| (id.clone(), find(core, topic, &id))).collect::<Vec<_>>(),
    };
    let mut results = Vec::with_capacity(letters.len());
    for (id, letter) in letters {
        let error = match letter {
            Some(letter) if topic == topics::ORDERS && has_ended(core, &letter).await? => {
                Some(ProblemType::TicketTerminal)
            }
            Some(letter) if app.queue.redrive(topic, group, letter.position) => None,
            Some(_) | None => Some(ProblemType::NotFound),
        };
        results.push(RedriveResult {
            id,
            ok: error.is_none(),
            error: error.map(|kind| kind.slug().to_owned()),
        });
    }
    Ok(answer::json(StatusCode::OK, &RedriveAnswer { results }))
}

fn find(core: &Core, topic: &str, id: &str) -> Option<Message> {
    core.app.queue.find(Position(id.parse().ok()?)).filter(|message| *message.topic == *topic)
}

async fn has_ended(core: &Core, letter: &Message) -> Result<bool, Refusal> {
    let Some(ticket) = letter.keys.first().and_then(|key| key.parse::<TicketId>().ok()) else {
        return Ok(true);
    };
    let Some(view) = core.ticket(ticket).await? else { return Ok(true) };
    core.told(view.lsn).await.map_err(|_| Refusal::Unknown { ticket: Some(ticket) })?;
    Ok(view.status.is_terminal())
}
