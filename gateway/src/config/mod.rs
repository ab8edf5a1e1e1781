//! Configuration: a TOML file, overridden by the environment, with a default for every key.
//!
//! ```text
//! types.rs     the settings as the gateway uses them
//! sections.rs  keys, defaults, ranges        blacklist.rs, cache.rs, identity.rs, pass.rs, policy.rs, proxy.rs, quota.rs, redis.rs, secret.rs, tls.rs, tokens.rs, wait.rs: those with rules of their own
//! reader.rs    typed reads that go on after an error
//! problem.rs   what is wrong, and where
//! origin.rs    what was written where; the same read again
//! reloadable.rs  what of it can change while the gateway runs
//! ```
//!
//! Paths are relative to the folder the process was started in.

mod blacklist;
mod cache;
mod identity;
mod origin;
mod pass;
mod policy;
mod problem;
mod proxy;
mod quota;
mod reader;
mod redis;
#[cfg(test)]
mod redis_tests;
mod reloadable;
mod secret;
mod sections;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod types;
mod wait;

pub use blacklist::Blacklist;
pub use cache::{CacheRoute, CacheSettings};
pub use pass::PassSettings;
pub(crate) use pass::{KEYS_HELP, KEYS_MISSING};
pub use policy::PolicySettings;
pub use problem::{ConfigProblem, Place};
pub use proxy::{Balance, HostRule, Needed, ProxyRoute, RouteTokens};
pub use tls::TlsSettings;
pub use types::{
    ClientQuota, Config, Data, Identity, InnerTokens, Jwt, LedgerKind, Listen, LogFormat, LogSettings,
    Newcomers, QueueSettings, Quota, SaleAtStart, Secret,
};

use std::io::Read as _;
use std::path::Path;
use toml::de::DeTable;

/// Bytes of the file: more is no configuration.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A dotted key and its default as TOML text; empty when it has none.
pub(crate) type KeyDefault = (String, String);

impl Config {
    /// Reads and checks the file (`None`: all defaults), then the environment over it. Variables that do not
    /// begin with `TIDEGATE__` are ignored; `TIDEGATE__LISTEN__PUBLIC` stands for `listen.public`.
    ///
    /// Answers every problem at once, in the order of the file.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<ConfigProblem>> {
        let text = match path {
            None => String::new(),
            Some(path) => read(path).map_err(|error| {
                vec![ConfigProblem {
                    place: Place::Whole,
                    key: String::new(),
                    message: format!("cannot read {}: {error}", path.display()),
                    help: Some("check the path of --config".to_owned()),
                }]
            })?,
        };
        let mut config = Self::parse(path.unwrap_or(Path::new("defaults")), &text, env).0?;
        config.origin.path = path.map(Path::to_path_buf);
        Ok(config)
    }

    /// As [`Self::load`] with the text at hand; also tells every key with its default.
    pub(crate) fn parse(
        path: &Path,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> (Result<Self, Vec<ConfigProblem>>, Vec<KeyDefault>) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let env: Vec<_> = env.filter(|(name, _)| name.starts_with(reader::ENV_PREFIX)).collect();
        let overrides = reader::Overrides::new(env.iter().cloned());
        let mut reader = reader::Reader::new(path, text, &overrides);
        if let Some(error) = errors.first() {
            // The parser guesses how it goes on after the first; what it finds then is noise.
            let place = reader.place(&error.span().unwrap_or(0..0));
            let message = format!("this is no TOML: {}", error.message());
            reader.problem(place, "", message, None);
        }
        let mut root = reader.root(document.get_ref());
        let mut config = sections::root(&mut root);
        root.finish();
        reader.finish();
        if !errors.is_empty() {
            // What was made of a broken text says nothing more than that it is broken.
            reader.problems.truncate(1);
        }
        let keys = std::mem::take(&mut reader.keys);
        let written = std::mem::take(&mut reader.written);
        let mut problems = std::mem::take(&mut reader.problems);
        in_order(&mut problems);
        config.origin = origin::Origin { path: None, env, written };
        (if problems.is_empty() { Ok(config) } else { Err(problems) }, keys)
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let bytes = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// As they stand in the file.
pub(crate) fn in_order(problems: &mut [ConfigProblem]) {
    problems.sort_by_key(|problem| match &problem.place {
        Place::File { line, column, .. } => (*line, *column),
        Place::Env(_) | Place::Whole => (usize::MAX, 0),
    });
}
