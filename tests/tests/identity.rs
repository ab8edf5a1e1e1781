//! Who is the buyer: what is believed of a header, and what of a token.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tidegate_queue::{Clock, SystemClock};
use tidegate_tests::{Sale, Server, Settings, eventually};

#[tokio::test]
async fn fm40_a_buyer_header_that_is_missing_double_or_from_outside_is_not_believed() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let path = "/v1/sales/phone/orders";
    shop.public.send("POST", path, &[], b"").await.expect_problem(401, "unauthenticated");
    let double = [("x-user-id", "ann"), ("x-user-id", "eve")];
    shop.public.send("POST", path, &double, b"").await.expect_problem(401, "unauthenticated");
    for forged in ["", "two words", &"x".repeat(129)] {
        shop.public
            .send("POST", path, &[("x-user-id", forged)], b"")
            .await
            .expect_problem(401, "unauthenticated");
    }
    shop.public.get("/v1/sales/phone/tickets", &[]).await.expect_problem(401, "unauthenticated");
    assert_eq!(shop.audit("phone").await.number("held"), 0);

    let outside = Settings::new().value("identity.trusted_proxies", "[\"10.0.0.0/8\"]");
    let server = Server::start_with(outside).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    shop.order("phone", "ann", "k").await.expect_problem(401, "unauthenticated");
    assert_eq!(shop.audit("phone").await.number("held"), 0);
}

mod jwt {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::Value;

    const SECRET: &str = "a secret of more than sixteen bytes";

    fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        let token = encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes()));
        format!("Bearer {}", token.unwrap())
    }

    #[tokio::test]
    async fn fm40_only_a_token_signed_in_time_with_the_agreed_algorithm_is_a_buyer() {
        let settings = Settings::new().set_text("identity.mode", "jwt");
        let key_file = settings.folder().join("jwt.key");
        std::fs::write(&key_file, SECRET).unwrap();
        let settings = settings.set_text("identity.jwt_key_file", key_file.to_str().unwrap());
        let server = Server::start_with(settings).await;
        let shop = &server.shop;
        shop.open("phone", &Sale::of(5)).await;
        let now_s = SystemClock::new().now_ms() / 1_000;
        let good = json!({ "sub": "ann", "exp": now_s + 600 });
        let order = async |authorization: &str| {
            let headers = [("authorization", authorization), ("x-user-id", "eve"), ("idempotency-key", "k")];
            shop.public.send("POST", "/v1/sales/phone/orders", &headers, b"").await
        };
        let part = |value: Value| BASE64.encode(value.to_string());
        let unsigned =
            format!("Bearer {}.{}.", part(json!({ "alg": "none", "typ": "JWT" })), part(good.clone()));
        let by_another = signed(Algorithm::HS256, "another secret of sixteen bytes", &good);
        let mut parts: Vec<String> =
            signed(Algorithm::HS256, SECRET, &good).split('.').map(str::to_owned).collect();
        parts[1] = part(json!({ "sub": "eve", "exp": now_s + 600 }));
        let refused = [
            "Basic YW5uOmFubg==".to_owned(),
            "Bearer nonsense".to_owned(),
            unsigned,
            by_another,
            parts.join("."),
            signed(Algorithm::HS384, SECRET, &good),
            signed(Algorithm::HS256, SECRET, &json!({ "sub": "ann", "exp": now_s - 600 })),
            signed(
                Algorithm::HS256,
                SECRET,
                &json!({ "sub": "ann", "exp": now_s + 600, "nbf": now_s + 300 }),
            ),
            signed(Algorithm::HS256, SECRET, &json!({ "sub": "ann" })),
            signed(Algorithm::HS256, SECRET, &json!({ "exp": now_s + 600 })),
            signed(Algorithm::HS256, SECRET, &json!({ "sub": "", "exp": now_s + 600 })),
        ];
        for authorization in &refused {
            let answer = order(authorization).await.expect_problem(401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{authorization}");
        }
        shop.order("phone", "eve", "k").await.expect_problem(401, "unauthenticated");
        assert_eq!(shop.audit("phone").await.number("held"), 0);

        let token = signed(Algorithm::HS256, SECRET, &good);
        let won = order(&token).await.expect(202);
        assert_eq!(won.str("buyer"), "ann", "the header beside the token is nobody's word");
        assert_eq!(order(&token).await.expect(202).str("ticket"), won.str("ticket"));
        // A winner's retry skips gates, never the proof: what a token merely claims opens nothing.
        shop.close("phone").await;
        assert_eq!(order(&token).await.expect(202).str("ticket"), won.str("ticket"));
        order(&refused[3]).await.expect_problem(401, "unauthenticated");
        let path = format!("/v1/tickets/{}", won.str("ticket"));
        shop.public.get(&path, &[("x-user-id", "ann")]).await.expect_problem(401, "unauthenticated");
        let eve = signed(Algorithm::HS256, SECRET, &json!({ "sub": "eve", "exp": now_s + 600 }));
        shop.public.get(&path, &[("authorization", &eve)]).await.expect_problem(404, "ticket-not-found");
    }
    #[tokio::test]
    async fn keys_of_a_set_rotate_without_a_restart_and_a_broken_file_changes_nothing() {
        let key = |kid: &str, secret: &str| json!({ "kty": "oct", "kid": kid, "alg": "HS256", "k": BASE64.encode(secret) });
        let sign = |kid: &str, secret: &str| {
            let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
            let claims = json!({ "sub": "ann", "exp": SystemClock::new().now_ms() / 1_000 + 600 });
            format!(
                "Bearer {}",
                encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
            )
        };
        let settings = Settings::new().set_text("identity.mode", "jwt");
        let file = settings.folder().join("jwks.json");
        let write = |text: String| {
            // As a deployment does it: whole or not at all.
            std::fs::write(file.with_extension("new"), text).unwrap();
            std::fs::rename(file.with_extension("new"), &file).unwrap();
        };
        let (old, new) = ("the secret of yesterday", "the secret of tomorrow");
        write(json!({ "keys": [key("old", old)] }).to_string());
        let settings = settings.set_text("identity.jwks_file", file.to_str().unwrap());
        let server = Server::start_with(settings).await;
        let shop = &server.shop;
        shop.open("phone", &Sale::of(5)).await;
        let status = async |authorization: &str| {
            let headers = [("authorization", authorization)];
            shop.public.get("/v1/sales/phone/tickets", &headers).await.status
        };
        let (of_old, of_new) = (sign("old", old), sign("new", new));
        assert_eq!((status(&of_old).await, status(&of_new).await), (200, 401));

        write(json!({ "keys": [key("old", old), key("new", new)] }).to_string());
        eventually("the new key is known", || async { (status(&of_new).await == 200).then_some(()) }).await;
        assert_eq!(status(&of_old).await, 200);

        write("{".to_owned());
        let told = "changed keys of tokens cannot be taken";
        eventually("the broken file is told", || async { server.stderr().contains(told).then_some(()) })
            .await;
        assert_eq!((status(&of_old).await, status(&of_new).await), (200, 200));

        write(json!({ "keys": [key("new", new)] }).to_string());
        eventually("the old key is gone", || async { (status(&of_old).await == 401).then_some(()) }).await;
        assert_eq!(status(&of_new).await, 200);
        assert_eq!(server.stderr().matches(told).count(), 1, "once for one mistake");
        let metrics = shop.inner.get("/metrics", &[]).await.text;
        assert!(metrics.contains("tidegate_bearer_token_keys 1"), "{metrics}");
    }
}
