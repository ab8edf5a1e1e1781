//! `Authorization: Bearer` with a JWT: who signed it, for whom, and until when.

use super::keys::{KeySource, Keys};
use super::verified::{Known, Verified, fingerprint};
use super::{BAD_BUYER, Unidentified, valid};
use crate::config::Jwt as Settings;
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_queue::Clock;

/// Bytes of a token, at most: beyond it nothing is decoded.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Told of every token that is not good, whatever the reason: a forger learns nothing from it.
const NOT_VALID: Unidentified = "the bearer token is not valid";
const OVER: Unidentified = "the bearer token has expired, or is not valid yet";

/// The check of tokens, with the keys of the moment.
pub struct JwtGate {
    source: KeySource,
    algorithm: Algorithm,
    validation: Validation,
    leeway_ms: u64,
    cache_max: usize,
    present: ArcSwap<Present>,
    clock: Arc<dyn Clock>,
    /// For `/metrics`.
    pub counts: Arc<JwtCounts>,
}

/// What the check did.
#[derive(Debug, Default)]
pub struct JwtCounts {
    /// Tokens whose signature was checked and is good.
    pub verified: AtomicU64,
    /// Tokens that were known to be good.
    pub remembered: AtomicU64,
    /// Tokens that are not.
    pub refused: AtomicU64,
    /// Changed keys that could not be taken.
    pub reload_failures: AtomicU64,
}

/// Keys, and what was verified with these keys: replaced together, so a key that goes takes its tokens along.
struct Present {
    keys: Keys,
    verified: Verified,
}

/// All that is read of a token's header. What else stands there (`jwk`, `jku`, `x5c` …) is a stranger's proposal.
#[derive(Deserialize)]
struct Head<'t> {
    #[serde(borrow)]
    alg: Cow<'t, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'t, str>>,
    /// Extensions that must be understood: none is.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// All that is read of its claims. A claim that comes twice, or is of another type, spoils the token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default, rename = "iss")]
    _iss: Option<String>,
}

impl JwtGate {
    /// With the keys that the configuration was read with.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, counts: Arc<JwtCounts>) -> Self {
        let mut validation = Validation::new(settings.source.algorithm);
        // The two instants are judged by the gateway's own clock, which no step of the system's moves.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let mut required = vec!["exp", "sub"];
        match &settings.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let present = Present { keys: settings.keys.clone(), verified: Verified::new(settings.cache_max) };
        Self {
            source: settings.source.clone(),
            algorithm: settings.source.algorithm,
            validation,
            leeway_ms: settings.leeway_s * 1_000,
            cache_max: settings.cache_max,
            present: ArcSwap::from_pointee(present),
            clock,
            counts,
        }
    }

    /// The buyer of a token that is good now.
    pub fn buyer(&self, token: &str) -> Result<String, Unidentified> {
        let checked = self.check(token);
        if checked.is_err() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }

    fn check(&self, token: &str) -> Result<String, Unidentified> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the bearer token is too long");
        }
        let now_ms = self.clock.now_ms();
        let present = self.present.load();
        let mark = (self.cache_max > 0).then(|| fingerprint(token));
        if let Some(buyer) = mark.as_ref().and_then(|mark| present.verified.buyer(mark, now_ms)) {
            self.counts.remembered.fetch_add(1, Ordering::Relaxed);
            return Ok(buyer);
        }
        let head = token.split('.').next().and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        let head: Head<'_> =
            head.as_deref().and_then(|head| serde_json::from_slice(head).ok()).ok_or(NOT_VALID)?;
        if head.crit.is_some() || head.alg.parse() != Ok(self.algorithm) {
            return Err(NOT_VALID);
        }
        let key = present.keys.find(head.kid.as_deref()).ok_or(NOT_VALID)?;
        // Not believed yet: but what is over in any case is not worth the signature.
        let claims = claimed(token).ok_or(NOT_VALID)?;
        let until_ms = self.in_time(&claims, now_ms).ok_or(OVER)?;
        valid(&claims.sub).ok_or(BAD_BUYER)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| NOT_VALID)?.claims;
        self.counts.verified.fetch_add(1, Ordering::Relaxed);
        if let Some(mark) = mark {
            present.verified.put(mark, Known { buyer: claims.sub.as_str().into(), until_ms });
        }
        Ok(claims.sub)
    }

    /// The last instant at which a token is good, if it is good now.
    fn in_time(&self, claims: &Claims, now_ms: u64) -> Option<u64> {
        // Casts saturate: what is absurdly far is as good as never.
        let ms = |seconds: f64| (seconds * 1_000.0) as u64;
        let until_ms = ms(claims.exp).saturating_add(self.leeway_ms);
        let begun = claims.nbf.is_none_or(|nbf| ms(nbf) <= now_ms.saturating_add(self.leeway_ms));
        (begun && now_ms <= until_ms).then_some(until_ms)
    }

    /// Reads the keys again. `Ok(true)`: they have changed, are taken, and what was verified before is forgotten. An
    /// error changes nothing. Blocks on the file.
    pub fn reload(&self) -> Result<bool, super::KeyError> {
        let keys = self.source.read().inspect_err(|_| {
            self.counts.reload_failures.fetch_add(1, Ordering::Relaxed);
        })?;
        if keys == self.present.load().keys {
            return Ok(false);
        }
        self.present.store(Arc::new(Present { keys, verified: Verified::new(self.cache_max) }));
        Ok(true)
    }

    /// Where its keys come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// How many keys it has.
    pub fn keys(&self) -> usize {
        self.present.load().keys.count()
    }

    /// How many tokens it remembers.
    pub fn remembered(&self) -> usize {
        self.present.load().verified.count()
    }
}

/// Whose a token claims to be.
pub(super) fn claimed_buyer(token: &str) -> Option<String> {
    claimed(token).map(|claims| claims.sub)
}

fn claimed(token: &str) -> Option<Claims> {
    let fits = token.len() <= TOKEN_BYTES_MAX;
    fits.then(|| jsonwebtoken::dangerous::insecure_decode_claims(token).ok()).flatten()
}
