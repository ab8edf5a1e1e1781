//! The secrets behind passes. The first signs, all verify: a new one is added at the end at every gateway, then moved to
//! the front, and the old one is taken out when the last pass of it has expired.

use super::seal::Scope;
use crate::config::Secret;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Bytes of a signature: 128 bits of HMAC-SHA256 (RFC 2104, section 5).
pub(super) const TAG_BYTES: usize = 16;
/// In the data folder.
const KEY_FILE: &str = "pass.key";

/// One secret, ready to sign.
#[derive(Clone)]
pub(super) struct Key {
    /// Tells keys apart in a text; says nothing of the secret.
    pub(super) id: [u8; 4],
    mac: Hmac<Sha256>,
}

/// All secrets. Never empty.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

/// The key of the data folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use the key for purchase passes in {path}: {source}; check its permissions, or set [admission.pass] keys"
)]
pub struct KeyFailure {
    path: PathBuf,
    source: std::io::Error,
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        let mut key = Self { id: [0; 4], mac };
        let id = key.digest(&[b"tidegate key id"]);
        key.id.copy_from_slice(&id[..4]);
        key
    }

    fn digest(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Signature over the parts.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let digest = self.digest(parts);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&digest[..TAG_BYTES]);
        tag
    }

    /// In a time that does not tell how much of a forged signature was right.
    pub(super) fn verifies(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(part);
        }
        tag.len() == TAG_BYTES && mac.verify_truncated_left(tag).is_ok()
    }

    /// What the question of a challenge is made from: nobody without the secret can tell it from the text.
    pub(super) fn seed(&self, number: u64, scope: &Scope<'_>) -> [u8; 32] {
        let (opens, lengths) = (scope.opens(), scope.lengths());
        let number = number.to_be_bytes();
        let (sale, buyer) = (scope.sale.as_bytes(), scope.buyer.as_bytes());
        self.digest(&[b"tidegate question", &number, &opens, &lengths, sale, buyer])
    }
}

impl Keys {
    /// Of the configuration; at least one.
    pub fn of_secrets(secrets: &[Secret]) -> Self {
        assert!(!secrets.is_empty(), "a key to sign with");
        Self(secrets.iter().map(|secret| Key::new(secret.expose())).collect())
    }

    /// Of a data folder; made there at the first start. Only gateways of this folder can judge its passes.
    pub fn of_folder(dir: &Path) -> Result<Self, KeyFailure> {
        let path = dir.join(KEY_FILE);
        let secret = match std::fs::read(&path) {
            Ok(secret) if !secret.is_empty() => Ok(secret),
            // Empty: the power failed while it was made, so no pass was given yet.
            Ok(_) => Ok(made(dir, &path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(made(dir, &path)),
            Err(error) => Err(error),
        };
        match secret {
            Ok(secret) => Ok(Self(vec![Key::new(&secret)])),
            Err(source) => Err(KeyFailure { path, source }),
        }
    }

    pub(super) fn signer(&self) -> &Key {
        &self.0[0]
    }

    pub(super) fn all_of(&self, id: [u8; 4]) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.id == id)
    }
}

/// A new secret. A disk that does not take it is no reason not to start: there may be payments to serve, and no sale that
/// asks for passes; the secret then lives as long as this process.
fn made(dir: &Path, path: &Path) -> Vec<u8> {
    let secret: [u8; 32] = rand::random();
    if let Err(error) = keep(&secret, dir, path) {
        let path = path.display();
        warn!(%error, %path, "the key for purchase passes cannot be kept: a restart makes those given so far void");
    }
    secret.to_vec()
}

/// On disk before it signs anything.
fn keep(secret: &[u8], dir: &Path, path: &Path) -> std::io::Result<()> {
    let fresh = dir.join("pass.key.new");
    std::fs::create_dir_all(dir)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(secret)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(dir)?.sync_all()
}
