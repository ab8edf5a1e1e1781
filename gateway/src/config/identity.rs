//! `[identity]`: three modes over one set of keys.

use super::reader::Section;
use super::types::{Identity, Jwt};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

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

pub(super) fn read(section: &mut Section<'_, '_>) -> Identity {
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
    let algorithm = section.choice("jwt_algorithm", &ALGORITHMS);
    let key_file = section.text_or("jwt_key_file", None);
    let issuer = section.text_or("jwt_issuer", None).map(|(text, _)| text);
    let audience = section.text_or("jwt_audience", None).map(|(text, _)| text);
    let leeway_s = section.number("jwt_leeway_s", 30, 0..=3_600, "s");
    match mode {
        Mode::Anonymous => Identity::Anonymous { header, trusted_proxies },
        Mode::Header => Identity::Header { header, trusted_proxies },
        Mode::Jwt => {
            let key = match key_file {
                None => {
                    let help = "name the file with the key: the secret for HS…, else the public key as PEM";
                    let message = "is missing while mode is \"jwt\"";
                    let place = section.place();
                    section.problem(place, "jwt_key_file", message, Some(help.to_owned()));
                    None
                }
                Some((path, place)) => read_key(&path, algorithm)
                    .map_err(|(message, help)| section.problem(place, "jwt_key_file", message, help))
                    .ok(),
            };
            // Without a key there is a problem, and then the configuration is not handed out.
            let key = key.unwrap_or_else(|| DecodingKey::from_secret(&[]));
            let jwt = Box::new(Jwt { algorithm, key, issuer, audience, leeway_s });
            Identity::Jwt { jwt, trusted_proxies }
        }
    }
}

/// The error is what is wrong, and what to do.
fn read_key(path: &str, algorithm: Algorithm) -> Result<DecodingKey, (String, Option<String>)> {
    let bytes = std::fs::read(path).map_err(|error| {
        let help = "check the path and that this user may read it";
        (format!("cannot read {path}: {error}"), Some(help.to_owned()))
    })?;
    let bytes = bytes.trim_ascii_end();
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac if bytes.len() < 16 => {
            return Err((format!("the secret in {path} has {} bytes; use at least 16", bytes.len()), None));
        }
        AlgorithmFamily::Hmac => Ok(DecodingKey::from_secret(bytes)),
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(bytes),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes),
        AlgorithmFamily::Ed => DecodingKey::from_ed_pem(bytes),
    };
    key.map_err(|error| (format!("{path} holds no public key in PEM for {algorithm:?}: {error}"), None))
}
