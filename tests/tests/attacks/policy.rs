//! Those who have found out what drives a policy into its limits.

use crate::field::{Done, Field, TIME};
use crate::honest::by_header;
use crate::raw::{ask, connect_from, order};
use crate::siege::at_rate;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_tests::{Sale, Settings};

/// Each orders once.
static EVES: AtomicU64 = AtomicU64::new(0);

async fn withstands(name: &str, hostile: &str) {
    let settings = Settings::new();
    let file = settings.folder().join("policy.lua");
    std::fs::write(&file, format!("if request.headers['user-agent'] == 'evil' then {hostile} end")).unwrap();
    let settings = settings
        .value("admission.policy.files", format!("[\"{}\"]", file.display()))
        .set("admission.policy.instructions_max", 10_000_000)
        .value("identity.trusted_proxies", "[\"127.0.0.0/8\"]");
    let field = Field::new(settings, by_header()).await;
    field.shop().open("other", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
    let address = field.address();
    let attack = move |done: Done| {
        let address = address.clone();
        at_rate(300, 50, move |n| {
            let (address, done) = (address.clone(), done.clone());
            async move {
                // From many addresses: what one of them may fail is not what bounds this.
                let from = format!("127.0.1.{}", n % 250 + 1);
                let headers = format!(
                    "x-user-id: eve-{}\r\nuser-agent: evil\r\n",
                    EVES.fetch_add(1, Ordering::Relaxed)
                );
                let mut stream = connect_from(&from, &address).await.unwrap();
                // As `on_error` says, which lets orders pass by default.
                assert_eq!(ask(&mut stream, &order("other", &headers)).await, Some(202));
                done.one();
            }
        })
    };
    field.withstands(name, TIME, 200, attack).await;
    let of = |verdict: &str| format!("tidegate_policy_orders_total{{verdict=\"{verdict}\"}}");
    assert!(field.metric(&of("suspended")).await > 100, "policies were not suspended");
    assert!(
        field.metric(&of("failed")).await > field.metric(&of("suspended")).await,
        "policies did not fail"
    );
}

#[tokio::test]
async fn fm42_endless_policies_take_little_of_a_core() {
    withstands("endless policies", "while true do end").await;
}

#[tokio::test]
async fn fm42_memory_hungry_policies_take_little_of_a_core() {
    withstands("memory-hungry policies", "local t = {} for i = 1, 1e9 do t[i] = { i } end").await;
}
