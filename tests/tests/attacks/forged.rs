//! Those who say that they are somebody else.

use crate::field::{Done, Field, TIME};
use crate::honest::{Credentials, by_header};
use crate::raw::{ask, connect, connect_from, order};
use crate::siege::at_rate;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tidegate_queue::{Clock, SystemClock};
use tidegate_tests::{Sale, Settings};

/// Orders with these headers, in turns, at 200 a second from `from`: every answer must have this status.
async fn refused(
    field: &Field,
    name: &str,
    from: &'static str,
    sale: &str,
    status: u16,
    headers: Vec<String>,
) {
    let address = field.address();
    let shots: Arc<Vec<_>> = Arc::new(headers.iter().map(|headers| order(sale, headers)).collect());
    let attack = move |done: Done| {
        let (address, shots) = (address.clone(), shots.clone());
        at_rate(200, 50, move |n| {
            let (address, shots, done) = (address.clone(), shots.clone(), done.clone());
            async move {
                let stream = if from.is_empty() {
                    connect(&address).await
                } else {
                    connect_from(from, &address).await
                };
                let answered = ask(&mut stream.unwrap(), &shots[n as usize % shots.len()]).await;
                assert_eq!(
                    answered,
                    Some(status),
                    "{}",
                    String::from_utf8_lossy(&shots[n as usize % shots.len()])
                );
                done.one();
            }
        })
    };
    field.withstands(name, TIME, 150, attack).await;
}

#[tokio::test]
async fn fm40_forged_headers_from_outside_are_believed_by_nobody() {
    let settings = Settings::new().value("identity.trusted_proxies", "[\"127.0.0.1/32\"]");
    let field = Field::new(settings, by_header()).await;
    let forged = [
        "x-user-id: honest-1\r\nidempotency-key: k\r\n",
        "x-user-id: honest-1\r\nx-forwarded-for: 127.0.0.1\r\n",
        "X-User-ID: honest-1\r\nforwarded: for=127.0.0.1\r\nx-real-ip: 127.0.0.1\r\n",
        "x_user_id: honest-1\r\nx-user-id: honest-2\r\nx-user-id: honest-3\r\n",
    ];
    let forged = forged.map(str::to_owned).to_vec();
    refused(&field, "forged headers", "127.0.0.2", "honest", 401, forged).await;
}

#[tokio::test]
async fn fm40_tokens_without_a_signature_or_signed_with_the_public_key_are_refused() {
    let settings =
        Settings::new().set_text("identity.mode", "jwt").set_text("identity.jwt_algorithm", "EdDSA");
    let (private, public) = key_pair(settings.folder());
    let file = settings.folder().join("public.pem");
    let settings = settings.set_text("identity.jwt_key_file", file.to_str().unwrap());
    let expires = SystemClock::new().now_ms() / 1_000 + 3_600;
    let claims = json!({ "sub": "honest-1", "exp": expires });
    let signing = EncodingKey::from_ed_pem(&private).unwrap();
    let honest: Credentials = Arc::new(move |n| {
        let claims = json!({ "sub": format!("honest-{n}"), "exp": expires });
        let token = encode(&Header::new(Algorithm::EdDSA), &claims, &signing).unwrap();
        vec![("authorization".to_owned(), format!("Bearer {token}"))]
    });
    let part = |value: serde_json::Value| BASE64.encode(value.to_string());
    let with_secret = |algorithm, secret: &[u8]| {
        encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let trimmed = public.trim_ascii_end();
    let forged = [
        format!("{}.{}.", part(json!({ "alg": "none", "typ": "JWT" })), part(claims.clone())),
        format!("{}.{}.", part(json!({ "alg": "None" })), part(claims.clone())),
        format!("{}.{}.", part(json!({ "alg": "EdDSA" })), part(claims.clone())),
        with_secret(Algorithm::HS256, &public),
        with_secret(Algorithm::HS256, trimmed),
        with_secret(Algorithm::HS512, &public),
    ];
    let field = Field::new(settings, honest).await;
    let headers =
        forged.map(|token| format!("authorization: Bearer {token}\r\nidempotency-key: k\r\n")).to_vec();
    refused(&field, "forged tokens", "", "honest", 401, headers).await;
}

#[tokio::test]
async fn fm41_a_replayed_pass_buys_nothing_more() {
    let field = Field::new(Settings::new(), by_header()).await;
    let shop = field.shop();
    shop.open("guarded", &Sale::of(100).with("requires_pass", true).with("per_buyer_limit", 100)).await;
    let eve = [("x-user-id", "eve")];
    let asked = shop.public.send("POST", "/v1/sales/guarded/challenge", &eve, b"").await.expect(200);
    let words: Vec<&str> = asked.str("question").split(' ').collect();
    let (a, b): (i64, i64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
    let right = match words[1] {
        "+" => a + b,
        "-" => a - b,
        _ => a * b,
    };
    let answer = json!({ "challenge": asked.str("challenge"), "answer": right });
    let pass =
        shop.public.post("/v1/sales/guarded/pass", &eve, &answer).await.expect(200).str("pass").to_owned();
    let spent = [("x-user-id", "eve"), ("idempotency-key", "first"), ("x-tidegate-pass", &*pass)];
    shop.public.send("POST", "/v1/sales/guarded/orders", &spent, b"").await.expect(202);
    let replays = (0..50).map(|n| {
        let buyer = if n % 2 == 0 { "eve".to_owned() } else { format!("eve-{n}") };
        format!("x-user-id: {buyer}\r\nidempotency-key: again-{n}\r\nx-tidegate-pass: {pass}\r\n")
    });
    refused(&field, "replayed passes", "", "guarded", 403, replays.collect()).await;
    assert_eq!(shop.audit("guarded").await.number("held"), 1);
}

/// A fresh key pair as PEM: private, public; the public one stands in `public.pem`.
fn key_pair(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .expect("openssl is installed");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "private.pem"]);
    openssl(&["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    (read("private.pem"), read("public.pem"))
}
