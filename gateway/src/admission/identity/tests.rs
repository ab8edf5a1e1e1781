//! What is taken for a buyer's token, and what is not.

use super::*;
use crate::config::Jwt as JwtSettings;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::HeaderValue;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_queue::ManualClock;

const NOW_S: u64 = 1_800_000_000;
const SECRET: &str = "a secret of more than sixteen bytes";

/// A folder with keys that `openssl` made.
struct KeyRing(tempfile::TempDir);

/// A pair of keys.
struct Pair {
    algorithm: Algorithm,
    private: EncodingKey,
    public: DecodingKey,
    public_pem: PathBuf,
}

impl KeyRing {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn pair(&self, name: &str, algorithm: Algorithm) -> Pair {
        self.pair_of(name, algorithm, 2048)
    }

    fn pair_of(&self, name: &str, algorithm: Algorithm, rsa_bits: u32) -> Pair {
        let (private, public) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        if algorithm.family() == AlgorithmFamily::Hmac {
            std::fs::write(&public, SECRET).unwrap();
            return Pair {
                algorithm,
                private: EncodingKey::from_secret(SECRET.as_bytes()),
                public: DecodingKey::from_secret(SECRET.as_bytes()),
                public_pem: public,
            };
        }
        let kind = match (algorithm.family(), algorithm) {
            (AlgorithmFamily::Rsa, _) => format!("RSA -pkeyopt rsa_keygen_bits:{rsa_bits}"),
            (_, Algorithm::ES256) => "EC -pkeyopt ec_paramgen_curve:P-256".to_owned(),
            (_, Algorithm::ES384) => "EC -pkeyopt ec_paramgen_curve:P-384".to_owned(),
            _ => "ed25519".to_owned(),
        };
        openssl(&format!("genpkey -algorithm {kind} -out {}", private.display()));
        openssl(&format!("pkey -in {} -pubout -out {}", private.display(), public.display()));
        let (pem, public_text) = (std::fs::read(&private).unwrap(), std::fs::read(&public).unwrap());
        let (private, decoding) = match algorithm.family() {
            AlgorithmFamily::Rsa => {
                (EncodingKey::from_rsa_pem(&pem), DecodingKey::from_rsa_pem(&public_text))
            }
            AlgorithmFamily::Ec => (EncodingKey::from_ec_pem(&pem), DecodingKey::from_ec_pem(&public_text)),
            _ => (EncodingKey::from_ed_pem(&pem), DecodingKey::from_ed_pem(&public_text)),
        };
        Pair { algorithm, private: private.unwrap(), public: decoding.unwrap(), public_pem: public }
    }

    /// A set of these keys under these names.
    fn set(&self, keys: &[(Option<&str>, &Pair)]) -> PathBuf {
        let keys: Vec<Value> = keys.iter().map(|(kid, pair)| pair.jwk(*kid)).collect();
        self.write("jwks.json", json!({ "keys": keys }).to_string())
    }
}

fn openssl(arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).output().expect("install openssl");
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Pair {
    /// The same key for another algorithm.
    fn as_another(&self, algorithm: Algorithm) -> Self {
        let (private, public) = (self.private.clone(), self.public.clone());
        Self { algorithm, private, public, public_pem: self.public_pem.clone() }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(None, claims)
    }

    fn sign_as(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        encode(&header, claims, &self.private).unwrap()
    }

    /// Signs header and claims as they are, right or wrong.
    fn sign_raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let mark = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{message}.{mark}")
    }

    fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = Jwk::from_decoding_key(&self.public, Some(self.algorithm)).unwrap();
        jwk.common.key_id = kid.map(str::to_owned);
        serde_json::to_value(&jwk).unwrap()
    }
}

fn source(path: &Path, is_set: bool, algorithm: Algorithm) -> KeySource {
    KeySource { path: path.to_owned(), is_set, algorithm }
}

fn gate_at(source: KeySource, clock: Arc<ManualClock>) -> JwtGate {
    let keys = source.read().unwrap();
    let settings = JwtSettings {
        source,
        keys,
        issuer: Some("https://accounts.example.com".to_owned()),
        audience: Some("shop".to_owned()),
        leeway_s: 30,
        cache_max: 1_000,
    };
    JwtGate::new(&settings, clock, Arc::default())
}

fn gate(source: KeySource) -> JwtGate {
    gate_at(source, Arc::new(ManualClock::new(NOW_S * 1_000)))
}

fn good() -> Value {
    json!({ "sub": "ann", "exp": NOW_S + 600, "iss": "https://accounts.example.com", "aud": "shop" })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

#[test]
fn each_algorithm_proves_its_buyer_by_a_key_file_and_by_a_set() {
    let ring = KeyRing::new();
    let other_ring = KeyRing::new();
    let rsa = ring.pair("rsa", Algorithm::RS256);
    for algorithm in ALL {
        // One pair serves for all six of RSA: making them takes its time.
        let is_rsa = algorithm.family() == AlgorithmFamily::Rsa;
        let pair = if is_rsa { rsa.as_another(algorithm) } else { ring.pair("own", algorithm) };
        let single = gate(source(&pair.public_pem, false, algorithm));
        assert_eq!(single.buyer(&pair.sign(&good())).as_deref(), Ok("ann"), "{algorithm:?}");
        let set = gate(source(&ring.set(&[(Some("k1"), &pair)]), true, algorithm));
        assert_eq!(set.buyer(&pair.sign_as(Some("k1"), &good())).as_deref(), Ok("ann"), "{algorithm:?}");
        if algorithm.family() != AlgorithmFamily::Hmac && algorithm.family() != AlgorithmFamily::Rsa {
            let stranger = other_ring.pair("stranger", algorithm);
            single.buyer(&stranger.sign(&good())).unwrap_err();
            set.buyer(&stranger.sign_as(Some("k1"), &good())).unwrap_err();
        }
        for other in ALL.into_iter().filter(|other| *other != algorithm) {
            // The very key, the wrong algorithm.
            let pair = pair.as_another(other);
            if other.family() == algorithm.family() && algorithm.family() != AlgorithmFamily::Ec {
                single.buyer(&pair.sign(&good())).unwrap_err();
                set.buyer(&pair.sign_as(Some("k1"), &good())).unwrap_err();
            }
        }
    }
}

#[test]
fn fm40_a_token_without_a_signature_is_nobody() {
    let ring = KeyRing::new();
    let pair = ring.pair("own", Algorithm::ES256);
    let gate = gate(source(&pair.public_pem, false, Algorithm::ES256));
    let claims = BASE64.encode(good().to_string());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["ES256"]}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"es256"}"#,
        r#"{"typ":"JWT"}"#,
        "{}",
        "",
    ] {
        let header = BASE64.encode(header);
        for token in [
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.AAAA"),
            format!("{header}.{claims}.{}", BASE64.encode([0; 64])),
        ] {
            gate.buyer(&token).unwrap_err();
        }
    }
}

#[test]
fn fm40_a_public_key_is_no_secret() {
    let ring = KeyRing::new();
    let pair = ring.pair("own", Algorithm::RS256);
    let public_text = std::fs::read(&pair.public_pem).unwrap();
    let modulus = pair.jwk(None)["n"].as_str().unwrap().to_owned();
    let forged = |kid: Option<&str>, secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = kid.map(str::to_owned);
        encode(&header, &good(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let jwk_text = pair.jwk(Some("k1")).to_string();
    let secrets = [
        public_text.clone(),
        public_text.trim_ascii_end().to_vec(),
        modulus.clone().into_bytes(),
        BASE64.decode(&modulus).unwrap(),
        jwk_text.into_bytes(),
        Vec::new(),
    ];
    let single = gate(source(&pair.public_pem, false, Algorithm::RS256));
    let set = gate(source(&ring.set(&[(Some("k1"), &pair)]), true, Algorithm::RS256));
    for secret in &secrets {
        single.buyer(&forged(None, secret)).unwrap_err();
        set.buyer(&forged(Some("k1"), secret)).unwrap_err();
        set.buyer(&forged(None, secret)).unwrap_err();
    }
    // An operator who mixes up the two is told, instead of opening the door.
    let error = source(&pair.public_pem, false, Algorithm::HS256).read().unwrap_err();
    assert!(error.to_string().contains("needs a secret"), "{error}");
    let error = source(&ring.set(&[(Some("k1"), &pair)]), true, Algorithm::HS256).read().unwrap_err();
    assert!(error.to_string().contains("has no key for HS256"), "{error}");
}

#[test]
fn fm40_a_set_with_keys_of_several_kinds_serves_only_the_one_algorithm() {
    let ring = KeyRing::new();
    let rsa = ring.pair("rsa", Algorithm::RS256);
    let secret = ring.pair("secret", Algorithm::HS256);
    let set = ring.set(&[(Some("rsa"), &rsa), (Some("secret"), &secret)]);
    let gate = gate(source(&set, true, Algorithm::RS256));
    assert_eq!(gate.buyer(&rsa.sign_as(Some("rsa"), &good())).as_deref(), Ok("ann"));
    assert_eq!(gate.buyer(&rsa.sign(&good())).as_deref(), Ok("ann"), "it is the only one for RS256");
    gate.buyer(&secret.sign_as(Some("secret"), &good())).unwrap_err();
    gate.buyer(&secret.sign_as(Some("rsa"), &good())).unwrap_err();
    gate.buyer(&rsa.sign_as(Some("secret"), &good())).unwrap_err();
}

#[test]
fn fm40_a_kid_chooses_a_key_and_nothing_else() {
    let ring = KeyRing::new();
    let (one, two) = (ring.pair("one", Algorithm::ES256), ring.pair("two", Algorithm::ES256));
    let gate = gate(source(&ring.set(&[(Some("1"), &one), (Some("2"), &two)]), true, Algorithm::ES256));
    assert_eq!(gate.buyer(&one.sign_as(Some("1"), &good())).as_deref(), Ok("ann"));
    assert_eq!(gate.buyer(&two.sign_as(Some("2"), &good())).as_deref(), Ok("ann"));
    gate.buyer(&one.sign_as(Some("2"), &good())).unwrap_err();
    gate.buyer(&one.sign(&good())).expect_err("without a kid it could be either");
    let file = one.public_pem.to_str().unwrap().to_owned();
    for kid in ["", "3", "../../../../dev/null", "/dev/null", &file, "1' OR '1'='1", "1\u{0}", "1 ", "|id"] {
        gate.buyer(&one.sign_as(Some(kid), &good())).unwrap_err();
    }
    let claims = good().to_string();
    for header in [
        r#"{"alg":"ES256","kid":"1","kid":"1"}"#,
        r#"{"alg":"ES256","kid":1}"#,
        r#"{"alg":"ES256","kid":["1"]}"#,
        r#"{"alg":"ES256","alg":"ES256","kid":"1"}"#,
        r#"{"alg":"ES256","kid":"1","crit":["exp"]}"#,
    ] {
        gate.buyer(&one.sign_raw(header, &claims)).expect_err(header);
    }
    // A key that the token brings along is a stranger's proposal.
    let mut header = Header::new(Algorithm::ES256);
    let stranger = KeyRing::new().pair("stranger", Algorithm::ES256);
    header.jwk = Some(serde_json::from_value(stranger.jwk(Some("1"))).unwrap());
    header.kid = Some("1".to_owned());
    gate.buyer(&encode(&header, &good(), &stranger.private).unwrap()).unwrap_err();
}

#[test]
fn times_issuer_and_audience_must_be_right() {
    let ring = KeyRing::new();
    let pair = ring.pair("own", Algorithm::HS256);
    let gate = gate(source(&pair.public_pem, false, Algorithm::HS256));
    let told = |claims: &Value| gate.buyer(&pair.sign(claims));
    for taken in [
        with("exp", json!(NOW_S - 30)),
        with("exp", json!(NOW_S as f64 + 0.5)),
        with("exp", json!(u64::MAX)),
        with("nbf", json!(NOW_S + 30)),
        with("nbf", json!(0)),
        with("aud", json!(["other", "shop"])),
    ] {
        assert_eq!(told(&taken).as_deref(), Ok("ann"), "{taken}");
    }
    for refused in [
        with("exp", json!(NOW_S - 31)),
        with("exp", json!(0)),
        with("exp", json!(-1)),
        with("exp", json!(1e300)),
        with("exp", json!("never")),
        with("exp", Value::Null),
        with("nbf", json!(NOW_S + 31)),
        with("nbf", json!(1e300)),
        with("nbf", json!("now")),
        with("iss", json!("https://accounts.example.com.evil")),
        with("iss", json!("")),
        with("iss", Value::Null),
        with("iss", json!(["https://accounts.example.com"])),
        with("aud", json!("shopping")),
        with("aud", json!([])),
        with("aud", Value::Null),
        with("aud", json!({ "shop": true })),
        json!({ "sub": "ann", "exp": NOW_S + 600 }),
        json!({}),
        json!([]),
        json!("ann"),
    ] {
        assert!(told(&refused).is_err(), "{refused}");
    }
}

#[test]
fn a_buyer_is_text_of_a_bounded_length() {
    let ring = KeyRing::new();
    let pair = ring.pair("own", Algorithm::HS256);
    let gate = gate(source(&pair.public_pem, false, Algorithm::HS256));
    let told = |sub: Value| gate.buyer(&pair.sign(&with("sub", sub)));
    assert_eq!(told(json!("x".repeat(128))).unwrap().len(), 128);
    for refused in [
        json!(""),
        json!("x".repeat(129)),
        json!("two words"),
        json!("line\nline"),
        json!("nul\u{0}"),
        json!("ann\u{202e}"),
        json!(7),
        json!(true),
        json!(["ann"]),
        json!({ "id": "ann" }),
        Value::Null,
    ] {
        assert!(told(refused.clone()).is_err(), "{refused}");
    }
    let double =
        r#"{"sub":"ann","sub":"eve","exp":1800000600,"iss":"https://accounts.example.com","aud":"shop"}"#;
    gate.buyer(&pair.sign_raw(r#"{"alg":"HS256"}"#, double)).unwrap_err();
    for name in ["exp", "iss", "aud"] {
        let text = good().to_string();
        let again = format!("{},\"{name}\":{}}}", text.trim_end_matches('}'), good()[name]);
        gate.buyer(&pair.sign_raw(r#"{"alg":"HS256"}"#, &again)).expect_err(name);
    }
}

#[test]
fn a_huge_or_broken_token_costs_nothing_and_is_refused() {
    let ring = KeyRing::new();
    let pair = ring.pair("own", Algorithm::HS256);
    let gate = gate(source(&pair.public_pem, false, Algorithm::HS256));
    let roomy = with("note", json!("x".repeat(4_000)));
    assert_eq!(gate.buyer(&pair.sign(&roomy)).as_deref(), Ok("ann"));
    let huge = with("note", json!("x".repeat(TOKEN_BYTES_MAX)));
    assert_eq!(gate.buyer(&pair.sign(&huge)), Err("the bearer token is too long"));
    let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    gate.buyer(&pair.sign_raw(r#"{"alg":"HS256"}"#, &deep)).unwrap_err();
    gate.buyer(&pair.sign_raw(&deep, &good().to_string())).unwrap_err();
    let token = pair.sign(&good());
    for broken in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{token}"),
        format!("{token}="),
        format!(" {token}"),
        token.replace('.', ","),
        token[..token.len() - 1].to_owned(),
    ] {
        assert!(gate.buyer(&broken).is_err(), "{broken}");
    }
}

#[test]
fn a_remembered_token_ends_with_its_time_and_with_its_key() {
    let ring = KeyRing::new();
    let (old, new) = (ring.pair("old", Algorithm::ES256), ring.pair("new", Algorithm::ES256));
    let clock = Arc::new(ManualClock::new(NOW_S * 1_000));
    let path = ring.set(&[(Some("old"), &old)]);
    let gate = gate_at(source(&path, true, Algorithm::ES256), clock.clone());
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (of_old, of_new) = (old.sign_as(Some("old"), &good()), new.sign_as(Some("new"), &good()));
    for _ in 0..3 {
        assert_eq!(gate.buyer(&of_old).as_deref(), Ok("ann"));
    }
    assert_eq!((count(&gate.counts.verified), count(&gate.counts.remembered)), (1, 2));
    let mut changed = of_old.clone().into_bytes();
    let last = changed.len() - 2;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    gate.buyer(std::str::from_utf8(&changed).unwrap()).expect_err("another token altogether");

    assert_eq!(gate.reload(), Ok(false), "nothing has changed");
    assert_eq!(gate.remembered(), 1);
    gate.buyer(&of_new).expect_err("its key is not there yet");
    ring.set(&[(Some("old"), &old), (Some("new"), &new)]);
    assert_eq!(gate.reload(), Ok(true));
    assert_eq!(gate.remembered(), 0);
    assert_eq!(gate.buyer(&of_old).as_deref(), Ok("ann"));
    assert_eq!(gate.buyer(&of_new).as_deref(), Ok("ann"));

    for broken in ["", "{", "{\"keys\":[]}", "{\"keys\":7}"] {
        ring.write("jwks.json", broken);
        gate.reload().unwrap_err();
        assert_eq!(gate.buyer(&of_old).as_deref(), Ok("ann"), "the present keys go on");
    }
    assert_eq!(count(&gate.counts.reload_failures), 4);
    std::fs::remove_file(&path).unwrap();
    gate.reload().unwrap_err();
    ring.set(&[(Some("new"), &new)]);
    assert_eq!(gate.reload(), Ok(true));
    gate.buyer(&of_old).expect_err("its key has gone");
    assert_eq!(gate.buyer(&of_new).as_deref(), Ok("ann"));

    clock.advance(630 * 1_000);
    assert_eq!(gate.buyer(&of_new).as_deref(), Ok("ann"), "exp and the skew");
    clock.advance(1);
    assert_eq!(gate.buyer(&of_new), Err("the bearer token has expired, or is not valid yet"));
}

#[test]
fn keys_that_are_weak_double_or_of_another_kind_are_told() {
    let ring = KeyRing::new();
    let (weak, strong) =
        (ring.pair_of("weak", Algorithm::RS256, 1024), ring.pair("strong", Algorithm::RS256));
    let why =
        |path: &Path, is_set, algorithm| source(path, is_set, algorithm).read().unwrap_err().to_string();
    assert!(why(&weak.public_pem, false, Algorithm::RS256).contains("modulus has 1024 bits"));
    assert!(why(&ring.path("strong.key"), false, Algorithm::RS256).contains("holds no public key in PEM"));
    let set = ring.set(&[(Some("weak"), &weak)]);
    assert!(why(&set, true, Algorithm::RS256).contains("the key \"weak\""));
    let set = ring.set(&[(Some("1"), &strong), (Some("1"), &strong)]);
    assert!(why(&set, true, Algorithm::RS256).contains("two keys with the kid \"1\""));
    let curve = ring.pair("curve", Algorithm::ES384);
    assert!(why(&curve.public_pem, false, Algorithm::ES256).contains("another kind or curve"));
    let edited = |name: &str, key: &Pair, change: &dyn Fn(&mut Value)| {
        let mut jwk = key.jwk(Some("1"));
        change(&mut jwk);
        ring.write(name, json!({ "keys": [jwk] }).to_string())
    };
    for other_use in
        [json!({"use": "enc"}), json!({"key_ops": ["sign"]}), json!({"alg": "RS512"}), json!({"alg": "x"})]
    {
        let set = edited("use.json", &strong, &|jwk| {
            for (name, value) in other_use.as_object().unwrap() {
                jwk[name] = value.clone();
            }
        });
        assert!(why(&set, true, Algorithm::RS256).contains("has no key for RS256"), "{other_use}");
    }
    let plain = edited("plain.json", &strong, &|jwk| {
        jwk.as_object_mut().unwrap().remove("alg");
    });
    assert_eq!(source(&plain, true, Algorithm::PS256).read().unwrap().count(), 1);
    let ed = ring.pair("ed", Algorithm::EdDSA);
    let short = edited("ed.json", &ed, &|jwk| jwk["x"] = json!(BASE64.encode([1; 31])));
    assert!(why(&short, true, Algorithm::EdDSA).contains("32 bytes"));
    let point = edited("ec.json", &ring.pair("ec", Algorithm::ES256), &|jwk| {
        jwk["x"] = json!(BASE64.encode([1; 32]));
    });
    assert!(why(&point, true, Algorithm::ES256).contains("cannot be used"));
    let long = ring.write("long.json", " ".repeat((1 << 20) + 1));
    assert!(why(&long, true, Algorithm::ES256).contains("more than 1048576 bytes"));
}

#[test]
fn two_authorization_headers_are_none() {
    let mut headers = HeaderMap::new();
    assert!(bearer(&headers).is_err());
    headers.append(AUTHORIZATION, HeaderValue::from_static("bearer x"));
    assert_eq!(bearer(&headers), Ok("x"));
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer y"));
    assert_eq!(bearer(&headers), Err("the Authorization header came twice"));
}
