//! One spelling of a path, so that the path that the gates judged is the path that the upstream sees.
//!
//! What two servers could read in two ways is refused, not repaired: dot segments, empty segments, encoded slashes,
//! backslashes, control characters, escapes of escapes. What has one meaning and several spellings (`%41`, `%c3`) is
//! brought into one (RFC 3986, 6.2.2).

use std::borrow::Cow;

/// Why a path is not forwarded; for the client.
pub type PathFault = &'static str;

/// The canonical spelling of `path`, which is without its query. Borrowed when it was canonical already.
pub fn canonical(path: &str) -> Result<Cow<'_, str>, PathFault> {
    let Some(rest) = path.strip_prefix('/') else { return Err("it does not begin with /") };
    let plain = decoded(path)?;
    let twice = |at: usize| plain.as_bytes().get(at + 2..).is_some_and(|rest| escape(rest).is_ok());
    if plain.match_indices("%25").any(|(at, _)| twice(at)) {
        return Err("it is encoded twice");
    }
    let segments = if let Cow::Owned(plain) = &plain { &plain[1..] } else { rest };
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        // Some servers cut parameters off (`..;x`) before they look at the dots.
        let bare = segment.split(';').next().unwrap_or(segment);
        if matches!(bare, "." | "..") {
            return Err("it has a dot segment");
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Err("it has an empty segment");
        }
    }
    Ok(plain)
}

/// Decodes escapes of characters that need none, and writes the others in capitals.
fn decoded(path: &str) -> Result<Cow<'_, str>, PathFault> {
    let bytes = path.as_bytes();
    let mut plain: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        let (width, byte, escaped) = match bytes[at] {
            b'%' => (3, escape(&bytes[at..])?, true),
            byte => (1, byte, false),
        };
        match byte {
            0..=0x1f | 0x7f => return Err("it has a control character"),
            b'\\' => return Err("it has a backslash"),
            b'/' if escaped => return Err("it has an encoded slash"),
            b'#' | b'?' if !escaped => return Err("it has a query or a fragment"),
            0x80.. | b' ' if !escaped => return Err("it has a character that must be percent-encoded"),
            _ => {}
        }
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        let as_it_is = &bytes[at..at + width];
        if escaped && (unreserved || as_it_is.iter().any(u8::is_ascii_lowercase)) {
            let plain = plain.get_or_insert_with(|| bytes[..at].to_vec());
            if unreserved {
                plain.push(byte);
            } else {
                plain.extend(as_it_is.iter().map(u8::to_ascii_uppercase));
            }
        } else if let Some(plain) = &mut plain {
            plain.extend_from_slice(as_it_is);
        }
        at += width;
    }
    match plain {
        None => Ok(Cow::Borrowed(path)),
        Some(plain) => String::from_utf8(plain).map(Cow::Owned).map_err(|_| "it is no text"),
    }
}

/// The byte that the two digits after the first byte stand for.
fn escape(bytes: &[u8]) -> Result<u8, PathFault> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    match (digit(1), digit(2)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err("it has a % that is no escape"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_meaning_has_one_spelling() {
        for (path, plain) in [
            ("/", "/"),
            ("/shop/", "/shop/"),
            ("/shop/item-1.html", "/shop/item-1.html"),
            ("/sh%6fp/%41", "/shop/A"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b/%2A;v=1,2", "/a%20b/%2A;v=1,2"),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(canonical(path).unwrap(), plain);
        }
    }

    #[test]
    fn what_two_servers_read_in_two_ways_is_refused() {
        for path in [
            "",
            "*",
            "shop",
            "/shop/../admin",
            "/shop/..",
            "/./shop",
            "/shop/%2e%2e/admin",
            "/shop/.%2E/admin",
            "/shop/..%2fadmin",
            "/shop/..%2Fadmin",
            "/shop/..;/admin",
            "/shop/..;x=1/admin",
            "/shop//admin",
            "//admin",
            "/shop/..%5cadmin",
            "/shop/..\\admin",
            "/shop/%00",
            "/shop/%0d%0aX: y",
            "/shop/%7f",
            "/shop/%",
            "/shop/%2",
            "/shop/%zz",
            "/shop/%252e%252e/admin",
            "/shop/%25%32%65",
            "/shop/é",
            "/shop/a b",
            "/shop?x",
            "/shop#x",
        ] {
            assert!(canonical(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_spelling_is_its_own_and_decodes_to_the_same(path in "/([a-zA-Z0-9%./;\\\\]|%[0-9a-fA-F]{2}){0,24}") {
            if let Ok(plain) = canonical(&path) {
                prop_assert_eq!(canonical(&plain).unwrap(), plain.clone());
                let meaning = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
                prop_assert_eq!(meaning(&plain), meaning(&path));
                let decoded = String::from_utf8_lossy(&meaning(&plain)).into_owned();
                prop_assert_eq!(decoded.matches('/').count(), plain.matches('/').count());
                prop_assert!(!decoded.split('/').any(|segment| segment == ".." || segment == "."));
                prop_assert!(!decoded.contains(['\\', '\0', '\r', '\n']));
            }
        }
    }
}
