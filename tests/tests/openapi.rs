//! A running gateway against its own interface document: schemathesis makes requests from `/openapi.json`, good ones and
//! broken ones, and finds no 5xx and no answer that the document does not tell of.

#![allow(clippy::unwrap_used)]

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};
use tidegate_tests::{Server, Settings};

const WORKER: &str = "worker-token-of-this-test";
const ADMIN: &str = "admin-token-of-this-test";
const SECRET: &str = "a secret of more than sixteen bytes";
/// Requests for each operation and phase.
const EXAMPLES: &str = "12";
/// What an answer must be. Whether a request of the right form is granted depends on what there is, so that is not asked.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,negative_data_rejection,\
                      unsupported_method,ignored_auth";

fn schemathesis(document: &str, base: &str, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Command::new(root.join("scripts/schemathesis"))
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .args(["run", document, "--url", base, "--checks", CHECKS, "--max-examples", EXAMPLES])
        .args([
            "--seed",
            "1",
            "--no-color",
            "--phases",
            "examples,coverage,fuzzing",
            "--request-timeout",
            "30",
        ])
        .args(["--suppress-health-check", "all", "--generation-database", "none", "--warnings", "off"])
        .args(arguments)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("scripts/schemathesis runs")
}

fn passes(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "schemathesis:\n{out}\n{err}");
    println!("{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_answers_as_its_document_tells() {
    let settings = Settings::new()
        .set_text("inner.worker_token", WORKER)
        .set_text("inner.admin_token", ADMIN)
        .value("sale", r#"[{ id = "walnut-desk", item = "desk", stock = 1000, opens_at_ms = 1, order_deadline_ms = 1000 }]"#);
    let key = settings.folder().join("jwt.key");
    std::fs::write(&key, SECRET).unwrap();
    let settings =
        settings.set_text("identity.mode", "jwt").set_text("identity.jwt_key_file", key.to_str().unwrap());
    let server = Server::start_with(settings).await;
    let claims = json!({ "sub": "ana", "exp": u32::MAX });
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    let (public, inner) = (server.settings.public_url(), server.settings.inner_url());
    let document = format!("{inner}/openapi.json");
    let admin = format!("Authorization: Bearer {ADMIN}");
    passes(&schemathesis(
        &document,
        &inner,
        &["--include-tag", "worker", "--include-tag", "admin", "--include-tag", "open", "--header", &admin],
    ));
    passes(&schemathesis(
        &document,
        &public,
        &["--include-tag", "buyers", "--header", &format!("Authorization: Bearer {token}")],
    ));
    server.shop.inner.get("/healthz", &[]).await.expect(200);
}
