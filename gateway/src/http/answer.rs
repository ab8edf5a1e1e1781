//! Answers: JSON, problem documents, and the refusals whose bytes never change.

use super::body::Body;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde::Serialize;
use std::sync::LazyLock;
use std::time::Duration;
use tidegate_client::wire::{Problem, ProblemType};

/// What a handler returns.
pub type Answer = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A JSON answer. Tickets and figures change: caches must not keep them.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    json_of_about(128, status, value)
}

/// The same, of about so many bytes: a long one that is known to be long is not copied as it grows.
pub fn json_of_about(bytes: usize, status: StatusCode, value: &impl Serialize) -> Answer {
    let mut text = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut text, value).expect("wire types have string keys and always serialize");
    raw(status, JSON, Bytes::from(text))
}

/// A JSON answer whose text is in pieces.
pub fn json_pieces(status: StatusCode, pieces: Vec<Bytes>) -> Answer {
    raw(status, JSON, pieces)
}

/// An answer of any type.
pub fn raw(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    guard(&mut answer);
    answer
}

/// A problem document with members of its own.
pub fn problem(problem: &Problem<'_>) -> Answer {
    let bytes = serde_json::to_vec(problem).expect("wire types have string keys and always serialize");
    raw(status(problem.status), PROBLEM_JSON, Bytes::from(bytes))
}

/// A problem document that says no more than its type. Its bytes are made once: this is the sold-out path.
pub fn plain(problem_type: ProblemType) -> Answer {
    static DOCUMENTS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
        let document =
            |kind: &ProblemType| serde_json::to_vec(&Problem::new(*kind)).unwrap_or_default().into();
        ProblemType::ALL.iter().map(document).collect()
    });
    let mut answer = Response::new(Body::from(DOCUMENTS[problem_type as usize].clone()));
    *answer.status_mut() = status(problem_type.status());
    answer.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
    guard(&mut answer);
    answer
}

/// No cache keeps it, and no browser takes it for what it is not.
fn guard(answer: &mut Answer) {
    answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
}

/// Adds `Retry-After`, rounded up to whole seconds and at least one.
pub fn with_retry_after(mut answer: Answer, after: Duration) -> Answer {
    let seconds = after.as_millis().div_ceil(1000).max(1) as u64;
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_type_finds_its_own_document() {
        for (place, kind) in ProblemType::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, place);
            assert_eq!(plain(*kind).status().as_u16(), kind.status());
        }
    }

    #[test]
    fn retry_after_is_never_zero() {
        let answer = with_retry_after(plain(ProblemType::Overloaded), Duration::from_millis(1));
        assert_eq!(answer.headers()[RETRY_AFTER], "1");
        let answer = with_retry_after(plain(ProblemType::Overloaded), Duration::from_millis(1001));
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }
}
