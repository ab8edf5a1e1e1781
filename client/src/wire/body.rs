//! Payloads: any JSON value travels as it is; bytes that are no JSON travel as `{"base64":"…"}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A body that is marked as bytes and holds none.
#[derive(Debug, thiserror::Error)]
#[error("the member `base64` of the body is no standard base64: {0}; send it padded, with + and /")]
pub struct BodyError(#[from] base64::DecodeError);

/// Checked JSON text, borrowed. Fails when `text` is no single JSON value.
pub fn parse_raw(text: &str) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_str(text)
}

/// Wraps bytes as `{"base64":"…"}`.
pub fn encode_bytes(bytes: &[u8]) -> Box<RawValue> {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 13);
    text.push_str(r#"{"base64":""#);
    STANDARD.encode_string(bytes, &mut text);
    text.push_str(r#""}"#);
    RawValue::from_string(text).expect("base64 text needs no escapes, so this is one JSON object")
}

/// A stored payload as it travels: JSON borrowed as it is, anything else wrapped as bytes.
pub fn json_or_bytes(stored: &[u8]) -> Cow<'_, RawValue> {
    match serde_json::from_slice(stored) {
        Ok(json) => Cow::Borrowed(json),
        Err(_) => Cow::Owned(encode_bytes(stored)),
    }
}

/// The bytes of a body `{"base64":"…"}`; `None` when it is any other JSON value.
pub fn decode_bytes(body: &RawValue) -> Result<Option<Vec<u8>>, BodyError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        base64: Cow<'a, str>,
    }
    // Most bodies are no wrapper; their text says so before a parse does.
    if !body.get().starts_with('{') || !body.get().contains("base64") {
        return Ok(None);
    }
    match serde_json::from_str::<Wrapped<'_>>(body.get()) {
        Ok(wrapped) => Ok(Some(STANDARD.decode(wrapped.base64.as_bytes())?)),
        Err(_) => Ok(None),
    }
}

/// Borrows a raw value from the input; serde's own `Cow` would copy it.
pub(super) fn borrow_raw<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Cow<'a, RawValue>, D::Error> {
    <&'de RawValue>::deserialize(from).map(Cow::Borrowed)
}

/// As [`borrow_raw`], for a field that must be an object.
pub(super) fn borrow_object<'de: 'a, 'a, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Cow<'a, RawValue>>, D::Error> {
    let raw = <&'de RawValue>::deserialize(from)?;
    if raw.get().starts_with('{') {
        Ok(Some(Cow::Borrowed(raw)))
    } else {
        Err(D::Error::custom("`attributes` must be a JSON object"))
    }
}
