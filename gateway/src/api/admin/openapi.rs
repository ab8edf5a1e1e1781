//! `GET /openapi.json`: the interface as an OpenAPI 3.1 document, kept by hand in `gateway/openapi.json`. The tests below
//! keep it in step with the routes and the wire types; `tests/tests/openapi.rs` holds a running gateway against it.

use crate::http::{Answer, answer};
use crate::state::Core;
use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;

const DOCUMENT: &str = include_str!("../../../openapi.json");
/// The servers of the document as it is kept.
const PUBLIC: &str = "http://127.0.0.1:8080";
const INNER: &str = "http://127.0.0.1:8081";

/// The document, with this gateway's addresses.
pub(in crate::api) fn openapi(core: &Core) -> Answer {
    let urls = core.app.urls();
    let here = DOCUMENT.replace(PUBLIC, &urls.public).replace(INNER, &urls.inner);
    answer::raw(StatusCode::OK, HeaderValue::from_static("application/json"), Bytes::from(here))
}

#[cfg(test)]
mod tests;
