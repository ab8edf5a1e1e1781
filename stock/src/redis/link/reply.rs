//! Reading single replies from a stream, and errors as text.

use super::stream::Stream;
use redis::{Cmd, ErrorKind, RedisError, ServerError, Value, parse_redis_value_async};
use std::collections::VecDeque;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// So many replies. Only where no more than those are on their way: what was read too much would be lost.
/// Cancelled: the stream must be dropped.
pub(super) async fn read_replies(stream: &mut Stream, count: usize) -> Result<VecDeque<Value>, String> {
    #[expect(clippy::default_trait_access, reason = "the type's crate is no dependency of this one")]
    let mut decoder = Default::default();
    let mut replies = VecDeque::with_capacity(count);
    for _ in 0..count {
        let reply = parse_redis_value_async(&mut decoder, stream).await;
        replies.push_back(reply.map_err(|error| unread(&error))?);
    }
    Ok(replies)
}

/// Why there is no reply, on one line.
fn unread(error: &RedisError) -> String {
    if error.kind() == ErrorKind::Parse {
        // What came is of no use to anybody: it is another service's, or bytes of TLS.
        return "what answers there does not speak the protocol of Redis; check host and port, and whether they are for \
                TLS (rediss://)"
            .to_owned();
    }
    format!("connection lost before the reply: {error}")
}

/// Sends all of it, through TLS too.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Sends one command and takes its reply.
pub(super) async fn ask(stream: &mut Stream, command: &Cmd) -> Result<Value, String> {
    let out = command.get_packed_command();
    send(stream, &out).await.map_err(|e| format!("connection lost: {e}"))?;
    Ok(read_replies(stream, 1).await?.pop_front().unwrap_or(Value::Nil))
}

/// Code and details, as Redis sent them.
pub(super) fn error_text(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

/// The reply as text.
pub(super) fn text_of(reply: &Value) -> Result<&str, String> {
    match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text),
        Value::ServerError(error) => Err(error_text(error)),
        other => Err(format!("unexpected reply {other:?}")),
    }
}
