//! Gate 3: who is the buyer.

use crate::config::{Identity as Settings, Jwt};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use ipnet::IpNet;
use jsonwebtoken::Validation;
use serde::Deserialize;
use std::borrow::Cow;
use std::net::IpAddr;

/// Bytes of a buyer id, at most.
const BUYER_BYTES_MAX: usize = 128;

/// How this gateway identifies buyers.
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
    Jwt {
        /// Its check.
        jwt: Box<Jwt>,
        /// As the library wants it.
        validation: Box<Validation>,
    },
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous { .. } => "Identity::Anonymous",
            Self::Header { .. } => "Identity::Header",
            Self::Jwt { .. } => "Identity::Jwt",
        })
    }
}

/// Why a request has no buyer; told to the client.
pub type Unidentified = &'static str;

impl Identity {
    /// From the configuration.
    pub fn new(settings: &Settings) -> Self {
        match settings {
            Settings::Anonymous { header, .. } => Self::Anonymous { header: header.clone() },
            Settings::Header { header, trusted_proxies } => {
                Self::Header { header: header.clone(), trusted: trusted_proxies.clone() }
            }
            Settings::Jwt { jwt, .. } => {
                let mut validation = Validation::new(jwt.algorithm);
                validation.leeway = jwt.leeway_s;
                validation.validate_nbf = true;
                let mut required = vec!["exp", "sub"];
                match &jwt.audience {
                    Some(audience) => {
                        validation.set_audience(&[audience]);
                        required.push("aud");
                    }
                    None => validation.validate_aud = false,
                }
                if let Some(issuer) = &jwt.issuer {
                    validation.set_issuer(&[issuer]);
                    required.push("iss");
                }
                validation.set_required_spec_claims(&required);
                Self::Jwt { jwt: jwt.clone(), validation: Box::new(validation) }
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
            Self::Jwt { .. } => {
                let token = bearer(headers).ok()?;
                let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
                Some(Cow::Owned(claims.sub))
            }
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
            Self::Jwt { jwt, validation } => from_token(headers, jwt, validation),
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

fn from_token<'h>(
    headers: &'h HeaderMap,
    jwt: &Jwt,
    validation: &Validation,
) -> Result<Cow<'h, str>, Unidentified> {
    let data = jsonwebtoken::decode::<Claims>(bearer(headers)?, &jwt.key, validation)
        .map_err(|_| "the bearer token is not valid")?;
    valid(&data.claims.sub).ok_or(BAD_BUYER)?;
    Ok(Cow::Owned(data.claims.sub))
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Unidentified> {
    let value = headers.get(AUTHORIZATION).ok_or("a bearer token is missing")?;
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or("the Authorization header is not a bearer token")
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

const BAD_BUYER: Unidentified = "the buyer id must be 1 to 128 visible ASCII characters";

fn valid(buyer: &str) -> Option<&str> {
    let fits = !buyer.is_empty() && buyer.len() <= BUYER_BYTES_MAX;
    (fits && buyer.bytes().all(|byte| byte.is_ascii_graphic())).then_some(buyer)
}
