//! What handlers read from a request: path segments, query parameters, JSON bodies.

use super::refusal::Refusal;
use serde::Deserialize;
use std::borrow::Cow;

/// Longest long poll, in seconds; more is cut to this.
pub const WAIT_S_MAX: u64 = 60;

/// Path segments after the leading `/`: at most 8 are looked at, more match nothing.
pub fn segments(path: &str) -> Option<smallvec::SmallVec<[&str; 8]>> {
    let mut segments = smallvec::SmallVec::new();
    for segment in path.strip_prefix('/')?.split('/') {
        if segments.len() == 8 {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

/// One query parameter, percent-decoded.
pub fn query<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode(value))
    })
}

/// A whole number among the query parameters.
pub fn query_number(text: Option<&str>, name: &'static str) -> Result<Option<u64>, Refusal> {
    match query(text, name) {
        None => Ok(None),
        Some(value) => match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                Err(Refusal::BadRequest(format!("`{name}` must be a whole number, not `{value}`").into()))
            }
        },
    }
}

/// Decodes `%xx`; what is no UTF-8 then, or no escape, stays visible as such and matches nothing.
pub fn percent_decode(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

/// A JSON body. The refusal names the unknown or missing field, and where.
pub fn parse_json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    // Left to itself, serde would take `["x"]` for a struct of one field.
    if body.trim_ascii_start().first().is_some_and(|&byte| byte != b'{') {
        return Err(Refusal::BadRequest("the body must be a JSON object".into()));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::BadRequest(error.to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_found_and_decoded() {
        assert_eq!(query(Some("wait=5&version=2"), "version").as_deref(), Some("2"));
        assert_eq!(query(Some("key=a%2Fb%zz"), "key").as_deref(), Some("a/b%zz"));
        assert_eq!(query(None, "wait"), None);
        assert!(query_number(Some("wait=x"), "wait").is_err());
    }

    #[test]
    fn an_overlong_path_matches_nothing() {
        assert!(segments("/1/2/3/4/5/6/7/8").is_some());
        assert!(segments("/1/2/3/4/5/6/7/8/9").is_none());
    }
}
