//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): what a client has left.
//!
//! They stand on every 429 of a quota and on every answer that tells of a ticket. Refusals that are made once and sent
//! to everybody, "sold out" first of all, carry none: they cost no look at a quota.

use super::{Exceeded, Left, QuotaKind};
use crate::http::Answer;
use http::{HeaderName, HeaderValue};
use std::fmt::Write as _;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Longer than any value here.
const VALUE_BYTES: usize = 48;

impl QuotaKind {
    /// Its name as clients and metrics see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Ip => "ip",
            Self::Newcomers => "newcomers",
        }
    }
}

impl Exceeded {
    /// Adds both fields to a refusal.
    pub fn tell(&self, answer: &mut Answer) {
        let seconds = self.retry_after.as_millis().div_ceil(1_000).max(1);
        put(answer, self.kind, self.burst, self.window_s, 0, seconds as u64);
    }
}

impl Left {
    /// Adds both fields to what a buyer is answered.
    pub fn tell(&self, answer: &mut Answer) {
        let used = u64::from(self.burst - self.requests.min(self.burst));
        let whole_in_s = (used * u64::from(self.window_s)).div_ceil(u64::from(self.burst));
        put(answer, QuotaKind::Buyer, self.burst, self.window_s, self.requests, whole_in_s);
    }
}

fn put(answer: &mut Answer, kind: QuotaKind, burst: u32, window_s: u32, left: u32, in_s: u64) {
    let name = kind.name();
    for (field, value) in [
        (POLICY, format_args!("\"{name}\";q={burst};w={window_s}")),
        (LIMIT, format_args!("\"{name}\";r={left};t={in_s}")),
    ] {
        let mut text = String::with_capacity(VALUE_BYTES);
        // Writing to a `String` does not fail, and all of it is ASCII.
        let _ = text.write_fmt(value);
        if let Ok(value) = HeaderValue::try_from(text) {
            answer.headers_mut().insert(field, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::answer;
    use std::time::Duration;
    use tidegate_client::wire::ProblemType;

    fn told(answer: &Answer) -> [&str; 2] {
        [POLICY, LIMIT].map(|field| answer.headers()[field].to_str().unwrap())
    }

    #[test]
    fn both_fields_are_as_the_draft_writes_them() {
        let mut answer = answer::plain(ProblemType::ClientQuota);
        let retry_after = Duration::from_millis(1_200);
        Exceeded { kind: QuotaKind::Ip, retry_after, burst: 2_000, window_s: 10, asked: None }
            .tell(&mut answer);
        assert_eq!(told(&answer), ["\"ip\";q=2000;w=10", "\"ip\";r=0;t=2"]);
        Left { requests: 15, burst: 20, window_s: 10 }.tell(&mut answer);
        assert_eq!(told(&answer), ["\"buyer\";q=20;w=10", "\"buyer\";r=15;t=3"]);
    }
}
