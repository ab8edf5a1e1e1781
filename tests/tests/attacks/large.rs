//! Heads and bodies that are too large.

use crate::field::Field;
use crate::honest::by_header;
use crate::raw::{ask, connect};
use crate::siege::at_rate;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate_tests::Settings;

#[tokio::test]
async fn fm39_oversized_heads_and_bodies_are_refused() {
    let field = Field::new(Settings::new(), by_header()).await;
    let address = field.address();
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = refused.clone();
    let start = "POST /v1/sales/honest/orders HTTP/1.1\r\nhost: t\r\nx-user-id: eve\r\n";
    let head = format!("{start}x: {}\r\n\r\n", "y".repeat(256 << 10));
    let body = format!("{start}content-length: 1000000\r\n\r\n{}", "y".repeat(256 << 10));
    let chunked = format!("{start}transfer-encoding: chunked\r\n\r\n40000\r\n{}\r\n", "y".repeat(256 << 10));
    let shots = Arc::new([(head, 431), (body, 413), (chunked, 413)]);
    let attack = move || {
        let (address, shots, counted) = (address.clone(), shots.clone(), counted.clone());
        at_rate(90, 60, move |n| {
            let (address, shots, counted) = (address.clone(), shots.clone(), counted.clone());
            async move {
                let (bytes, expected) = &shots[n as usize % shots.len()];
                let Some(mut stream) = connect(&address).await else { return };
                match ask(&mut stream, bytes.as_bytes()).await {
                    Some(status) => assert_eq!(status, *expected),
                    // Closed while this still wrote.
                    None => {}
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    field.withstands("oversized heads and bodies", Duration::from_secs(2), attack).await;
    assert!(refused.load(Ordering::SeqCst) > 100, "the attackers did not come to shoot");
}
