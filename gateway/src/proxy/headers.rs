//! What of a head crosses the gateway, either way: nothing that belongs to one connection (RFC 9110, 7.6.1), nothing
//! that the upstream might take for the gateway's own word.

use super::forwarded::Client;
use super::routes::Route;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// The gateway's own, of no use to an upstream.
const PASS: HeaderName = HeaderName::from_static("x-tidegate-pass");

/// Of one connection only.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// Whether a header frames or routes a message, and so is nobody's to set by hand.
pub fn is_framing(name: &HeaderName) -> bool {
    HOP_BY_HOP[..].contains(name) && *name != header::PROXY_AUTHORIZATION
        || [header::CONTENT_LENGTH, header::HOST, header::EXPECT, header::VIA][..].contains(name)
}

/// Takes away what belongs to the connection that the message came by.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .collect();
        for name in listed {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// A name that CGI and its heirs fold into another one: `X_User_Id` is `HTTP_X_USER_ID` as `X-User-Id` is.
fn is_ambiguous(name: &HeaderName) -> bool {
    !name.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What goes to the upstream of a client's head; `Host` is set when the upstream is known.
pub(super) fn towards(mut headers: HeaderMap, route: &Route, client: &Client<'_>) -> HeaderMap {
    let settings = &route.settings;
    drop_hop_by_hop(&mut headers);
    let ambiguous: Vec<HeaderName> = headers.keys().filter(|name| is_ambiguous(name)).cloned().collect();
    for name in ambiguous {
        headers.remove(name);
    }
    // The length is counted anew; `Expect` was answered here.
    for name in [&header::CONTENT_LENGTH, &header::EXPECT, &header::HOST, &PASS] {
        headers.remove(name);
    }
    if let Some(inbound) = client.identity_header {
        headers.remove(inbound);
    }
    headers.remove(&settings.identity_header);
    if let Some(value) = client.buyer.and_then(|buyer| HeaderValue::from_str(buyer).ok()) {
        headers.insert(&settings.identity_header, value);
    }
    client.write(&mut headers);
    for (name, value) in &settings.add_headers {
        headers.insert(name, value.clone());
    }
    headers
}

/// What goes back to the client of an upstream's head.
pub(super) fn back(headers: &mut HeaderMap, status: StatusCode, method: &Method, version: Version) {
    drop_hop_by_hop(headers);
    headers.append(header::VIA, super::forwarded::via(version));
    // Neither has a body, so a length would only be believed wrongly; that of a HEAD tells about the GET.
    if status == StatusCode::NO_CONTENT || (status == StatusCode::NOT_MODIFIED && *method != Method::HEAD) {
        headers.remove(header::CONTENT_LENGTH);
    }
}
