//! `Cache-Control` of an answer (RFC 9111, 5.2.2; RFC 5861).

use http::header::{CACHE_CONTROL, HeaderMap};

/// What an upstream says of keeping its answer. Times in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of the header, said or not")]
pub(super) struct Control {
    /// There was a line at all.
    pub(super) said: bool,
    pub(super) no_store: bool,
    pub(super) private: bool,
    pub(super) no_cache: bool,
    pub(super) must_revalidate: bool,
    pub(super) max_age_s: Option<u64>,
    pub(super) s_maxage_s: Option<u64>,
    pub(super) stale_while_revalidate_s: Option<u64>,
    pub(super) stale_if_error_s: Option<u64>,
}

impl Control {
    /// Of these headers. What is unknown says nothing; a time that is no number is 0, so that the answer counts as stale.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            control.said = true;
            directives(line.as_bytes(), |name, value| control.take(name, value));
        }
        control
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let seconds = || {
            let text = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("");
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // Beyond what a number holds is for ever, as RFC 9111 1.2.2 wants it.
            if digits { text.parse().unwrap_or(u64::MAX) } else { 0 }
        };
        // Told twice, the shorter time counts.
        let shorter =
            |present: Option<u64>| Some(present.map_or_else(seconds, |before| before.min(seconds())));
        if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            self.private = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.must_revalidate = true;
        } else if is("max-age") {
            self.max_age_s = shorter(self.max_age_s);
        } else if is("s-maxage") {
            self.s_maxage_s = shorter(self.s_maxage_s);
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate_s = shorter(self.stale_while_revalidate_s);
        } else if is("stale-if-error") {
            self.stale_if_error_s = shorter(self.stale_if_error_s);
        }
    }
}

/// Each directive of a line with its value, unquoted. Commas within quotes are part of the value.
fn directives(line: &[u8], mut each: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut quoted = false;
    let is_end = |&byte: &u8| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    };
    for part in line.split(is_end) {
        let mut halves = part.splitn(2, |&byte| byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().map(|value| {
            let value = value.trim_ascii();
            value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
        });
        if !name.is_empty() {
            each(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(lines: &[&str]) -> Control {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        Control::of(&headers)
    }

    #[test]
    fn directives_are_read_as_caches_read_them() {
        assert_eq!(of(&[]), Control::default());
        let all = of(&["Public, MAX-AGE=10 , s-maxage=\"20\"", "stale-while-revalidate=3,stale-if-error=4"]);
        assert_eq!((all.max_age_s, all.s_maxage_s), (Some(10), Some(20)));
        assert_eq!((all.stale_while_revalidate_s, all.stale_if_error_s), (Some(3), Some(4)));
        assert!(!all.private && !all.no_store && !all.no_cache && !all.must_revalidate);
        let strict = of(&["private=\"set-cookie, x\", no-store", "No-Cache=\"a\"", "proxy-revalidate"]);
        assert!(strict.private && strict.no_store && strict.no_cache && strict.must_revalidate);
        assert!(!of(&["x=\"no-store, private\""]).no_store, "within quotes nothing is said");
    }

    #[test]
    fn a_time_that_is_none_is_stale_and_of_two_the_shorter_counts() {
        assert_eq!(of(&["max-age=abc"]).max_age_s, Some(0));
        assert_eq!(of(&["max-age"]).max_age_s, Some(0));
        assert_eq!(of(&["max-age=-1"]).max_age_s, Some(0));
        assert_eq!(of(&["max-age=99999999999999999999999"]).max_age_s, Some(u64::MAX));
        assert_eq!(of(&["max-age=60, max-age=5"]).max_age_s, Some(5));
    }
}
