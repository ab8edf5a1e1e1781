//! What can go wrong with a call, and whether repeating it later makes sense.

use crate::wire::{Problem, ProblemType};
use std::time::Duration;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed for good: retries within the policy are already spent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The gateway refused.
    #[error("{method} {path} refused: {} ({}) {}", .problem.kind, .problem.status, words(.problem))]
    Problem {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// What the gateway said.
        problem: Box<Problem<'static>>,
    },
    /// Something that is no gateway answered, a proxy perhaps.
    #[error("{method} {path} answered with status {status} and no problem document: {excerpt}")]
    Status {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// HTTP status.
        status: u16,
        /// Start of the body.
        excerpt: String,
    },
    /// No connection, or it broke before the answer was whole. Unless `refused`, the call may have taken effect.
    #[error(
        "{method} {path}: gateway not reachable after {attempts} attempts: {}; is it running at this address?",
        cause(.source.as_ref())
    )]
    Unavailable {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// Attempts made.
        attempts: u32,
        /// No attempt got a connection, so the call certainly had no effect.
        refused: bool,
        /// The last failure.
        source: Source,
    },
    /// No whole answer in time. The call may have taken effect.
    #[error("{method} {path}: no answer within {} ms, {attempts} attempts", .after.as_millis())]
    Timeout {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// Attempts made.
        attempts: u32,
        /// Since the call began.
        after: Duration,
    },
    /// The answer is not what the interface says.
    #[error("{method} {path}: the answer does not parse: {source}; do client and gateway fit together?")]
    Decode {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The answer is longer than the client takes.
    #[error("{method} {path}: the answer is longer than {bytes_max} bytes; ask for fewer messages at once")]
    TooLarge {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// The bound, set with `response_bytes_max`.
        bytes_max: usize,
    },
    /// The request cannot be written: a name that is no part of a path, a token with control characters.
    #[error("{method} {path}: the request cannot be built: {source}")]
    Request {
        /// Method of the request.
        method: &'static str,
        /// Path of the request.
        path: String,
        /// What is wrong with it.
        source: Source,
    },
}

/// What the gateway said in words: the detail, or what is true of every refusal of this kind.
fn words<'p>(problem: &'p Problem<'_>) -> &'p str {
    if problem.detail.is_empty() { &problem.title } else { &problem.detail }
}

/// The innermost cause: the outer ones say no more than that connecting failed.
fn cause<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e dyn std::error::Error {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

impl ClientError {
    /// The refusal's type, where the gateway refused with one that this version knows.
    pub fn problem_type(&self) -> Option<ProblemType> {
        match self {
            Self::Problem { problem, .. } => problem.problem_type(),
            _ => None,
        }
    }

    /// HTTP status, where one came.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem { problem, .. } => Some(problem.status),
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// True when no answer came: no connection, a broken one, or nothing in time. The call may have taken effect.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }

    /// True when the same call may succeed later without anybody changing it: the gateway is away, busy or
    /// faulty. False when it will be refused again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Timeout { .. } => true,
            Self::Problem { .. } | Self::Status { .. } => {
                self.status().is_some_and(|status| status >= 500 || status == 429 || status == 408)
            }
            Self::Decode { .. } | Self::TooLarge { .. } | Self::Request { .. } => false,
        }
    }
}

/// Why a client was not built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// The address is no `http://host:port`.
    #[error("`{0}` is no base URL; give scheme and authority alone, such as http://127.0.0.1:8081")]
    BaseUrl(String),
    /// A fleet without an address.
    #[error(
        "no address is given; give the inner listener of at least one gateway, such as http://127.0.0.1:8081"
    )]
    NoAddress,
    /// The token cannot stand in a header.
    #[error("the bearer token holds characters that a header cannot carry")]
    Token,
}
