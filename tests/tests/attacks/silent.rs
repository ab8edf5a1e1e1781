//! Those who connect and say little.

use crate::field::{Done, Field, TIME};
use crate::frames;
use crate::honest::by_header;
use crate::raw::{ask, connect};
use crate::siege::for_ever;
use std::time::Duration;
use tidegate_tests::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Between two bytes.
const DRIP: Duration = Duration::from_secs(1);
/// Before one who was closed comes again.
const AGAIN: Duration = Duration::from_millis(250);

/// Sends `start`, then a byte a second, until it is closed.
async fn drip(address: String, start: &'static str, done: Done) {
    loop {
        if let Some(stream) = connect(&address).await {
            done.one();
            let (mut read, mut write) = stream.into_split();
            let dripping = async {
                let _ = write.write_all(start.as_bytes()).await;
                while write.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(DRIP).await;
                }
            };
            let closed = async {
                let mut answer = [0; 512];
                while read.read(&mut answer).await.is_ok_and(|read| read > 0) {}
            };
            tokio::select! { () = dripping => {}, () = closed => {} }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[tokio::test]
async fn fm39_slow_heads_and_bodies_take_the_place_of_nobody() {
    // More attackers than places: an honest buyer on a fresh connection is served all the same.
    let field = Field::new(Settings::new().set("listen.connections_max", 600), by_header()).await;
    let address = field.address();
    let attack = move |done: Done| {
        let address = address.clone();
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            for _ in 0..700 {
                ticks.tick().await;
                tokio::task::spawn_local(drip(
                    address.clone(),
                    "GET /v1/sales/honest HTTP/1.1\r\nx: ",
                    done.clone(),
                ));
            }
            let body = "POST /v1/sales/honest/orders HTTP/1.1\r\nhost: t\r\nx-user-id: eve\r\ncontent-length: 900\r\n\r\n";
            for _ in 0..100 {
                tokio::task::spawn_local(drip(address.clone(), body, done.clone()));
            }
            for_ever().await;
        }
    };
    field.withstands("slow heads and bodies", TIME, 800, attack).await;
}

#[tokio::test]
async fn fm39_ten_thousand_idle_connections_weigh_little() {
    const IDLE: usize = 10_000;
    /// They come within two seconds.
    const PER_MS: usize = 5;
    let field = Field::new(Settings::new(), by_header()).await;
    let address = field.address();
    let attack = move |done: Done| {
        let address = address.clone();
        async move {
            let mut idle = Vec::with_capacity(IDLE);
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            while idle.len() < IDLE {
                ticks.tick().await;
                for _ in 0..PER_MS {
                    let Some(mut stream) = connect(&address).await else { continue };
                    // Every third has asked something before, every hundredth speaks HTTP/2.
                    match idle.len() % 100 {
                        99 => _ = stream.write_all(&frames::greeting()).await,
                        rest if rest % 3 == 0 => {
                            let asked =
                                ask(&mut stream, b"GET /v1/sales/honest HTTP/1.1\r\nhost: t\r\n\r\n").await;
                            assert_eq!(asked, Some(200));
                        }
                        _ => {}
                    }
                    idle.push(stream);
                    done.one();
                }
            }
            for_ever().await;
        }
    };
    field.withstands("10,000 idle connections", Duration::from_secs(3), IDLE as u64, attack).await;
}

#[tokio::test]
async fn fm39_idle_http2_connections_are_bounded() {
    const IDLE: usize = 2_000;
    let field = Field::new(Settings::new(), by_header()).await;
    let address = field.address();
    let attack = move |done: Done| {
        let address = address.clone();
        async move {
            let mut idle = Vec::with_capacity(IDLE);
            let mut ticks = tokio::time::interval(Duration::from_micros(2_500));
            while idle.len() < IDLE {
                ticks.tick().await;
                let Some(mut stream) = connect(&address).await else { continue };
                let _ = stream.write_all(&frames::greeting()).await;
                let _ = stream.write_all(&frames::look(1)).await;
                idle.push(stream);
                done.one();
            }
            for_ever().await;
        }
    };
    field.withstands("2,000 idle HTTP/2 connections", Duration::from_secs(3), IDLE as u64, attack).await;
}
