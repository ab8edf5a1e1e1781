//! Who else is there: what RocketMQ's `NameServer` does, in one hash.

use super::{OpError, Ops};
use crate::redis::link::Script;
use crate::redis::reply::Reply;
use std::sync::LazyLock;
use std::time::Duration;

static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new("heartbeat", include_str!("../../../../lua/stock/heartbeat.lua")));

/// A gateway without a heartbeat for so long is no longer listed; its membership stays.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

/// A gateway that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Id.
    pub gateway: String,
    /// What it tells of itself (JSON).
    pub tells: String,
    /// Since its last heartbeat, by Redis's clock.
    pub age: Duration,
}

/// What a heartbeat hears.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// A process with this gateway's id was started later, and goes on in its place: nothing else is told.
    pub replaced: bool,
    /// Number of this process, for its next heartbeat.
    pub process: u64,
    /// Whether this gateway may sell.
    pub member: bool,
    /// Every gateway that may ever have sold.
    pub members: Vec<String>,
    /// Gateways that wait for this one to record their join in its log.
    pub newcomers: Vec<String>,
    /// Those seen within a day.
    pub seen: Vec<Seen>,
}

impl Ops {
    /// Says that this gateway is there. `process`: as the heartbeat before told it, 0 with the first one since the process
    /// was started. `recorded`: newcomers whose join is in its durable log.
    pub async fn heartbeat(&self, process: u64, tells: &str, recorded: &[String]) -> Result<Fleet, OpError> {
        let process = process.to_string();
        let dead_after = self.options.dead_after.as_millis().to_string();
        let forgotten_after = FORGOTTEN_AFTER.as_millis().to_string();
        let mut args: Vec<&[u8]> = vec![
            self.gateway.as_bytes(),
            process.as_bytes(),
            tells.as_bytes(),
            dead_after.as_bytes(),
            forgotten_after.as_bytes(),
        ];
        args.extend(recorded.iter().map(String::as_bytes));
        let keys: Vec<&str> = self.fleet.heartbeat.iter().map(String::as_str).collect();
        let value = self.run(&HEARTBEAT, None, &keys, &args).await?;
        let mut list = Reply::new("heartbeat", &value).list()?;
        let process = list.next()?.count()?;
        if process == 0 {
            return Ok(Fleet { replaced: true, ..Fleet::default() });
        }
        let member = list.next()?.int()? == 1;
        let texts = |reply: Reply<'_>| -> Result<Vec<String>, OpError> {
            let mut texts = Vec::new();
            for text in reply.list()?.rest() {
                texts.push(text.text()?.to_owned());
            }
            Ok(texts)
        };
        let (members, newcomers) = (texts(list.next()?)?, texts(list.next()?)?);
        let mut entries = list.next()?.list()?;
        let mut seen = Vec::new();
        while !entries.is_over() {
            let (gateway, tells) = (entries.next()?.text()?.to_owned(), entries.next()?.text()?.to_owned());
            let age = Duration::from_millis(entries.next()?.count()?);
            seen.push(Seen { gateway, tells, age });
        }
        Ok(Fleet { replaced: false, process, member, members, newcomers, seen })
    }
}
