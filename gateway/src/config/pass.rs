//! `[admission.pass]`: purchase passes.

use super::problem::Place;
use super::reader::Section;
use super::secret::read_hidden;
use super::types::{ClientQuota, Secret};

/// Why a sale that asks for passes is refused.
pub(crate) const KEYS_MISSING: &str = "needs keys for purchase passes while ledger.kind is \"redis\"";
/// … and what to do.
pub(crate) const KEYS_HELP: &str = "set keys_file or keys of [admission.pass], the same at every gateway: each judges the passes of the others";

/// Bytes of a secret, at least: as many as the hash has.
const SECRET_BYTES_MIN: usize = 32;
const HOUR_MS: u64 = 3_600_000;

/// How purchase passes are given.
#[derive(Debug, Clone)]
pub struct PassSettings {
    /// The first signs, all verify. Empty: a key of the data folder's own.
    pub keys: Vec<Secret>,
    /// A sale's passes are given from so long before it opens.
    pub lead_ms: u64,
    /// A challenge is good for.
    pub challenge_ttl_ms: u64,
    /// A pass is good for, from the opening or, later, from when it was given.
    pub ttl_ms: u64,
    /// Clock difference granted between gateways.
    pub clock_skew_ms: u64,
    /// Wrong answers to one challenge.
    pub attempts: u8,
    /// One order a pass.
    pub single_use: bool,
    /// Spent passes remembered at most.
    pub spent_max: usize,
    /// Challenges and answers of one buyer; `None` is off.
    pub buyer: Option<ClientQuota>,
    /// … and from one address.
    pub ip: Option<ClientQuota>,
}

pub(super) fn read(root: &mut Section<'_, '_>) -> PassSettings {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("pass");
    let keys = keys(&mut section);
    let mut quota = |per_s_key, per_s, burst_key, burst| {
        let per_s = section.number(per_s_key, per_s, 0..=1_000_000, "requests a second") as u32;
        let burst = section.number(burst_key, burst, 1..=1_000_000, "requests") as u32;
        (per_s > 0).then_some(ClientQuota { per_s, burst })
    };
    let buyer = quota("buyer_per_s", 1, "buyer_burst", 10);
    let ip = quota("ip_per_s", 50, "ip_burst", 500);
    let settings = PassSettings {
        keys,
        lead_ms: section.number("lead_ms", 600_000, 0..=30 * 24 * HOUR_MS, "ms"),
        challenge_ttl_ms: section.number("challenge_ttl_ms", 120_000, 1_000..=HOUR_MS, "ms"),
        ttl_ms: section.number("ttl_ms", 900_000, 1_000..=24 * HOUR_MS, "ms"),
        clock_skew_ms: section.number("clock_skew_ms", 2_000, 0..=600_000, "ms"),
        attempts: section.number("attempts", 3, 1..=100, "answers") as u8,
        single_use: section.flag("single_use", true),
        spent_max: section.number("spent_max", 500_000, 1_000..=100_000_000, "passes") as usize,
        buyer,
        ip,
    };
    section.finish();
    settings
}

fn keys(section: &mut Section<'_, '_>) -> Vec<Secret> {
    // One a line in the file, separated by blanks in place.
    let Ok(Some((key, place, text))) = read_hidden(section, "keys", "keys_file") else { return Vec::new() };
    let secrets: Vec<&str> = text.split_whitespace().collect();
    if secrets.is_empty() {
        section.problem(place, key, "holds no key", Some("write one secret a line".to_owned()));
        return Vec::new();
    }
    let short = secrets.iter().position(|secret| secret.len() < SECRET_BYTES_MIN);
    if let Some(at) = short {
        weak(section, place, key, at, secrets[at].len());
        return Vec::new();
    }
    secrets.into_iter().map(Secret::new).collect()
}

fn weak(section: &mut Section<'_, '_>, place: Place, key: &'static str, at: usize, bytes: usize) {
    let message = format!("key {} has {bytes} bytes; use at least {SECRET_BYTES_MIN}", at + 1);
    section.problem(place, key, message, Some("for example `openssl rand -base64 32`".to_owned()));
}
