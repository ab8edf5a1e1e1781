//! The keys that tokens are checked with: one key of a file, or a JSON Web Key Set with several.
//!
//! What is accepted is settled here, when the file is read: each key is for the one configured algorithm, or it is
//! left out. A token only says which of these keys it means.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hashbrown::HashMap;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of a file with keys, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Usable keys of a set, at most.
const KEYS_MAX: usize = 256;
/// Bytes of a shared secret, at least.
const SECRET_BYTES_MIN: usize = 16;
/// Bytes of an RSA modulus: 2048 to 4096 bits. Shorter is forgeable, longer costs more than it proves.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Where keys are read from, and what they must be good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySource {
    /// The file.
    pub path: PathBuf,
    /// A JWKS; else one secret, or one public key as PEM.
    pub is_set: bool,
    /// The one algorithm.
    pub algorithm: Algorithm,
}

/// The keys of one moment.
#[derive(Clone)]
pub struct Keys {
    by_kid: HashMap<Box<str>, DecodingKey>,
    /// The key of a token that names none: there is one only when it is the only one.
    only: Option<DecodingKey>,
    is_set: bool,
    text: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// Why a file gives no keys, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    /// What is wrong; names the file.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl KeyError {
    fn new(message: String) -> Self {
        Self { message, help: None }
    }
}

impl KeySource {
    /// Reads and checks the file.
    pub fn read(&self) -> Result<Keys, KeyError> {
        let path = self.path.display();
        let text = read_bounded(&self.path).map_err(|error| KeyError {
            message: format!("cannot read {path}: {error}"),
            help: Some("check the path and that this user may read it".to_owned()),
        })?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeyError::new(format!("{path} has more than {FILE_BYTES_MAX} bytes")));
        }
        if self.is_set { self.parse_set(text) } else { self.parse_one(text) }
    }

    fn parse_one(&self, text: Vec<u8>) -> Result<Keys, KeyError> {
        let path = self.path.display();
        let bytes = text.trim_ascii_end();
        let key = match self.algorithm.family() {
            AlgorithmFamily::Hmac if bytes.len() < SECRET_BYTES_MIN => {
                let message = format!(
                    "the secret in {path} has {} bytes; use at least {SECRET_BYTES_MIN}",
                    bytes.len()
                );
                return Err(KeyError::new(message));
            }
            // A public key is public: whoever has it could sign tokens with it as the secret.
            AlgorithmFamily::Hmac if bytes.windows(11).any(|part| part == b"-----BEGIN ") => {
                return Err(KeyError {
                    message: format!("{path} holds a key in PEM, and {:?} needs a secret", self.algorithm),
                    help: Some("name the algorithm of that key, or a file with a random secret".to_owned()),
                });
            }
            AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(bytes)),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(bytes),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(bytes),
        };
        let key = key.map_err(|error| error.to_string()).and_then(|key| {
            let jwk =
                Jwk::from_decoding_key(&key, Some(self.algorithm)).map_err(|error| error.to_string())?;
            usable(&jwk, self.algorithm).map(|_| key)
        });
        match key {
            Ok(key) => Ok(Keys { by_kid: HashMap::new(), only: Some(key), is_set: false, text }),
            Err(why) => Err(KeyError::new(format!(
                "{path} holds no public key in PEM for {:?}: {why}",
                self.algorithm
            ))),
        }
    }

    fn parse_set(&self, text: Vec<u8>) -> Result<Keys, KeyError> {
        let path = self.path.display();
        let set: JwkSet = serde_json::from_slice(&text)
            .map_err(|error| KeyError::new(format!("{path} is no JSON Web Key Set: {error}")))?;
        let mut keys = Keys { by_kid: HashMap::new(), only: None, is_set: true, text };
        let mut count = 0;
        for jwk in set.keys.iter().filter(|jwk| is_meant_for(jwk, self.algorithm)) {
            let kid = jwk.common.key_id.as_deref();
            let named = kid.map_or_else(|| "a key without kid".to_owned(), |kid| format!("the key {kid:?}"));
            let key = usable(jwk, self.algorithm)
                .map_err(|why| KeyError::new(format!("{named} of {path} cannot be used: {why}")))?;
            count += 1;
            keys.only = (count == 1).then(|| key.clone());
            if let Some(kid) = kid
                && keys.by_kid.insert(kid.into(), key).is_some()
            {
                return Err(KeyError {
                    message: format!("{path} has two keys with the kid {kid:?}"),
                    help: Some("give each key a kid of its own".to_owned()),
                });
            }
        }
        match count {
            0 => Err(KeyError {
                message: format!("{path} has no key for {:?}", self.algorithm),
                help: Some(
                    "a key counts when kty, crv, alg, use and key_ops allow that algorithm".to_owned(),
                ),
            }),
            1..=KEYS_MAX => Ok(keys),
            _ => Err(KeyError::new(format!("{path} has {count} keys; at most {KEYS_MAX} are held"))),
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether a key of a set is one for signatures by this algorithm. Others may stand in the same file.
fn is_meant_for(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let common = &jwk.common;
    let fits = match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::OctetKey(_), _) => algorithm.family() == AlgorithmFamily::Hmac,
        (AlgorithmParameters::RSA(_), _) => algorithm.family() == AlgorithmFamily::Rsa,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => key.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let signs = !matches!(&common.public_key_use, Some(found) if *found != PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|list| list.contains(&KeyOperations::Verify));
    fits && signs && verifies && common.key_algorithm.is_none_or(|found| found == algorithm.into())
}

/// The key, if it is whole and strong enough. What is not found out here would be found out by each request.
fn usable(jwk: &Jwk, algorithm: Algorithm) -> Result<DecodingKey, String> {
    if !is_meant_for(jwk, algorithm) {
        return Err("it is a key of another kind or curve".to_owned());
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
    match &jwk.algorithm {
        AlgorithmParameters::RSA(parameters) => {
            let n = BASE64_URL_SAFE_NO_PAD.decode(&parameters.n).map_err(|error| error.to_string())?;
            let zeros = n.iter().take_while(|byte| **byte == 0).count();
            if !MODULUS_BYTES.contains(&(n.len() - zeros)) {
                return Err(format!(
                    "its modulus has {} bits; 2048 to 4096 are taken",
                    (n.len() - zeros) * 8
                ));
            }
        }
        AlgorithmParameters::OctetKey(_) => {
            let bytes = key.try_get_as_bytes().map_err(|error| error.to_string())?.len();
            if bytes < SECRET_BYTES_MIN {
                return Err(format!("the secret has {bytes} bytes; use at least {SECRET_BYTES_MIN}"));
            }
        }
        AlgorithmParameters::OctetKeyPair(_) => {
            let bytes = key.try_get_as_bytes().map_err(|error| error.to_string())?.len();
            if bytes != 32 {
                return Err(format!("an Ed25519 key has 32 bytes, this one {bytes}"));
            }
        }
        _ => {}
    }
    // Makes the verifier once: a point that is on no curve is told here.
    jsonwebtoken::crypto::verify("", b"", &key, algorithm).map_err(|error| error.to_string())?;
    Ok(key)
}

impl Keys {
    /// The key for a token. A `kid` only chooses among the keys of the set.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&DecodingKey> {
        match kid {
            Some(kid) if self.is_set => self.by_kid.get(kid),
            _ => self.only.as_ref(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_kid.len().max(usize::from(self.only.is_some()))
    }
}

/// Whether both were read from the same text.
impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.is_set == other.is_set && self.text == other.text
    }
}
