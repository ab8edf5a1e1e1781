//! `POST …/ack`, `/nack`, `/extend`: a result for each receipt, in their order.

use super::consumers::{at_their_groups, named};
use super::{in_range, not_internal};
use crate::http::{Answer, Refusal, answer, request};
use crate::pipeline::topics;
use crate::state::Core;
use http::StatusCode;
use std::borrow::Cow;
use std::time::Instant;
use tidegate_client::wire::{self, AckRequest, ExtendRequest, LeaseAnswer, LeaseResult, NackRequest};
use tidegate_queue::{Receipt, ReceiptError};

/// Receipts of one request.
const RECEIPTS_MAX: usize = 4_096;
/// What a result takes in the answer, about.
const RESULT_BYTES: usize = 100;
/// Longest lease and longest delay of a nack: 12 h and a year.
const LEASE_MS_MAX: u64 = 43_200_000;
const DELAY_MS_MAX: u64 = 365 * 24 * 3_600_000;

pub(in crate::api) fn ack(core: &Core, topic: &str, group: &str, body: &[u8]) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: AckRequest = request::parse_json(body)?;
    let receipts = receipts(asked.receipts)?;
    let queue = &core.app.queue;
    let results = at_their_groups(group, &receipts, |group, own| queue.ack(topic, group, own), |(), _| ());
    if topic == topics::ORDERS && group == topics::ORDER_WORKERS {
        core.app.drain.observe(results.iter().filter(|result| result.is_ok()).count() as u64, Instant::now());
    }
    Ok(told(&receipts, results.into_iter().map(|result| result.map(|()| None))))
}

pub(in crate::api) fn nack(core: &Core, topic: &str, group: &str, body: &[u8]) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: NackRequest = request::parse_json(body)?;
    let delay_ms = asked.delay_ms.map(|ms| in_range("delay_ms", ms, 0, DELAY_MS_MAX)).transpose()?;
    let receipts = receipts(asked.receipts)?;
    let nack = |group: &str, own: &[Receipt]| core.app.queue.nack(topic, group, own, delay_ms);
    let results = at_their_groups(group, &receipts, nack, |(), _| ());
    Ok(told(&receipts, results.into_iter().map(|result| result.map(|()| None))))
}

pub(in crate::api) fn extend(core: &Core, topic: &str, group: &str, body: &[u8]) -> Result<Answer, Refusal> {
    not_internal(topic)?;
    let asked: ExtendRequest = request::parse_json(body)?;
    let lease_ms = in_range("lease_ms", asked.lease_ms, 1, LEASE_MS_MAX)?;
    let receipts = receipts(asked.receipts)?;
    let extend = |group: &str, own: &[Receipt]| core.app.queue.extend(topic, group, own, lease_ms);
    let results = at_their_groups(group, &receipts, extend, |renewed, consumer| named(&renewed, consumer));
    Ok(told(&receipts, results.into_iter().map(|result| result.map(Some))))
}

fn receipts(texts: Vec<String>) -> Result<Vec<Receipt>, Refusal> {
    if texts.len() > RECEIPTS_MAX {
        return Err(Refusal::BadRequest(format!("`receipts` may hold at most {RECEIPTS_MAX}").into()));
    }
    Ok(texts.into_iter().map(Receipt).collect())
}

/// A new receipt stands in the place of the one it replaces.
fn told(asked: &[Receipt], results: impl Iterator<Item = Result<Option<Receipt>, ReceiptError>>) -> Answer {
    let results = asked.iter().zip(results).map(|(receipt, result)| match result {
        Ok(renewed) => LeaseResult {
            receipt: renewed.map_or(Cow::Borrowed(receipt.0.as_str()), |renewed| Cow::Owned(renewed.0)),
            ok: true,
            error: None,
        },
        Err(ReceiptError::Expired) => LeaseResult {
            receipt: Cow::Borrowed(receipt.0.as_str()),
            ok: false,
            error: Some(Cow::Borrowed(wire::ProblemType::ReceiptExpired.slug())),
        },
    });
    let results: Vec<_> = results.collect();
    answer::json_of_about(results.len() * RESULT_BYTES, StatusCode::OK, &LeaseAnswer { results })
}
