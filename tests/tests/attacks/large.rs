//! Heads and bodies that are too large.

use crate::field::{Done, Field, TIME};
use crate::honest::by_header;
use crate::raw::{ask, connect};
use crate::siege::at_rate;
use std::sync::Arc;
use tidegate_tests::Settings;

#[tokio::test]
async fn fm39_oversized_heads_and_bodies_are_refused() {
    let field = Field::new(Settings::new(), by_header()).await;
    let address = field.address();
    let start = "POST /v1/sales/honest/orders HTTP/1.1\r\nhost: t\r\nx-user-id: eve\r\n";
    let head = format!("{start}x: {}\r\n\r\n", "y".repeat(256 << 10));
    let body = format!("{start}content-length: 1000000\r\n\r\n{}", "y".repeat(256 << 10));
    let chunked = format!("{start}transfer-encoding: chunked\r\n\r\n40000\r\n{}\r\n", "y".repeat(256 << 10));
    let shots = Arc::new([(head, 431), (body, 413), (chunked, 413)]);
    let attack = move |done: Done| {
        let (address, shots) = (address.clone(), shots.clone());
        at_rate(90, 60, move |n| {
            let (address, shots, done) = (address.clone(), shots.clone(), done.clone());
            async move {
                let (bytes, expected) = &shots[n as usize % shots.len()];
                let Some(mut stream) = connect(&address).await else { return };
                // Or it is closed while this still writes.
                if let Some(status) = ask(&mut stream, bytes.as_bytes()).await {
                    assert_eq!(status, *expected);
                }
                done.one();
            }
        })
    };
    field.withstands("oversized heads and bodies", TIME, 60, attack).await;
}
