//! Clients that mean ill, or know no better, cost the gateway little and its log nothing.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Duration;
use tidegate_tests::{Sale, Server, Settings, eventually, raw_exchange, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm26_refusals_write_no_log_line() {
    let server = Server::start().await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(1)).await;
    shop.win("phone", "ann").await;
    let before = server.stderr().lines().count();
    for n in 0..300 {
        let buyer = format!("b{n}");
        shop.order("phone", &buyer, "k").await.expect_problem(410, "sold-out");
        shop.order("phone", "ann", "other").await;
        shop.order("nothing", &buyer, "k").await.expect_problem(404, "sale-not-found");
        shop.public.send("POST", "/v1/sales/phone/orders", &[], b"").await;
        shop.public.send("POST", "/v1/sales/phone/orders", &[("x-user-id", "ann")], b"{{{").await;
        shop.public.get("/nothing", &[]).await.expect_problem(404, "not-found");
        if n % 30 == 0 {
            raw_exchange(shop.public.authority(), b"nonsense\r\n\r\n").await;
        }
    }
    let log = server.stderr();
    let lines: Vec<&str> = log.lines().skip(before).collect();
    assert!(lines.is_empty(), "{} lines, such as {}", lines.len(), lines[0]);
}

#[tokio::test]
async fn fm39_a_slow_head_and_an_idle_connection_are_closed() {
    let settings = Settings::new().set("listen.header_timeout_ms", 500).set("listen.idle_timeout_ms", 1_000);
    let server = Server::start_with(settings).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let connect = async || TcpStream::connect(shop.public.authority()).await.unwrap();
    let closed = async |mut stream: TcpStream| {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    // Slowloris: a head that goes on and on, a byte at a time.
    let slow = async {
        let (mut read, mut write) = connect().await.into_split();
        let drip = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            write.write_all(b"POST /v1/sales/phone/orders HTTP/1.1\r\nx: ").await.unwrap();
            while write.write_all(b"x").await.is_ok() {
                ticks.tick().await;
            }
        };
        let end = async {
            let mut answer = Vec::new();
            let _ = read.read_to_end(&mut answer).await;
        };
        tokio::select! { () = drip => {}, () = end => {} }
    };
    within("the slow head is closed", slow).await;
    within("the idle connection is closed", closed(connect().await)).await;
    let mut half = connect().await;
    half.write_all(b"GET / HT").await.unwrap();
    within("half a line is closed", closed(half)).await;
    // A slow buyer who waits for an answer is not idle.
    let ticket = shop.win("phone", "ann").await;
    let path = format!("/v1/tickets/{ticket}?wait=2");
    shop.public.get(&path, &[("x-user-id", "ann")]).await.expect(200);
}

#[tokio::test]
async fn fm39_an_oversized_head_is_refused() {
    let server = Server::start_with(Settings::new().set("listen.header_bytes_max", 8_192)).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let mut head = "POST /v1/sales/phone/orders HTTP/1.1\r\nhost: t\r\nx-user-id: ann\r\n".to_owned();
    for n in 0..60 {
        write!(head, "x-{n}: {}\r\n", "y".repeat(300)).unwrap();
    }
    head.push_str("content-length: 0\r\n\r\n");
    let answer = raw_exchange(shop.public.authority(), head.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(shop.audit("phone").await.number("held"), 0);
    shop.win("phone", "ann").await;
}

#[tokio::test]
async fn fm39_connections_above_the_bound_are_closed_and_come_back_when_there_is_room() {
    let server = Server::start_with(Settings::new().set("listen.connections_max", 20)).await;
    let shop = &server.shop;
    shop.open("phone", &Sale::of(5)).await;
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(TcpStream::connect(shop.public.authority()).await.unwrap());
    }
    // The ones above the bound are closed without an answer; those below stay.
    let closed = eventually("the excess is closed", || async {
        let closed = open.iter().filter(|stream| is_closed(stream)).count();
        (closed >= 40).then_some(closed)
    });
    let closed = closed.await;
    assert!((40..=60).contains(&closed), "{closed}");
    assert!(open.len() - closed >= 15, "connections below the bound are served: {closed} of 60 were closed");
    drop(open);
    eventually("there is room again", || async {
        let headers = [("x-user-id", "ann"), ("idempotency-key", "k")];
        let order = shop.public.try_send("POST", "/v1/sales/phone/orders", &headers, b"").await;
        order.is_ok_and(|reply| reply.status == 202).then_some(())
    })
    .await;
}

/// Whether the other side has closed this connection.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}
