//! Receiving under lease, and what is said about a lease afterwards.

use super::Message;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// `POST …/receive`. An empty object takes every default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiveRequest {
    /// Who receives: needed for a broadcast, where each consumer sees every message; else for your own sake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// At most so many messages.
    #[serde(default = "max_default")]
    pub max: u32,
    /// How long to wait for the first one.
    #[serde(default = "wait_default_ms")]
    pub wait_ms: u64,
    /// How long they stay invisible to others.
    #[serde(default = "lease_default_ms")]
    pub lease_ms: u64,
    /// Tags wanted; `["*"]`: all.
    #[serde(default = "all_tags")]
    pub tags: Vec<String>,
}

impl Default for ReceiveRequest {
    fn default() -> Self {
        Self {
            consumer: None,
            max: max_default(),
            wait_ms: wait_default_ms(),
            lease_ms: lease_default_ms(),
            tags: all_tags(),
        }
    }
}

fn max_default() -> u32 {
    32
}

fn wait_default_ms() -> u64 {
    15_000
}

fn lease_default_ms() -> u64 {
    30_000
}

fn all_tags() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Answer to a receive; empty after `wait_ms`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReceiveAnswer<'a> {
    /// Leased messages.
    pub messages: Vec<Message<'a>>,
}

/// `POST …/ack`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckRequest {
    /// Leases to settle.
    pub receipts: Vec<String>,
}

/// `POST …/nack`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NackRequest {
    /// Leases to give back.
    pub receipts: Vec<String>,
    /// Redelivered after; absent: the group's back-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// `POST …/extend`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// Leases to prolong.
    pub receipts: Vec<String>,
    /// From now.
    pub lease_ms: u64,
}

/// What became of one receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseResult<'a> {
    /// The receipt asked about; after a successful extend the new one, the old one being void.
    pub receipt: Cow<'a, str>,
    /// Done.
    pub ok: bool,
    /// Slug of the refusal, `receipt-expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Cow<'a, str>>,
}

/// Answer to ack, nack and extend, in the order of the receipts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeaseAnswer<'a> {
    /// One for each.
    pub results: Vec<LeaseResult<'a>>,
}
