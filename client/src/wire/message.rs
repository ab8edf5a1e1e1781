//! Messages as they are delivered, and as producers hand them in.

use super::body::borrow_raw;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A message under lease, or one that was looked up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message<'a> {
    /// To ack, nack or extend with; left out (empty) where the message was looked up rather than delivered.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub receipt: Cow<'a, str>,
    /// Id.
    pub id: Cow<'a, str>,
    /// Topic.
    pub topic: Cow<'a, str>,
    /// Queue in the topic.
    pub queue: u32,
    /// Offset in that queue; no gaps.
    pub offset: u64,
    /// Tag, empty for none.
    pub tag: Cow<'a, str>,
    /// Look-up keys.
    pub keys: Cow<'a, [String]>,
    /// Free properties.
    pub properties: Properties<'a>,
    /// 1 for the first delivery; 0 where the message was looked up.
    pub attempt: u32,
    /// Appended at, Unix ms.
    pub born_at_ms: u64,
    /// Not delivered at or after, Unix ms; `null` for never too late.
    pub deadline_ms: Option<u64>,
    /// Payload; see [`super::json_or_bytes`].
    pub body: Cow<'a, RawValue>,
}

/// Name and value pairs in their order; an object on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties<'a>(pub Cow<'a, [(String, String)]>);

impl Properties<'_> {
    /// First value under `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de> Deserialize<'de> for Properties<'_> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, String)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings (properties)")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        from.deserialize_map(Pairs).map(|pairs| Self(Cow::Owned(pairs)))
    }
}

/// When a publish is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// At once; a full or failing log, or a crash, loses the messages without a word.
    None,
    /// Once the log has accepted them; a crash may lose them.
    Memory,
    /// Once they are on disk, whatever the gateway's flush mode: nothing loses them.
    #[default]
    Disk,
}

/// One message on its way in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishMessage<'a> {
    /// Any JSON value; bytes as `{"base64":"…"}`.
    #[serde(borrow, deserialize_with = "borrow_raw")]
    pub body: Cow<'a, RawValue>,
    /// Tag to filter by.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Cow<'a, str>>,
    /// Look-up keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Free properties.
    #[serde(default, skip_serializing_if = "no_properties")]
    pub properties: Properties<'a>,
    /// Messages of one ordering key share a queue, and ordered groups get them one by one, in their order.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<Cow<'a, str>>,
    /// This queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// Not before, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at_ms: Option<u64>,
    /// Delay by level, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_level: Option<u32>,
    /// Not at or after, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

fn no_properties(properties: &Properties<'_>) -> bool {
    properties.0.is_empty()
}

impl<'a> PublishMessage<'a> {
    /// A message with this body and nothing else.
    pub fn new(body: &'a RawValue) -> Self {
        Self::with(Cow::Borrowed(body))
    }

    /// A message with this value as its body.
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|body| Self::with(Cow::Owned(body)))
    }

    /// A message with these bytes as its body.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::with(Cow::Owned(super::encode_bytes(bytes)))
    }

    fn with(body: Cow<'a, RawValue>) -> Self {
        Self {
            body,
            tag: None,
            keys: Vec::new(),
            properties: Properties::default(),
            ordering_key: None,
            queue: None,
            deliver_at_ms: None,
            delay_level: None,
            deadline_ms: None,
        }
    }
}

/// `POST /v1/topics/{topic}/messages`. Parse it from a slice: it borrows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest<'a> {
    /// One atomic batch.
    #[serde(borrow)]
    pub messages: Vec<PublishMessage<'a>>,
    /// Absent: once it is durable as the gateway's flush mode has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// With `sequence`: a repeat answers the first results. 1 to 255 bytes.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub producer_id: Option<Cow<'a, str>>,
    /// Rises with each batch of the producer; the highest 32 are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

/// Where one message went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Id.
    pub id: String,
    /// Queue.
    pub queue: u32,
    /// Offset in that queue; 0 for a delayed message, which gets its offset, and another id, when it is due.
    pub offset: u64,
}

/// Answer to a publish, in the order of its messages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PublishAnswer {
    /// One for each.
    pub results: Vec<Published>,
}
