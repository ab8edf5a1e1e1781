//! What gate 3 costs an order with a JWT: `cargo bench -p tidegate --bench identity`.

use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tidegate::admission::{JwtGate, KeySource};
use tidegate::config::Jwt;
use tidegate_queue::{Clock, SystemClock};

fn openssl(arguments: &str) {
    assert!(Command::new("openssl").args(arguments.split(' ')).status().expect("openssl").success());
}

fn key(folder: &Path, algorithm: Algorithm) -> EncodingKey {
    let public = folder.join("public");
    let kind = match algorithm {
        Algorithm::HS256 => {
            let secret = "a secret of more than sixteen bytes";
            std::fs::write(public, secret).expect("written");
            return EncodingKey::from_secret(secret.as_bytes());
        }
        Algorithm::RS256 => "RSA -pkeyopt rsa_keygen_bits:2048",
        Algorithm::ES256 => "EC -pkeyopt ec_paramgen_curve:P-256",
        _ => "ed25519",
    };
    let private = folder.join("private");
    openssl(&format!("genpkey -quiet -algorithm {kind} -out {}", private.display()));
    openssl(&format!("pkey -in {} -pubout -out {}", private.display(), public.display()));
    let pem = std::fs::read(private).expect("read");
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(&pem),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&pem),
        _ => EncodingKey::from_ed_pem(&pem),
    }
    .expect("a key")
}

fn tokens(c: &mut Criterion) {
    let clock = Arc::new(SystemClock::new());
    for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let folder = tempfile::tempdir().expect("a folder");
        let private = key(folder.path(), algorithm);
        let claims = serde_json::json!({ "sub": "buyer-123456", "exp": clock.now_ms() / 1_000 + 3_600 });
        let token = encode(&Header::new(algorithm), &claims, &private).expect("signed");
        for (name, cache_max) in [("first", 0), ("again", 1_000)] {
            let source = KeySource { path: folder.path().join("public"), is_set: false, algorithm };
            let keys = source.read().expect("keys");
            let jwt = Jwt { source, keys, issuer: None, audience: None, leeway_s: 30, cache_max };
            let gate = JwtGate::new(&jwt, clock.clone(), Arc::default());
            c.bench_function(&format!("token/{algorithm:?}/{name}"), |b| {
                b.iter(|| gate.buyer(black_box(&token)).expect("good"));
            });
        }
    }
}

criterion_group!(benches, tokens);
criterion_main!(benches);
