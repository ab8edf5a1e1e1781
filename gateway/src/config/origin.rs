//! Where a configuration came from and what was written there: so that it can be read again, and two readings compared
//! key by key without knowing what the keys mean.

use super::reloadable::is_reloadable;
use super::types::Secret;
use super::{Config, ConfigProblem, Place};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// Bytes of a `…_file` that are looked at for a change.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Of one configuration. Holds secrets, so it is never printed.
#[derive(Clone, Default)]
pub(crate) struct Origin {
    /// The file; `None`: there is none.
    pub(super) path: Option<PathBuf>,
    /// The variables that go before the file.
    pub(super) env: Vec<(String, String)>,
    /// Every key with what counts for it.
    pub(super) written: BTreeMap<String, Written>,
}

/// What counts for one key.
#[derive(Clone)]
pub(super) struct Written {
    value: Secret,
    /// Of a `…_file`: a digest of what it holds.
    content: String,
    pub(super) place: Place,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Written {
    /// The default, as TOML; empty when there is none.
    pub(super) fn default(text: &str) -> Self {
        Self { value: Secret::new(text), content: String::new(), place: Place::Whole }
    }

    /// A value of the file or the environment. Of a `…_file` key what its file holds counts as well.
    pub(super) fn set(key: &str, value: &DeValue<'_>, place: Place) -> Self {
        let file = value.as_str().filter(|_| key.ends_with("_file"));
        let content = file.map(|path| digest(Path::new(path))).unwrap_or_default();
        Self { value: Secret::new(&render(value)), content, place }
    }
}

impl Written {
    fn differs(&self, now: &Self, content: bool) -> bool {
        self.value != now.value || content && self.content != now.content
    }
}

impl Config {
    /// Reads the same file and the same `…_file`s again, under the environment of the first reading. As [`Config::load`].
    ///
    /// Blocks on the disk.
    pub fn load_again(&self) -> Result<Self, Vec<ConfigProblem>> {
        Self::load(self.origin.path.as_deref(), self.origin.env.iter().cloned())
    }

    /// The keys for which another value counts in `next`, with the place of the new one. What stands in the file of a key
    /// that cannot be reloaded is not looked at: either it is followed without a reload, or it counts at the next start.
    pub(crate) fn changed_keys(&self, next: &Self) -> Vec<(String, Place)> {
        let (before, after) = (&self.origin.written, &next.origin.written);
        let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key, &Place::Whole));
        let differ = after
            .iter()
            .filter(|(key, now)| before.get(*key).is_none_or(|then| then.differs(now, is_reloadable(key))))
            .map(|(key, now)| (key, &now.place));
        let mut keys: Vec<(String, Place)> =
            gone.chain(differ).map(|(key, place)| (key.clone(), place.clone())).collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        keys
    }

    /// Where a key is written; tables of a list by their number, as in `sale[0].stock`.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.origin.written.get(key).map_or(Place::Whole, |written| written.place.clone())
    }
}

/// The same for values that mean the same, such as `1_000` and `1000`.
fn render(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| integer.as_str().to_owned(), |number| number.to_string()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| render(value.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// Changes when the file does. Only of plain files: a pipe can be read once, and is its reader's.
fn digest(path: &Path) -> String {
    if !std::fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
        return String::new();
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_or_else(|_| String::new(), |_| format!("{:x}", Sha256::digest(&bytes)))
}
