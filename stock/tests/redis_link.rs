//! The connection layer on one real server: handshake, scripts, unknown outcomes, the circuit breaker, lineages.

use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::RedisOptions;
use tidegate_stock::redis::link::{CallError, Link, Script};
use tidegate_stock::testing::redis::{RedisServer, Setup};

static COUNT: Script = Script::new("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])");

fn link(options: RedisOptions) -> Link {
    Link::new(Arc::new(options))
}

async fn count(link: &Link, by: &str) -> Result<Value, CallError> {
    link.script(&COUNT, None, &["tidegate:{a}:n"], &[by.as_bytes()]).await
}

fn refusal(result: Result<Value, CallError>) -> String {
    match result {
        Err(CallError::Unavailable(text)) => text,
        other => panic!("not Unavailable: {other:?}"),
    }
}

#[tokio::test]
async fn a_script_is_loaded_and_loaded_again_after_a_flush() {
    let server = RedisServer::start();
    let link = link(server.options());
    assert_eq!(count(&link, "2").await, Ok(Value::Int(2)));
    assert_eq!(count(&link, "2").await, Ok(Value::Int(4)));
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(count(&link, "3").await, Ok(Value::Int(7)), "ran once");
}

#[tokio::test]
async fn commands_and_errors_of_redis() {
    let server = RedisServer::start();
    let link = link(server.options());
    let mut set = Cmd::new();
    set.arg("SET").arg("tidegate:k").arg("v");
    assert_eq!(link.command("tidegate:k", None, &set).await, Ok(Value::Okay));
    let refused = link.script(&COUNT, None, &["tidegate:k"], &[b"1"]).await;
    assert!(
        matches!(&refused, Err(CallError::Refused(text)) if text.contains("not an integer")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_handshake_refuses_a_redis_that_may_evict() {
    let evicting = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"];
    let server = Setup::default().with(&evicting).start();
    let text = refusal(count(&link(server.options()), "1").await);
    assert!(text.contains("set maxmemory-policy noeviction") && text.contains("lost stock"), "{text}");
    let allowed = RedisOptions { allow_eviction: true, ..server.options() };
    assert_eq!(count(&link(allowed), "1").await, Ok(Value::Int(1)));
}

#[tokio::test]
async fn nothing_listens_is_told_at_once() {
    let mut server = RedisServer::start();
    let options = server.options();
    server.kill();
    let link = link(options);
    let started = Instant::now();
    let text = refusal(count(&link, "1").await);
    assert!(text.contains("refused"), "{text}");
    assert!(started.elapsed() < Duration::from_millis(300));
}
