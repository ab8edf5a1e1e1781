//! One call: build the request, send it as often as the policy and its nature allow, bound the answer, and tell
//! refusals from failures. Knows nothing of what the calls mean.

use super::retry::Backoff;
use super::{ClientError, RetryPolicy};
use crate::wire::Problem;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// All but the unreserved characters of RFC 3986.
const NOT_IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A name as part of a path or a query.
pub(super) fn segment(name: &str) -> impl Display + '_ {
    utf8_percent_encode(name, NOT_IN_SEGMENT)
}

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone)]
pub(super) struct Transport {
    pub(super) base_url: String,
    pub(super) http: Pool<HttpConnector, Full<Bytes>>,
    pub(super) authority: Authority,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) request_timeout: Duration,
    pub(super) response_bytes_max: usize,
    pub(super) retry: RetryPolicy,
}

/// When a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Whatever became of the attempt before.
    Always,
    /// Only if no connection came about, so that nothing was sent.
    IfRefused,
}

#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Bytes,
    repeat: Repeat,
    /// The gateway may hold the answer back for so long.
    wait: Duration,
}

/// A whole answer of the gateway, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    is_problem: bool,
    retry_after: Option<Duration>,
    body: Bytes,
}

enum Failure {
    Refused(Source),
    Lost(Source),
    Timeout,
    TooLarge,
    Request(Source),
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: String) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn put(path: String) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(super) fn delete(path: String) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn new(method: Method, path: String) -> Self {
        Self { method, path, body: Bytes::new(), repeat: Repeat::Always, wait: Duration::ZERO }
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        self.body = serde_json::to_vec(body).expect("request types have string keys only").into();
        self
    }

    pub(super) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    pub(super) fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// The methods in use, as static text for errors.
    fn method_name(&self) -> &'static str {
        match self.method {
            Method::GET => "GET",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "POST",
        }
    }

    /// The answer as `T` when its status is a success or one of `also`, else the refusal.
    pub(super) fn parse<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        also: &[StatusCode],
    ) -> Result<T, ClientError> {
        if !answer.status.is_success() && (!also.contains(&answer.status) || answer.is_problem) {
            return Err(self.refusal(answer));
        }
        // A call that answers nothing of interest parses as unit.
        let text: &[u8] = if answer.body.is_empty() { b"null" } else { &answer.body };
        serde_json::from_slice(text).map_err(|source| ClientError::Decode {
            method: self.method_name(),
            path: self.path.clone(),
            source,
        })
    }

    fn refusal(&self, answer: &Answer) -> ClientError {
        let (method, path) = (self.method_name(), self.path.clone());
        let status = answer.status.as_u16();
        if answer.is_problem
            && let Ok(mut problem) = serde_json::from_slice::<Problem<'static>>(&answer.body)
        {
            problem.status = status;
            return ClientError::Problem { method, path, problem: Box::new(problem) };
        }
        let excerpt = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned();
        ClientError::Status { method, path, status, excerpt }
    }

    fn failed(
        &self,
        failure: Failure,
        attempts: u32,
        refused: bool,
        took: Duration,
        bytes_max: usize,
    ) -> ClientError {
        let (method, path) = (self.method_name(), self.path.clone());
        match failure {
            Failure::Refused(source) | Failure::Lost(source) => {
                ClientError::Unavailable { method, path, attempts, refused, source }
            }
            Failure::Timeout => ClientError::Timeout { method, path, attempts, after: took },
            Failure::TooLarge => ClientError::TooLarge { method, path, bytes_max },
            Failure::Request(source) => ClientError::Request { method, path, source },
        }
    }
}

impl Transport {
    /// Sends and parses; anything but a success is an error.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let answer = self.send(&call).await?;
        call.parse(&answer, &[])
    }

    /// Sends until there is an answer worth handing on, or the policy is spent. The last refusal is handed on
    /// as an answer.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, ClientError> {
        let started = Instant::now();
        let ends = started + self.retry.total_max + call.wait;
        let mut backoff = Backoff::new(self.retry.delay_base, self.retry.delay_max);
        let mut all_refused = true;
        loop {
            let attempt_ends = ends.min(Instant::now() + self.request_timeout + call.wait);
            let outcome = self.attempt(call, attempt_ends).await;
            all_refused &= matches!(outcome, Err(Failure::Refused(_)));
            let at_least = match &outcome {
                Ok(answer) => answer.retry_after.unwrap_or(Duration::ZERO),
                Err(_) => Duration::ZERO,
            };
            let delay = backoff.next_delay(at_least);
            let spent = backoff.failures() >= self.retry.attempts_max || Instant::now() + delay >= ends;
            if spent || !may_repeat(call.repeat, &outcome) {
                return outcome.map_err(|failure| {
                    let took = started.elapsed();
                    call.failed(failure, backoff.failures(), all_refused, took, self.response_bytes_max)
                });
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(&self, call: &Call, ends: Instant) -> Result<Answer, Failure> {
        let request = self.request(call).map_err(|error| Failure::Request(error.into()))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| {
                if error.is_connect() { Failure::Refused(error.into()) } else { Failure::Lost(error.into()) }
            })?;
            let (head, body) = response.into_parts();
            let body = match Limited::new(body, self.response_bytes_max).collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => return Err(Failure::TooLarge),
                Err(error) => return Err(Failure::Lost(error)),
            };
            let is_problem = head
                .headers
                .get(CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"application/problem+json"));
            Ok(Answer { status: head.status, is_problem, retry_after: retry_after(&head.headers), body })
        };
        timeout_at(ends, exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, http::Error> {
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(call.path.as_str())
            .build()?;
        let mut request =
            Request::builder().method(call.method.clone()).uri(uri).header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(call.body.clone()))
    }
}

fn may_repeat(repeat: Repeat, outcome: &Result<Answer, Failure>) -> bool {
    match outcome {
        Ok(answer) => {
            repeat == Repeat::Always && matches!(answer.status.as_u16(), 408 | 429 | 502 | 503 | 504)
        }
        Err(Failure::Refused(_)) => true,
        Err(Failure::Lost(_) | Failure::Timeout) => repeat == Repeat::Always,
        Err(Failure::TooLarge | Failure::Request(_)) => false,
    }
}

/// Seconds only, which is what the gateway sends; a date would need the wall clock to mean anything.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
