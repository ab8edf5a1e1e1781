//! Transactions: half messages, their resolution, and the checks of those that nobody has resolved.

use super::{Message, PublishMessage, Published};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// `POST /v1/topics/{topic}/transactions`. Parse it from a slice: it borrows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginTransaction<'a> {
    /// The message; nobody sees it before the commit.
    #[serde(borrow)]
    pub message: PublishMessage<'a>,
    /// Who is asked when it is not resolved in time.
    #[serde(borrow)]
    pub producer_group: Cow<'a, str>,
}

/// A transaction that has begun: its half message is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// To resolve it with, at the gateway where it was begun.
    pub transaction: String,
}

/// What a producer says of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The message is delivered.
    Commit,
    /// Nobody will ever see it.
    Rollback,
    /// Not known yet: it is checked again later.
    Unknown,
}

/// `POST /v1/transactions/{transaction}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveTransaction {
    /// Commit, rollback, or not known yet.
    pub resolution: Resolution,
}

/// Answer to a resolution; it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Which.
    pub transaction: String,
    /// As it was asked for.
    pub resolution: Resolution,
    /// After a commit: where the message is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Published>,
}

/// `POST /v1/producer-groups/{group}/checks`. An empty object takes every default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChecksRequest {
    /// At most so many.
    #[serde(default = "max_default")]
    pub max: u32,
    /// How long to wait for the first one.
    #[serde(default = "wait_default_ms")]
    pub wait_ms: u64,
}

impl Default for ChecksRequest {
    fn default() -> Self {
        Self { max: max_default(), wait_ms: wait_default_ms() }
    }
}

fn max_default() -> u32 {
    32
}

fn wait_default_ms() -> u64 {
    15_000
}

/// A transaction that nobody has resolved in time: its producer group is asked what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransactionCheck<'a> {
    /// To resolve it with.
    pub transaction: Cow<'a, str>,
    /// As it was sent.
    pub message: Message<'a>,
    /// Which check this is, from 1.
    pub attempt: u32,
}

/// Answer to a request for checks; empty after `wait_ms`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ChecksAnswer<'a> {
    /// Each is asked once, and again at the next check.
    pub checks: Vec<TransactionCheck<'a>>,
}
