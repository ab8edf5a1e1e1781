//! `GET /`: one page that fetches the admin API's JSON every two seconds. No assets from elsewhere.

use crate::http::{Answer, answer};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue};

const PAGE: &str = include_str!("dashboard.html");

pub(in crate::api) fn dashboard() -> Answer {
    let mut page = answer::raw(
        StatusCode::OK,
        HeaderValue::from_static("text/html; charset=utf-8"),
        Bytes::from_static(PAGE.as_bytes()),
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    page
}
