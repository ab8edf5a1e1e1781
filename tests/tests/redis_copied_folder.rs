//! Two processes with one id: the data folder of a gateway was copied, or a machine was thought to be dead.
#![allow(clippy::unwrap_used)]

use tidegate_stock::testing::redis::RedisServer;
use tidegate_tests::{Fleet, FleetSettings, Sale, Server, eventually};

fn id_file(server: &Server) -> std::path::PathBuf {
    server.settings.data_dir().join("gateway.id")
}

#[tokio::test]
async fn the_process_that_was_started_last_goes_on_alone() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&redis, 2).await;
    let [a, b] = [fleet.shop(0), fleet.shop(1)];
    fleet.open("phone", &Sale::of(10)).await;
    let ticket = a.win("phone", "ann").await;

    // A copy of what makes a folder this gateway's.
    let settings = FleetSettings::new().at(redis.port()).gateway();
    std::fs::create_dir_all(settings.data_dir()).unwrap();
    std::fs::copy(id_file(&fleet.gateways[0]), settings.data_dir().join("gateway.id")).unwrap();
    let mut copy = Server::launch_with(settings);
    copy.until_ready().await;
    let c = copy.shop.clone();

    eventually("the one before knows that it is replaced", || async {
        let reply = a.inner.get("/readyz", &[]).await;
        (reply.status == 503 && reply.text.contains("started later")).then_some(())
    })
    .await;
    assert_eq!(a.order("phone", "bob", "k").await.status, 503);
    assert_eq!(a.order("phone", "ann", "k").await.status, 503);
    let path = "/v1/topics/orders/groups/order-workers/receive";
    let received = a.inner.try_send("POST", path, &[], br#"{"max":8,"wait_ms":0}"#).await.unwrap();
    assert_eq!(received.status, 503, "it delivers nothing: {}", received.text);
    assert_eq!(a.transition(&ticket, "created", "row").await.status, 503);
    let told = fleet.gateways[0].stderr();
    assert_eq!(told.matches("another process runs with this gateway's id").count(), 1, "{told}");

    // The others sell, and so does the copy. It stays so.
    c.until_state("phone", "open").await;
    assert_ne!(c.win("phone", "cid").await, b.win("phone", "dan").await);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(a.inner.get("/readyz", &[]).await.status, 503);
    assert_eq!(c.inner.get("/readyz", &[]).await.status, 200);

    // Who starts the one before again means that one.
    copy.kill().await;
    fleet.gateways[0].kill().await;
    let began = std::time::Instant::now();
    fleet.gateways[0].restart().await;
    println!("ready {:?} after its start", began.elapsed());
    a.until_state("phone", "open").await;
    a.win("phone", "eve").await;
}
