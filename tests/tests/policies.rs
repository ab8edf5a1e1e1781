//! Policies in Lua: over HTTP, changed while the gateway runs, and tested from the command line.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::path::PathBuf;
use tidegate_tests::{Reply, Sale, Server, Settings, Shop, eventually, run_to_its_end, workspace_dir};

/// Settings with one policy, and its path.
fn with_policy(text: &str) -> (Settings, PathBuf) {
    let settings = Settings::new();
    let file = settings.folder().join("policy.lua");
    std::fs::write(&file, text).unwrap();
    let files = format!("[\"{}\"]", file.display());
    (settings.value("admission.policy.files", files).set("admission.policy.reload_ms", 100), file)
}

/// As an operator should: written beside, then renamed.
fn replace(file: &PathBuf, text: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, file).unwrap();
}

async fn order(shop: &Shop, buyer: &str, key: &str, agent: &str) -> Reply {
    let headers = [("x-user-id", buyer), ("idempotency-key", key), ("user-agent", agent)];
    let body = json!({ "attributes": { "colour": "red", "risk": "none, says the buyer" } });
    shop.public.post("/v1/sales/phone/orders", &headers, &body).await
}

async fn metric(shop: &Shop, line: &str) -> bool {
    shop.inner.get("/metrics", &[]).await.text.lines().any(|found| found == line)
}

#[tokio::test]
async fn a_policy_denies_challenges_and_tells_the_worker() {
    let (settings, _) = with_policy(
        "local agent = request.headers['user-agent']
         if agent == 'bad' then return 'deny', 'no ' .. request.buyer end
         if agent == 'odd' then return 'challenge' end
         return 'allow', { risk = 7, region = request.address }",
    );
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let denied = order(shop, "bob", "k", "bad").await.expect_problem(403, "denied-by-policy");
    assert_eq!(denied.str("detail"), "no bob");
    order(shop, "bob", "k", "odd").await.expect_problem(403, "pass-required");
    // Nobody but the policy asks for a pass here: a bad one is as good as none.
    let headers = [("x-user-id", "bob"), ("user-agent", "odd"), ("x-tidegate-pass", "nonsense")];
    shop.public
        .send("POST", "/v1/sales/phone/orders", &headers, b"")
        .await
        .expect_problem(403, "pass-required");
    let won = order(shop, "ann", "k", "good").await.expect(202);
    // The same request again, of whatever kind its client is now: a winner is not judged, and the body is its own.
    let again = order(shop, "ann", "k", "bad").await.expect(202);
    assert_eq!(again.str("ticket"), won.str("ticket"));
    let orders = shop.orders(1, 5_000).await;
    let attributes = &orders[0]["body"]["attributes"];
    assert_eq!(*attributes, json!({ "colour": "red", "risk": 7, "region": "127.0.0.1" }));
    assert_eq!(shop.audit("phone").await.number("held"), 1);
    for line in [
        "tidegate_policy_orders_total{verdict=\"evaluated\"} 4",
        "tidegate_policy_orders_total{verdict=\"denied\"} 1",
        "tidegate_policy_orders_total{verdict=\"challenged\"} 2",
        "tidegate_policy_orders_total{verdict=\"failed\"} 0",
    ] {
        assert!(metric(shop, line).await, "{line}");
    }
}

#[tokio::test]
async fn a_changed_policy_is_taken_and_a_broken_one_is_not() {
    let (settings, file) = with_policy("return 'deny', 'first'");
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let denied = order(shop, "ann", "k", "x").await.expect_problem(403, "denied-by-policy");
    assert_eq!(denied.str("detail"), "first");
    replace(&file, "return 'deny' 'second'");
    eventually("the mistake is told", || async {
        metric(shop, "tidegate_policy_reload_failures_total 1").await.then_some(())
    })
    .await;
    assert!(server.stderr().contains("policy.lua:1:"), "{}", server.stderr());
    let denied = order(shop, "ann", "k", "x").await.expect_problem(403, "denied-by-policy");
    assert_eq!(denied.str("detail"), "first", "the present policy goes on");
    replace(&file, "return 'deny', 'third'");
    eventually("the change is taken", || async {
        (order(shop, "ann", "k", "x").await.str("detail") == "third").then_some(())
    })
    .await;
    replace(&file, "");
    eventually("and the next", || async { (order(shop, "ann", "k", "x").await.status == 202).then_some(()) })
        .await;
}

#[tokio::test]
async fn fm42_a_policy_that_never_ends_or_eats_memory_follows_on_error() {
    for (on_error, status) in [("allow", 202), ("deny", 403)] {
        for text in ["while true do end", "local t = {} for i = 1, 1e9 do t[i] = { i } end"] {
            let (settings, _) = with_policy(text);
            let server = Server::start_with(settings.set_text("admission.policy.on_error", on_error)).await;
            let shop = &server.shop;
            shop.open("phone", &Sale::of(100)).await;
            for buyer in 0..20 {
                let reply = order(shop, &format!("b{buyer}"), "k", "x").await;
                assert_eq!(reply.status, status, "{text}: {}", reply.text);
            }
            assert!(metric(shop, "tidegate_policy_orders_total{verdict=\"failed\"} 20").await, "{text}");
            assert!(server.stderr().contains("a policy failed"), "{}", server.stderr());
        }
    }
}

#[test]
fn a_policy_that_does_not_compile_is_no_start() {
    let (settings, _) = with_policy("return =");
    let ended = run_to_its_end(&["check", "--config", settings.write().to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("admission.policy.files: ") && ended.stderr.contains("policy.lua:1:"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_examples_hold_and_a_case_that_does_not_is_told() {
    for example in ["risk", "region"] {
        let file = workspace_dir().join(format!("lua/policy/{example}.lua"));
        let ended = run_to_its_end(&["policy", "test", file.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains(" cases of ") && !ended.stdout.contains("FAILED"), "{}", ended.stdout);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.lua");
    let test = || run_to_its_end(&["policy", "test", file.to_str().unwrap()]);
    std::fs::write(&file, "return 'deny', 'no'").unwrap();
    assert_eq!(test().code, Some(2), "no cases");
    let cases = "[[case]]\nname = \"a\"\nexpect = \"deny\"\n[[case]]\nname = \"b\"\nexpect = \"allow\"\n";
    std::fs::write(folder.path().join("p.cases.toml"), cases).unwrap();
    let ended = test();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("ok      a\nFAILED  b: it is denied, \"no\"; expected allow"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("1 of 2 cases"), "{}", ended.stderr);
    std::fs::write(&file, "return =").unwrap();
    let ended = test();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("p.lua:1:"), "{}", ended.stderr);
    std::fs::write(folder.path().join("p.cases.toml"), "[[case]]\nname = \"a\"\nexpects = \"deny\"\n")
        .unwrap();
    std::fs::write(&file, "").unwrap();
    assert!(test().stderr.contains("expects"), "the typo is named");
}
