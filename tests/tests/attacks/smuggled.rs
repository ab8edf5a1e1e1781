//! Those who hide a second request, or another path, in what they send through the proxy.

use crate::field::{Done, Field, TIME};
use crate::honest::by_header;
use crate::raw::{ask, connect};
use crate::siege::at_rate;
use std::sync::Arc;
use tidegate_tests::{Settings, Upstream};

/// Nobody says who asks for that: it gets to the service only unjudged.
const HIDDEN: &str = "GET /shop/hidden HTTP/1.1\r\nhost: t\r\n\r\n";

fn shots() -> Vec<String> {
    let eve = "host: t\r\nx-user-id: eve\r\n";
    let framings = [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 0\r\ncontent-length: 44\r\n",
        "content-length: 44\r\ncontent-length: 0\r\n",
        "content-length: +0\r\n",
        "content-length: 0, 44\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "transfer-encoding : chunked\r\ncontent-length: 5\r\n",
        "x: y\n transfer-encoding: chunked\r\n",
        "connection: content-length\r\ncontent-length: 0\r\n",
    ];
    let bodies = framings
        .iter()
        .map(|framing| format!("POST /shop/front HTTP/1.1\r\n{eve}{framing}\r\n0\r\n\r\n{HIDDEN}"));
    let paths = [
        "/shop/../v1/hidden",
        "/shop/%2e%2e/hidden",
        "/shop/..%2fhidden",
        "/shop/%252e%252e/hidden",
        "/shop//hidden",
        "/shop/a/./hidden",
        "/shop/..;/hidden",
        "/shop/\\..\\hidden",
        "/shop/%5c..%5chidden",
        "/shop/%00hidden",
        "/shop/a%0d%0ahidden",
    ];
    let paths = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\n{eve}\r\n"));
    let buyers = ["x_user_id: hidden", "x-user-id : hidden", "X-User-Id: hidden\r\nconnection: x-user-id"];
    let buyers = buyers.iter().map(|buyer| format!("GET /shop/front HTTP/1.1\r\n{eve}{buyer}\r\n\r\n"));
    bodies.chain(paths).chain(buyers).collect()
}

#[tokio::test]
async fn nothing_is_smuggled_through_the_proxy() {
    let upstream = Upstream::ok().await;
    let route = format!("[{{ name = \"shop\", path = \"/shop/\", upstream = [\"{}\"] }}]", upstream.url());
    let field = Field::new(Settings::new().value("proxy", route), by_header()).await;
    let (address, shots) = (field.address(), Arc::new(shots()));
    let attack = move |done: Done| {
        let (address, shots) = (address.clone(), shots.clone());
        at_rate(100, 50, move |n| {
            let (address, shots, done) = (address.clone(), shots.clone(), done.clone());
            async move {
                let Some(mut stream) = connect(&address).await else { return };
                ask(&mut stream, shots[n as usize % shots.len()].as_bytes()).await;
                done.one();
            }
        })
    };
    field.withstands("smuggling through the proxy", TIME, 100, attack).await;
    let seen = upstream.seen();
    assert!(!seen.is_empty(), "no request reached the service: the attack proves nothing");
    for request in seen {
        let line = request.request_line();
        assert!(line.ends_with(" /shop/front HTTP/1.1"), "{line}");
        assert_eq!(request.header("x-user-id"), ["eve"], "{line}");
        assert!(request.header("x_user_id").is_empty(), "{line}");
        assert!(!String::from_utf8_lossy(&request.body).contains("hidden"), "{line}");
    }
}
