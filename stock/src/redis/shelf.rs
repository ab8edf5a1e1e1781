//! Bytes with an end, next to the sales: for what gateways share and may lose at any moment, such as answers of a cache.
//!
//! The server never evicts (a ledger is on it), so whoever puts something here bounds how much that can be.

use super::keys::SCHEMA;
use super::link::{CallError, Link};
use super::options::RedisOptions;
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::Duration;

/// One thread's way to the shelf, over connections of its own: large values hold up no reservation.
#[derive(Clone)]
pub struct Shelf {
    link: Link,
    prefix: String,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Connects when it is first used. `what` stands in every key, behind the prefix and the number of the schema.
    pub fn new(options: &Arc<RedisOptions>, what: &str) -> Self {
        let prefix = format!("{}{SCHEMA}:{what}:", options.prefix);
        Self { link: Link::new(options.clone()), prefix }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What stands there, and how long it still will. Bounded by `call_timeout`. Cancel safe.
    pub async fn get(&self, name: &str) -> Result<Option<(Vec<u8>, Duration)>, CallError> {
        let key = self.key(name);
        let mut command = Cmd::new();
        command.arg("GET").arg(&key);
        let Value::BulkString(bytes) = self.link.command(&key, None, &command).await? else {
            return Ok(None);
        };
        let mut command = Cmd::new();
        command.arg("PTTL").arg(&key);
        Ok(match self.link.command(&key, None, &command).await? {
            Value::Int(left_ms) if left_ms > 0 => Some((bytes, Duration::from_millis(left_ms as u64))),
            // It has just ended.
            _ => None,
        })
    }

    /// Puts it there for so long, whatever stands there. Bounded by `call_timeout`. Cancelled: it may have been done.
    pub async fn put(&self, name: &str, bytes: &[u8], for_so_long: Duration) -> Result<(), CallError> {
        let key = self.key(name);
        let mut command = Cmd::new();
        let ms = for_so_long.as_millis().max(1) as u64;
        command.arg("SET").arg(&key).arg(bytes).arg("PX").arg(ms);
        self.link.command(&key, None, &command).await.map(|_| ())
    }

    /// Takes the name for so long, when nobody has it: whether this call did. Bounds as of [`Shelf::put`].
    pub async fn claim(&self, name: &str, for_so_long: Duration) -> Result<bool, CallError> {
        let key = self.key(name);
        let mut command = Cmd::new();
        let ms = for_so_long.as_millis().max(1) as u64;
        command.arg("SET").arg(&key).arg("1").arg("PX").arg(ms).arg("NX");
        Ok(!matches!(self.link.command(&key, None, &command).await?, Value::Nil))
    }

    /// Takes it away. Bounds as of [`Shelf::put`].
    pub async fn remove(&self, name: &str) -> Result<(), CallError> {
        let key = self.key(name);
        let mut command = Cmd::new();
        command.arg("DEL").arg(&key);
        self.link.command(&key, None, &command).await.map(|_| ())
    }
}
