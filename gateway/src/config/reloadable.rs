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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn load(text: &str) -> Config {
        Config::parse(Path::new("t.toml"), text, std::iter::empty()).0.unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_what_the_documentation_says() {
        let (_, keys) = Config::parse(Path::new("t.toml"), "", std::iter::empty());
        let needs_restart: Vec<&str> =
            keys.iter().map(|(key, _)| key.as_str()).filter(|key| !is_reloadable(key)).collect();
        let single: Vec<&str> = needs_restart
            .into_iter()
            .filter(|key| {
                !["data.", "ledger.", "queue.", "cache."].iter().any(|section| key.starts_with(section))
            })
            .collect();
        let documented = [
            "listen.public",
            "listen.inner",
            "listen.advertise_public",
            "listen.advertise_inner",
            "listen.threads",
            "listen.tls.cert_file",
            "listen.tls.key_file",
            "log.format",
        ];
        assert_eq!(single, documented, "as in config/tidegate.toml and docs/configuration.md");
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        let before = load("[listen]\nbody_bytes_max = 1_000\n[log]\nlevel = \"info\"\n");
        let after = load("[log]\n[listen]\n# more\nbody_bytes_max = 1000\ndrain_ms = 10000\n");
        assert_eq!(before.reload_to(&after), Ok(Vec::new()));
    }

    #[test]
    fn changed_keys_are_named_and_those_that_cannot_change_refuse_all() {
        let before = load("");
        let after =
            load("[admission.quota]\nip_per_s = 5\n[inner]\nworker_token = \"w\"\nadmin_token = \"a\"\n");
        let changed = ["admission.quota.ip_per_s", "inner.admin_token", "inner.worker_token"];
        assert_eq!(before.reload_to(&after), Ok(changed.map(str::to_owned).to_vec()));
        assert_eq!(after.reload_to(&before), Ok(changed.map(str::to_owned).to_vec()), "and back");
        let after = load("[admission.quota]\nip_per_s = 5\n[listen]\nthreads = 7\n");
        let refused = before.reload_to(&after).unwrap_err();
        let text = "t.toml:4:11: listen.threads: cannot be changed while the gateway runs; put it back, or restart \
                    the gateway";
        assert_eq!(refused.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }

    #[test]
    fn another_text_in_the_same_file_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let load = |token: &str| {
            std::fs::write(&file, token).unwrap();
            load(&format!("[inner]\nworker_token = \"w\"\nadmin_token_file = \"{}\"\n", file.display()))
        };
        let (before, after) = (load("first"), load("second"));
        assert_eq!(before.reload_to(&after), Ok(vec!["inner.admin_token_file".to_owned()]));
        assert_eq!(before.reload_to(&load("first")), Ok(Vec::new()));
        assert!(!format!("{after:?}").contains("second"), "no secret is printed");
    }
}
