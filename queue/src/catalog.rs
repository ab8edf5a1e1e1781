//! The catalog: which topics with how many queues, which groups with which start, and how files that are
//! replaced as a whole are written. FORMAT.md, "Catalog".

use crate::Broadcast;
use crate::group::GroupConfig;
use crate::storage::Storage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const DIR: &str = "catalog";
pub(crate) const VERSION: u32 = 1;

/// Everything that was configured.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    pub version: u32,
    pub topics: BTreeMap<String, TopicEntry>,
}

/// One topic.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicEntry {
    pub queues: u32,
    pub groups: BTreeMap<String, GroupConfig>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub broadcasts: BTreeMap<String, Broadcast>,
}

/// What loading found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    Found(Catalog),
    /// No catalog: a new data folder.
    Nothing,
    /// There are files but none is whole.
    Damaged(PathBuf),
    /// Written by a newer release, in this version of the format.
    Newer(PathBuf, u32),
}

fn newest() -> PathBuf {
    Path::new(DIR).join("topics.json")
}

fn older() -> PathBuf {
    Path::new(DIR).join("topics.json.old")
}

/// Replaces the catalog; durable when it returns.
pub(crate) fn store(storage: &dyn Storage, mut catalog: Catalog) -> io::Result<()> {
    catalog.version = VERSION;
    let json = serde_json::to_string_pretty(&catalog)?;
    let check = format!("\ncrc32c {:08x}\n", crc32c::crc32c(json.as_bytes()));
    let parts = [IoSlice::new(json.as_bytes()), IoSlice::new(check.as_bytes())];
    replace(storage, Path::new(DIR), &newest(), &older(), &parts)
}

pub(crate) fn load(storage: &dyn Storage) -> io::Result<Loaded> {
    let mut damaged = None;
    for path in [newest(), older()] {
        let Some(bytes) = read_file(storage, &path)? else { continue };
        match decode(&bytes) {
            Decoded::Sound(catalog) => return Ok(Loaded::Found(catalog)),
            Decoded::Newer(version) => return Ok(Loaded::Newer(path, version)),
            Decoded::Damaged => {}
        }
        tracing::warn!(file = %path.display(), "catalog of topics and groups is damaged");
        damaged.get_or_insert(path);
    }
    Ok(damaged.map_or(Loaded::Nothing, Loaded::Damaged))
}

/// What a catalog of any version has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

enum Decoded {
    Sound(Catalog),
    Newer(u32),
    Damaged,
}

fn decode(bytes: &[u8]) -> Decoded {
    let Some(json) = checked(bytes) else { return Decoded::Damaged };
    match serde_json::from_str(json) {
        Ok(Version { version }) if version > VERSION => Decoded::Newer(version),
        Ok(Version { version: VERSION }) => {
            serde_json::from_str(json).map_or(Decoded::Damaged, Decoded::Sound)
        }
        _ => Decoded::Damaged,
    }
}

/// The JSON of a file whose checksum holds.
fn checked(bytes: &[u8]) -> Option<&str> {
    let (json, check) = std::str::from_utf8(bytes).ok()?.rsplit_once("\ncrc32c ")?;
    let check = u32::from_str_radix(check.trim_end(), 16).ok()?;
    (check == crc32c::crc32c(json.as_bytes())).then_some(json)
}

#[cfg(feature = "testing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = decode(bytes);
    let sealed = [bytes, format!("\ncrc32c {:08x}\n", crc32c::crc32c(bytes)).as_bytes()].concat();
    let Decoded::Sound(catalog) = decode(&sealed) else { return };
    let json = serde_json::to_vec_pretty(&catalog).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<Catalog>(&json).expect("and read again"), catalog);
}

/// Writes `newest` as a whole: temporary file, sync, rename, sync of the folder. What it was becomes `older`.
/// A crash at any point leaves at least one of the two whole.
pub(crate) fn replace(
    storage: &dyn Storage,
    dir: &Path,
    newest: &Path,
    older: &Path,
    parts: &[IoSlice<'_>],
) -> io::Result<()> {
    let temporary = newest.with_extension("tmp");
    let file = match storage.open(&temporary, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            storage.sync_dir(dir)?;
            storage.open(&temporary, true)?
        }
        other => other?,
    };
    // A crash may have left a longer one behind.
    file.allocate(0)?;
    file.write_at(0, parts)?;
    file.sync()?;
    match storage.rename(newest, older) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    storage.rename(&temporary, newest)?;
    storage.sync_dir(dir)
}

/// The whole file, `None` when there is none.
pub(crate) fn read_file(storage: &dyn Storage, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match storage.open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.len()? as usize];
    file.file().read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}
