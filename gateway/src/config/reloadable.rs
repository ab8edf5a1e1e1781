//! Which keys a reload takes. Every other one is refused by its name: a key that nobody has thought of here needs a
//! restart, and says so.

use super::{Config, ConfigProblem};

/// Whole sections, and lists of tables.
const SECTIONS: &[&str] = &["identity", "admission", "inner", "proxy", "sale"];
/// Single keys of other sections.
const KEYS: &[&str] = &[
    "listen.connections_max",
    "listen.connections_per_ip_max",
    "listen.proxy_protocol_from",
    "listen.tls.handshake_timeout_ms",
    "listen.tls.handshakes_max",
    "listen.header_timeout_ms",
    "listen.idle_timeout_ms",
    "listen.header_bytes_max",
    "listen.body_bytes_max",
    "listen.inner_body_bytes_max",
    "listen.drain_ms",
    "log.level",
    "log.buyers",
];

/// Whether a change of the key can be taken while the gateway runs.
pub(crate) fn is_reloadable(key: &str) -> bool {
    let section = key.split(['.', '[']).next().unwrap_or(key);
    SECTIONS.contains(&section) || KEYS.contains(&key)
}

impl Config {
    /// What a reload to `next` changes, by key; the sales of the file apart. The error: what it cannot change.
    pub(crate) fn reload_to(&self, next: &Self) -> Result<Vec<String>, Vec<ConfigProblem>> {
        let (taken, refused): (Vec<_>, Vec<_>) =
            self.changed_keys(next).into_iter().partition(|(key, _)| is_reloadable(key));
        if refused.is_empty() {
            let keys = taken.into_iter().map(|(key, _)| key);
            return Ok(keys.filter(|key| !key.starts_with("sale[")).collect());
        }
        let problem = |(key, place)| ConfigProblem {
            place,
            key,
            message: "cannot be changed while the gateway runs".to_owned(),
            help: Some("put it back, or restart the gateway".to_owned()),
        };
        Err(refused.into_iter().map(problem).collect())
    }
}
