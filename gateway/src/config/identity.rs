//! `[identity]`: three modes over one set of keys.

use super::reader::Section;
use super::types::{Identity, Jwt};
use crate::admission::{KeySource, Keys};
use jsonwebtoken::Algorithm;

const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

#[derive(Clone, Copy)]
enum Mode {
    Anonymous,
    Header,
    Jwt,
}

pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Identity> {
    let mode = section
        .choice("mode", &[("header", Mode::Header), ("anonymous", Mode::Anonymous), ("jwt", Mode::Jwt)]);
    let header = section.parsed("header", "X-User-Id", "the name of an HTTP header", |text| {
        http::HeaderName::from_bytes(text.as_bytes()).ok()
    });
    let trusted_proxies = section.parsed_list(
        "trusted_proxies",
        &["127.0.0.0/8", "::1/128"],
        "network such as 10.0.0.0/8",
        |text| text.parse().ok(),
    );
    let jwt = jwt(section, matches!(mode, Mode::Jwt));
    Some(match mode {
        Mode::Anonymous => Identity::Anonymous { header, trusted_proxies },
        Mode::Header => Identity::Header { header, trusted_proxies },
        Mode::Jwt => Identity::Jwt { jwt: Box::new(jwt?), trusted_proxies },
    })
}

/// `None`: not asked for, or a problem was told.
fn jwt(section: &mut Section<'_, '_>, asked: bool) -> Option<Jwt> {
    let algorithm = section.choice("jwt_algorithm", &ALGORITHMS);
    let key_file = section.text_or("jwt_key_file", None);
    let jwks_file = section.text_or("jwks_file", None);
    let issuer = section.text_or("jwt_issuer", None).map(|(text, _)| text);
    let audience = section.text_or("jwt_audience", None).map(|(text, _)| text);
    let leeway_s = section.number("jwt_leeway_s", 30, 0..=3_600, "s");
    let cache_max = section.number("jwt_cache_max", 100_000, 0..=10_000_000, "tokens") as usize;
    if !asked {
        return None;
    }
    let (key, path, place) = match (key_file, jwks_file) {
        (Some((path, place)), None) => ("jwt_key_file", path, place),
        (None, Some((path, place))) => ("jwks_file", path, place),
        (Some(_), Some((_, place))) => {
            let message = "jwt_key_file and jwks_file are both set";
            section.problem(place, "jwks_file", message, Some("keep one of them".to_owned()));
            return None;
        }
        (None, None) => {
            let help =
                "name the file with the key: the secret for HS…, else the public key as PEM; or a jwks_file";
            let place = section.place();
            section.problem(place, "jwt_key_file", "is missing while mode is \"jwt\"", Some(help.to_owned()));
            return None;
        }
    };
    let source = KeySource { path: path.into(), is_set: key == "jwks_file", algorithm };
    let keys: Keys =
        source.read().map_err(|error| section.problem(place, key, error.message, error.help)).ok()?;
    Some(Jwt { source, keys, issuer, audience, leeway_s, cache_max })
}
