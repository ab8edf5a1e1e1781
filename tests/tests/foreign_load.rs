//! A load tool that nobody here wrote, fired at a real gateway with the example worker running: the tool's counts, the
//! worker's database and the audit agree.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use tidegate_tests::{Sale, Server, eventually, order_worker_binary, workspace_dir};

const STOCK: u64 = 300;

/// Killed when dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrk_with_a_mixed_crowd_buys_exactly_the_stock() {
    let wrk = Command::new("wrk").arg("--version").output();
    assert!(wrk.is_ok(), "`wrk` is missing: `apt-get install wrk`, or run `make test`, which installs it");
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(STOCK).with("order_deadline_ms", 120_000)).await;
    let database = server.settings.folder().join("orders.sqlite");
    let worker = Command::new(order_worker_binary())
        .args(["--inner", &server.settings.inner_url(), "--pay-ratio", "1", "--pay-delay-ms", "5", "--db"])
        .arg(&database)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let worker = Worker(worker);

    let url = format!("{}/v1/sales/phone/orders", server.settings.public_url());
    let script = workspace_dir().join("tests/wrk/crowd.lua");
    let load = tokio::task::spawn_blocking(move || {
        Command::new("wrk")
            .args(["-t2", "-c32", "-d6s", "--timeout", "20s", "-s"])
            .arg(script)
            .arg(url)
            .output()
            .unwrap()
    });
    let load = load.await.unwrap();
    let said = String::from_utf8_lossy(&load.stdout);
    assert!(load.status.success(), "{said}{}", String::from_utf8_lossy(&load.stderr));
    let count: BTreeMap<&str, u64> = said
        .lines()
        .filter_map(|line| line.strip_prefix("count ")?.split_once(' '))
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    let told: BTreeSet<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("tickets "))
        .flat_map(str::split_whitespace)
        .collect();

    assert_eq!((count["other"], count["broken"]), (0, 0), "{said}");
    assert_eq!(told.len() as u64, STOCK, "distinct tickets that wrk was told: {said}");
    assert_eq!(count["requests"] - count["refused"], count["won"], "wrk's own count of 2xx: {said}");
    assert!(count["won"] > STOCK, "winners who pressed again got an answer too: {said}");
    assert!(count["bad"] > 10 && count["unknown"] > 10 && count["gone"] > 100, "{said}");

    eventually("every order is created and paid", || async {
        (shop.audit("phone").await.number("sold") == STOCK).then_some(())
    })
    .await;
    let audit = shop.audit("phone").await;
    assert_eq!((audit.number("available"), audit.number("held"), audit.number("returned")), (0, 0, 0));
    let rows = rusqlite::Connection::open(&database).unwrap();
    let paid = eventually("the database has every payment", || async {
        let mut query = rows.prepare("SELECT ticket FROM orders WHERE status = 'paid'").unwrap();
        let paid: BTreeSet<String> =
            query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (paid.len() as u64 == STOCK).then_some(paid)
    })
    .await;
    assert!(paid.iter().map(String::as_str).eq(told.iter().copied()), "the very tickets that wrk was told");
    let all: i64 = rows.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(all, STOCK as i64, "no row besides");
    drop(worker);
}
