//! Entity tags (RFC 9110, 8.8.3): made from content, so that every gateway makes the same, and compared.

use http::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};
use sha2::{Digest, Sha256};

/// Bytes of the digest that stand in a tag: two contents share one by chance never, and by intent not in our time.
const DIGEST_BYTES: usize = 16;

/// For an answer that is the same byte for byte whenever the tag is.
pub fn strong(content: &[u8]) -> HeaderValue {
    tag("\"", content)
}

/// For an answer that means the same whenever the tag is the same; `content` is what it means.
pub fn weak(content: &[u8]) -> HeaderValue {
    tag("W/\"", content)
}

fn tag(before: &str, content: &[u8]) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(content);
    let mut text = Vec::with_capacity(before.len() + 2 * DIGEST_BYTES + 1);
    text.extend_from_slice(before.as_bytes());
    for byte in digest.iter().take(DIGEST_BYTES) {
        text.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    text.push(b'"');
    HeaderValue::from_bytes(&text).expect("hexadecimal digits in quotes are a header value")
}

/// Whether `If-None-Match` names this tag, so that 304 is the answer. Compared weakly, as RFC 9110 13.1.2 wants it. What
/// cannot be read names nothing.
pub fn named(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let own = opaque(tag.as_bytes());
    headers.get_all(IF_NONE_MATCH).iter().any(|value| list_names(value.as_bytes(), own))
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn list_names(mut list: &[u8], own: &[u8]) -> bool {
    loop {
        let skipped = list.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','));
        let Some(start) = skipped else { return false };
        list = &list[start..];
        if list == b"*" {
            return true;
        }
        list = opaque(list);
        // A quoted tag may hold commas; one without its quotes ends the reading.
        let Some(end) = list.strip_prefix(b"\"").and_then(|rest| rest.iter().position(|&byte| byte == b'"'))
        else {
            return false;
        };
        let (present, rest) = list.split_at(end + 2);
        if present == own {
            return true;
        }
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(values: &[&str], tag: &str) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
        }
        named(&headers, &HeaderValue::from_str(tag).unwrap())
    }

    #[test]
    fn a_tag_follows_its_content_alone() {
        assert_eq!(strong(b"x"), strong(b"x"));
        assert_ne!(strong(b"x"), strong(b"y"));
        assert_eq!(strong(b"x").len(), 34);
        assert_eq!(weak(b"x").to_str().unwrap(), format!("W/{}", strong(b"x").to_str().unwrap()));
    }

    #[test]
    fn lists_weak_tags_and_the_star_are_understood() {
        assert!(asks(&["\"a\""], "\"a\""));
        assert!(asks(&["W/\"a\""], "\"a\"") && asks(&["\"a\""], "W/\"a\""));
        assert!(asks(&["\"x\", W/\"y,z\" ,\"a\""], "\"a\""));
        assert!(asks(&["\"x\"", "\"a\""], "\"a\""), "in a second header of the name");
        assert!(asks(&["*"], "\"a\""));
        assert!(asks(&["\"a,b\""], "\"a,b\""));
        for other in ["", "\"b\"", "a", "\"a", "W/", "\"x\"a\"", "\"\"", ", ,"] {
            assert!(!asks(&[other], "\"a\""), "{other}");
        }
        assert!(!asks(&[], "\"a\""));
    }
}
