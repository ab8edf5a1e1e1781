//! Transactions: a half message that nobody sees until its producer commits it, and the checks of those that no
//! producer has resolved. What is told of one is durable first.
//!
//! A transaction's id says of which log it is: at another gateway it is unknown, never somebody else's.

use super::outgoing::Checked;
use super::publish::{durable, published};
use super::{in_range, looked_up};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::Core;
use http::StatusCode;
use std::borrow::Cow;
use std::time::Duration;
use tidegate_client::wire::{
    BeginTransaction, Begun, ChecksAnswer, ChecksRequest, Resolution, ResolveTransaction, Resolved,
    TransactionCheck,
};
use tidegate_queue::{Check, Outcome, Place, Position, TransactionError};
use tokio::time::{Instant, sleep_until};

/// Checks of one answer.
const CHECKS_MAX: u64 = 1_024;

/// Cancel safe: a half message whose producer went away is checked like any other.
pub(in crate::api) async fn begin(core: &Core, topic: &str, body: &[u8]) -> Result<Answer, Refusal> {
    if topics::is_reserved(topic) {
        return Err(Refusal::TopicReserved);
    }
    let asked: BeginTransaction<'_> = request::parse_json(body)?;
    let checked = Checked::new(&asked.message, &core.app.queue, core.app.clock.now_ms())?;
    let half = core.app.queue.begin(&asked.producer_group, &checked.as_new(topic))?;
    durable(core, half.end).await?;
    Ok(answer::json(StatusCode::OK, &Begun { transaction: id_of(core, half.first) }))
}

/// Cancel safe: repeating it answers the same.
pub(in crate::api) async fn resolve(core: &Core, id: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let asked: ResolveTransaction = request::parse_json(body)?;
    let position = position_of(core, id).ok_or(Refusal::TransactionNotFound)?;
    let queue = &core.app.queue;
    let decided = match asked.resolution {
        Resolution::Commit => queue.commit(position).map(Some),
        Resolution::Rollback => queue.roll_back(position).map(Some),
        Resolution::Unknown => queue.outcome(position).map(|_| None),
    };
    let appended = match decided {
        Ok(appended) => appended,
        Err(error @ TransactionError::Decided(_)) => {
            // The decision before may still be on its way to disk: a crash could take it back.
            durable(core, queue.end()).await?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(appended) = &appended {
        durable(core, appended.end).await?;
    }
    let message = appended.filter(|_| asked.resolution == Resolution::Commit).map(|appended| {
        published(&Place { id: appended.first, queue: appended.queue, offset: appended.offset })
    });
    let told = Resolved { transaction: id.to_owned(), resolution: asked.resolution, message };
    Ok(answer::json(StatusCode::OK, &told))
}

/// Cancel safe: while it waits nothing is taken.
pub(in crate::api) async fn checks(core: &Core, group: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let asked: ChecksRequest = request::parse_json(if body.is_empty() { b"{}" } else { body })?;
    let max = in_range("max", asked.max.into(), 1, CHECKS_MAX)? as usize;
    let app = &core.app;
    let _place = app.receives.try_acquire().map_err(|_| {
        Refusal::QueueBusy("too many receives are waiting; see waiting_receives_max in the configuration")
    })?;
    let end = Instant::now() + Duration::from_millis(asked.wait_ms.min(request::WAIT_S_MAX * 1_000));
    let taken = loop {
        let mut news = std::pin::pin!(app.checks.news());
        news.as_mut().enable();
        let taken = app.queue.take_checks(group, max, Some(app.checks.waker()));
        if !taken.is_empty() {
            break taken;
        }
        tokio::select! {
            biased;
            () = news => {}
            () = sleep_until(end) => break Vec::new(),
            () = app.stopping.wait() => break Vec::new(),
        }
    };
    let check = |check: &Check| -> String { id_of(core, check.id) };
    let checks = taken.iter().map(|asked| TransactionCheck {
        transaction: Cow::Owned(check(asked)),
        message: looked_up(&asked.message),
        attempt: asked.number,
    });
    Ok(answer::json(StatusCode::OK, &ChecksAnswer { checks: checks.collect() }))
}

fn id_of(core: &Core, position: Position) -> String {
    format!("{position}-{:016x}", core.app.queue.id())
}

fn position_of(core: &Core, id: &str) -> Option<Position> {
    let (position, log) = id.split_once('-')?;
    let position = Position(position.parse().ok()?);
    (u64::from_str_radix(log, 16).ok()? == core.app.queue.id()).then_some(position)
}

impl From<TransactionError> for Refusal {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Append(error) => error.into(),
            TransactionError::TooMany => Self::QueueBusy(
                "too many transactions are open; commit or roll back some of them, or retry later",
            ),
            TransactionError::Unknown => Self::TransactionNotFound,
            TransactionError::NotDurable => {
                Self::QueueBusy("the half message is not on disk yet; retry shortly")
            }
            TransactionError::Decided(Outcome::Committed) => Self::AlreadyResolved(Resolution::Commit),
            TransactionError::Decided(Outcome::RolledBack) => Self::AlreadyResolved(Resolution::Rollback),
        }
    }
}
