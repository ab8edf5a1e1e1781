//! Shared by the tests of the connection layer.
#![allow(dead_code, reason = "each test file uses its part")]

use redis::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::RedisOptions;
use tidegate_stock::redis::link::{CallError, Lineage, Link, Script};
use tidegate_stock::testing::redis::Seen;

/// Counts up: running twice shows.
pub(crate) static COUNT: Script = Script::new("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])");
/// The key that it counts in.
pub(crate) const KEY: &str = "tidegate:{a}:n";

/// For tests in which no time is looked at: a busy machine makes no outcome unknown.
pub(crate) fn patient(options: RedisOptions) -> RedisOptions {
    RedisOptions { call_timeout: Duration::from_secs(2), ..options }
}

pub(crate) fn link(options: RedisOptions) -> Link {
    Link::new(Arc::new(options))
}

pub(crate) async fn count(link: &Link, expected: Option<&Lineage>) -> Result<Value, CallError> {
    link.script(&COUNT, expected, &[KEY], &[b"1"]).await
}

pub(crate) async fn count_replicated(link: &Link) -> Result<Value, CallError> {
    link.script_replicated(&COUNT, None, &[KEY], &[b"1"]).await
}

pub(crate) fn unavailable<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Unavailable(text)) => text,
        other => panic!("not Unavailable: {other:?}"),
    }
}

/// Repeats a call until it has a reply; panics after 15 s, and on anything that `may` not come meanwhile.
pub(crate) async fn until_reply(link: &Link, may: impl Fn(&CallError) -> bool) -> Value {
    let started = Instant::now();
    loop {
        match count(link, None).await {
            Ok(value) => return value,
            Err(error) if may(&error) && started.elapsed() < Duration::from_secs(15) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Whether the connection's first words were the check, and what came after it.
pub(crate) fn after_check(seen: &Seen) -> Vec<String> {
    let words: Vec<String> = seen.commands.iter().map(|command| command.join(" ")).collect();
    let login = words.iter().take_while(|w| w.starts_with("AUTH") || w.starts_with("SELECT")).count();
    let check = ["INFO server", "INFO replication", "INFO memory"];
    let rest = &words[login..];
    if rest.is_empty() {
        return Vec::new();
    }
    assert_eq!(rest[..3], check, "the check comes first: {words:?}");
    rest[3..].to_vec()
}

/// A web server that likes nothing: its port on 127.0.0.1.
pub(crate) async fn web_server() -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    port
}
