//! Gate 3: who is the buyer.
//!
//! ```text
//! jwt.rs        the check of a token
//! keys.rs       its keys: a secret, a public key, a JSON Web Key Set
//! verified.rs   tokens that have proved good
//! reload.rs     follows the file of the keys
//! ```

mod jwt;
mod keys;
mod reload;
#[cfg(test)]
mod tests;
mod verified;

pub use jwt::{JwtCounts, JwtGate, TOKEN_BYTES_MAX};
pub use keys::{KeyError, KeySource, Keys};
pub(crate) use reload::run_key_reload;

use crate::config::Identity as Settings;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_queue::Clock;

/// Bytes of a buyer id, at most.
const BUYER_BYTES_MAX: usize = 128;

/// How this gateway identifies buyers.
#[derive(Clone)]
pub enum Identity {
    /// The header is believed whoever sends it; without it the address is the buyer. For demos.
    Anonymous {
        /// Which header.
        header: HeaderName,
    },
    /// The header is believed from trusted proxies only.
    Header {
        /// Which header.
        header: HeaderName,
        /// From whom.
        trusted: Vec<IpNet>,
    },
    /// A signed token.
    Jwt(Arc<JwtGate>),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous { .. } => "Identity::Anonymous",
            Self::Header { .. } => "Identity::Header",
            Self::Jwt(_) => "Identity::Jwt",
        })
    }
}

/// Why a request has no buyer; told to the client.
pub type Unidentified = &'static str;

impl Identity {
    /// From the configuration; `clock` judges how long tokens are good. Goes on counting where `previous` is.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, previous: Option<&Self>) -> Self {
        match settings {
            Settings::Anonymous { header, .. } => Self::Anonymous { header: header.clone() },
            Settings::Header { header, trusted_proxies } => {
                Self::Header { header: header.clone(), trusted: trusted_proxies.clone() }
            }
            Settings::Jwt { jwt, .. } => {
                let counts = match previous {
                    Some(Self::Jwt(gate)) => gate.counts.clone(),
                    _ => Arc::default(),
                };
                Self::Jwt(Arc::new(JwtGate::new(jwt, clock, counts)))
            }
        }
    }

    /// Whether a ticket is shown to its own buyer only.
    pub fn is_authenticated(&self) -> bool {
        !matches!(self, Self::Anonymous { .. })
    }

    /// Whom the request claims to come from, nothing proven: only good for skipping work.
    pub fn claimed<'h>(&self, headers: &'h HeaderMap, peer: IpAddr) -> Option<Cow<'h, str>> {
        match self {
            Self::Anonymous { .. } => self.prove(headers, peer).ok(),
            Self::Header { header, .. } => from_header(headers, header).ok(),
            Self::Jwt(_) => jwt::claimed_buyer(bearer(headers).ok()?).map(Cow::Owned),
        }
    }

    /// The buyer of a request.
    pub fn prove<'h>(&self, headers: &'h HeaderMap, peer: IpAddr) -> Result<Cow<'h, str>, Unidentified> {
        match self {
            Self::Anonymous { header } => match headers.get(header) {
                Some(_) => from_header(headers, header),
                None => Ok(Cow::Owned(peer.to_canonical().to_string())),
            },
            Self::Header { header, trusted } => {
                let peer = peer.to_canonical();
                if trusted.iter().any(|network| network.contains(&peer)) {
                    from_header(headers, header)
                } else {
                    Err("requests are accepted from the configured proxies only")
                }
            }
            Self::Jwt(gate) => gate.buyer(bearer(headers)?).map(Cow::Owned),
        }
    }
}

fn from_header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Cow<'h, str>, Unidentified> {
    let mut values = headers.get_all(name).iter();
    let (first, more) = (values.next(), values.next());
    match first {
        None => Err("the header that carries the buyer is missing"),
        // Two values mean that a header of the client's got past the proxy: believe neither.
        Some(_) if more.is_some() => Err("the header that carries the buyer came twice"),
        Some(value) => value.to_str().ok().and_then(valid).map(Cow::Borrowed).ok_or(BAD_BUYER),
    }
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Unidentified> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or("a bearer token is missing")?;
    if values.next().is_some() {
        // Something in front may have judged the other one.
        return Err("the Authorization header came twice");
    }
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or("the Authorization header is not a bearer token")
}

const BAD_BUYER: Unidentified = "the buyer id must be 1 to 128 visible ASCII characters";

fn valid(buyer: &str) -> Option<&str> {
    let fits = !buyer.is_empty() && buyer.len() <= BUYER_BYTES_MAX;
    (fits && buyer.bytes().all(|byte| byte.is_ascii_graphic())).then_some(buyer)
}
