//! A challenge, and the purchase pass for its answer.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Answer to `POST /v1/sales/{sale}/challenge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge<'a> {
    /// To be sent back with the answer.
    pub challenge: Cow<'a, str>,
    /// How it is asked, such as `arithmetic`.
    pub kind: Cow<'a, str>,
    /// For the buyer to read.
    pub question: Cow<'a, str>,
    /// Unix ms.
    pub expires_at_ms: u64,
}

/// `POST /v1/sales/{sale}/pass`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassRequest<'a> {
    /// As it came.
    #[serde(borrow)]
    pub challenge: Cow<'a, str>,
    /// The buyer's answer.
    #[serde(borrow)]
    pub answer: PassAnswer<'a>,
}

/// An answer: text as it was typed, or a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PassAnswer<'a> {
    /// As typed.
    Text(Cow<'a, str>),
    /// As a form field may give it.
    Number(i64),
}

/// Answer to `POST /v1/sales/{sale}/pass`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass<'a> {
    /// Goes into `X-Tidegate-Pass` of the order.
    pub pass: Cow<'a, str>,
    /// Unix ms.
    pub expires_at_ms: u64,
}
