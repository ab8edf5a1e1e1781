//! HTTP/2 by hand, as no well-behaved client speaks it.

use crate::field::{Done, Field, TIME};
use crate::honest::by_header;
use crate::raw::connect;
use crate::siege::for_ever;
use std::time::Duration;
use tidegate_tests::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What a client says first.
pub(crate) fn greeting() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A look at the sale on this stream.
pub(crate) fn look(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head())
}

/// `:method GET`, `:scheme http`, `:path`, `:authority`, in HPACK without its tables.
fn head() -> Vec<u8> {
    let mut head = vec![0x82, 0x86];
    for (name, value) in [(0x04, "/v1/sales/honest"), (0x01, "t")] {
        head.extend([name, value.len() as u8]);
        head.extend(value.as_bytes());
    }
    head
}

/// Opens connections one after the other and sends what `burst` gives for the next stream ids every 100 ms, until the gateway
/// closes.
async fn flood(address: String, done: Done, burst: fn(&mut u32) -> Vec<u8>) {
    loop {
        let Some(stream) = connect(&address).await else { return };
        let (mut read, mut write) = stream.into_split();
        let flooding = async {
            let mut next = 1;
            let _ = write.write_all(&greeting()).await;
            while write.write_all(&burst(&mut next)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let ended = async {
            let mut bytes = [0; 4096];
            while read.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        };
        tokio::select! { () = flooding => {}, () = ended => {} }
        done.one();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn withstands_flood(name: &str, connections: usize, burst: fn(&mut u32) -> Vec<u8>) {
    let field = Field::new(Settings::new(), by_header()).await;
    let address = field.address();
    let attack = move |done: Done| {
        let address = address.clone();
        async move {
            for _ in 0..connections {
                tokio::task::spawn_local(flood(address.clone(), done.clone(), burst));
            }
            for_ever().await;
        }
    };
    // The gateway closes those connections.
    field.withstands(name, TIME, connections as u64, attack).await;
}

#[tokio::test]
async fn fm39_http2_rapid_reset_ends_the_connection() {
    withstands_flood("HTTP/2 rapid reset", 4, |next| {
        let mut burst = Vec::new();
        for _ in 0..100 {
            burst.extend(look(*next));
            burst.extend(frame(RST_STREAM, 0, *next, &8_u32.to_be_bytes()));
            *next += 2;
        }
        burst
    })
    .await;
}

#[tokio::test]
async fn fm39_http2_heads_without_end_end_the_connection() {
    withstands_flood("HTTP/2 heads without end", 4, |next| {
        let mut burst = Vec::new();
        if *next == 1 {
            burst.extend(frame(HEADERS, END_STREAM, 1, &head()));
            *next = 3;
        }
        // A field of its own in each: `x: yyy…`.
        let mut field = vec![0x00, 1, b'x', 100];
        field.extend([b'y'; 100]);
        for _ in 0..20 {
            burst.extend(frame(CONTINUATION, 0, 1, &field));
        }
        burst
    })
    .await;
}
