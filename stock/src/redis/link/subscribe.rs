//! One channel, until dropped.

use super::backoff;
use super::connector::{Checked, Connector, Place};
use super::lineage::Lineage;
use super::reply::{error_text, send};
use super::slots::slot_of;
use crate::redis::options::{RedisOptions, Topology};
use redis::{Cmd, Value, parse_redis_value_async};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{BufReader, split};
use tokio::time::{sleep, timeout};

/// A subscribed connection on which nothing is heard is asked so often whether it lives.
const PING_EVERY: Duration = Duration::from_secs(1);

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PubSubEvent<'a> {
    /// Subscribed on a fresh, checked connection. Messages sent before may have been missed.
    Up(Lineage),
    /// A message, as published.
    Message(&'a [u8]),
    /// The connection is lost: messages are missed until the next `Up`.
    Down,
}

/// Hears one channel until it is dropped, and connects again with growing pauses, at most a second. Every fresh
/// connection is checked like any other. In a Cluster it goes to the owner of the channel's slot; PUBLISH on any node
/// reaches it.
///
/// `on_event` runs between two reads: what it does not take in time waits in the socket, and Redis ends a
/// connection whose waiting grows too large (`client-output-buffer-limit pubsub`), which is heard as `Down`.
/// Never returns. Cancel safe.
pub async fn subscribe(options: Arc<RedisOptions>, channel: &str, mut on_event: impl FnMut(PubSubEvent<'_>)) {
    let connector = Connector::new(options);
    let mut failures = 0;
    loop {
        let why = match open(&connector, channel).await {
            Ok(checked) => {
                let mut up = false;
                let why = listen(checked, &connector.options, channel, &mut |event| {
                    up |= matches!(event, PubSubEvent::Up(_));
                    on_event(event);
                })
                .await;
                if up {
                    on_event(PubSubEvent::Down);
                    failures = 0;
                }
                why
            }
            Err(why) => why,
        };
        failures += 1;
        if failures == 1 {
            tracing::warn!("channel {channel}: {why}");
        }
        sleep(backoff::pause(failures)).await;
    }
}

async fn open(connector: &Connector, channel: &str) -> Result<Checked, String> {
    let place = match &connector.options.topology {
        Topology::Single(address) => Place::Node(address.clone()),
        Topology::Sentinel { .. } => Place::SentinelMaster,
        Topology::Cluster(seeds) => {
            let map = connector.slots(seeds).await?;
            let owner = map.owner(slot_of(channel)).or(map.nodes().first());
            Place::Node(owner.ok_or("the Cluster has no node")?.clone())
        }
    };
    connector.open(&place).await
}

/// Until the connection is lost; answers why.
async fn listen(
    checked: Checked,
    options: &RedisOptions,
    channel: &str,
    on_event: &mut impl FnMut(PubSubEvent<'_>),
) -> String {
    let Checked { stream, lineage, address } = checked;
    let (read, mut write) = split(stream);
    let mut read = BufReader::new(read);
    let heard = Cell::new(true);
    let reading = async {
        #[expect(clippy::default_trait_access, reason = "the type's crate is no dependency of this one")]
        let mut decoder = Default::default();
        loop {
            let value = match parse_redis_value_async(&mut decoder, &mut read).await {
                Ok(value) => value,
                Err(error) => return format!("connection to Redis at {address} lost: {error}"),
            };
            heard.set(true);
            match hear(&value) {
                Heard::Subscribed => on_event(PubSubEvent::Up(lineage.clone())),
                Heard::Message(payload) => on_event(PubSubEvent::Message(payload)),
                Heard::Nothing => {}
                Heard::Refused(why) => return format!("Redis at {address} refused: {why}"),
            }
        }
    };
    let asking = async {
        let mut out = Vec::with_capacity(64);
        Cmd::new().arg("SUBSCRIBE").arg(channel).write_packed_command(&mut out);
        loop {
            heard.set(false);
            match timeout(options.connect_timeout, send(&mut write, &out)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return format!("connection to Redis at {address} lost: {error}"),
                Err(_) => return format!("Redis at {address} takes nothing"),
            }
            sleep(options.connect_timeout.max(PING_EVERY)).await;
            if !heard.get() {
                return format!("Redis at {address} says nothing on a subscribed connection");
            }
            out.clear();
            Cmd::new().arg("PING").write_packed_command(&mut out);
        }
    };
    tokio::select! {
        why = reading => why,
        why = asking => why,
    }
}

enum Heard<'a> {
    Subscribed,
    Message(&'a [u8]),
    Nothing,
    Refused(String),
}

fn hear(value: &Value) -> Heard<'_> {
    match value {
        Value::ServerError(error) => Heard::Refused(error_text(error)),
        Value::Array(parts) => match parts.as_slice() {
            [Value::BulkString(kind), _, Value::Int(_)] if kind == b"subscribe" => Heard::Subscribed,
            [Value::BulkString(kind), _, Value::BulkString(payload)] if kind == b"message" => {
                Heard::Message(payload)
            }
            _ => Heard::Nothing,
        },
        _ => Heard::Nothing,
    }
}
