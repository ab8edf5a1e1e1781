//! The bans in the data folder: one file, replaced whole, so that it is the old list or the new one whenever the power
//! fails. JSON, for people too.

use super::{Ban, Client};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tracing::error;

const NAME: &str = "blacklist.json";

#[derive(Serialize, Deserialize)]
struct Entry {
    client: String,
    #[serde(flatten)]
    ban: Ban,
}

/// Where it is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// What stands there; nothing when there is none or it cannot be read, which is told in the log.
pub(super) fn read(path: &Path) -> Vec<(Client, Ban)> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return unreadable(path, &error),
    };
    match serde_json::from_slice::<Vec<Entry>>(&text) {
        Ok(entries) => entries
            .into_iter()
            .filter_map(|entry| Client::parse(&entry.client).ok().map(|client| (client, entry.ban)))
            .collect(),
        Err(error) => unreadable(path, &error),
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Vec<(Client, Ban)> {
    let path = path.display();
    error!(%path, %error, "the blacklist cannot be read: this gateway starts without its bans; correct or remove the file");
    Vec::new()
}

/// On disk when it returns.
pub(super) fn write(path: &Path, bans: &[(Client, Ban)]) -> std::io::Result<()> {
    let entries: Vec<Entry> =
        bans.iter().map(|(client, ban)| Entry { client: client.to_string(), ban: ban.clone() }).collect();
    let text = serde_json::to_vec_pretty(&entries).map_err(std::io::Error::other)?;
    let fresh = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
