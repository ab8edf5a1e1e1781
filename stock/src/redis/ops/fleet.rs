//! Who else is there: what RocketMQ's `NameServer` does, in one hash.

use super::{OpError, Ops};
use crate::redis::link::Script;
use crate::redis::reply::Reply;
use std::sync::LazyLock;
use std::time::Duration;

static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new("heartbeat", include_str!("../../../../lua/stock/heartbeat.lua")));

static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("forget", include_str!("../../../../lua/stock/forget.lua")));

/// A gateway without a heartbeat for so long is no longer listed; its membership stays.
const UNLISTED_AFTER: Duration = Duration::from_hours(24);

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
    /// Gateways whose logs an operator gave up, and when, by Redis's clock in ms.
    pub forgotten: Vec<(String, u64)>,
    /// Redis's clock, in ms.
    pub now_ms: u64,
}

/// What became of the wish to forget a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgot {
    /// No recovery waits for it any more, since then by Redis's clock in ms.
    Since(u64),
    /// It has a heartbeat: nothing was done.
    Alive,
    /// Nobody knows it: nothing was done.
    Unknown,
}

impl Ops {
    /// Says that this gateway is there. `process`: as the heartbeat before told it, 0 with the first one since the process
    /// was started. `recorded`: newcomers whose join is in its durable log. `forgotten`: gateways that its log knows to be
    /// forgotten, which a Redis that lost its data would not.
    pub async fn heartbeat(
        &self,
        process: u64,
        tells: &str,
        recorded: &[String],
        forgotten: &[(String, u64)],
    ) -> Result<Fleet, OpError> {
        let process = process.to_string();
        let dead_after = self.options.dead_after.as_millis().to_string();
        let unlisted_after = UNLISTED_AFTER.as_millis().to_string();
        let count = recorded.len().to_string();
        let since: Vec<String> = forgotten.iter().map(|(_, since)| since.to_string()).collect();
        let mut args: Vec<&[u8]> = vec![
            self.gateway.as_bytes(),
            process.as_bytes(),
            tells.as_bytes(),
            dead_after.as_bytes(),
            unlisted_after.as_bytes(),
            count.as_bytes(),
        ];
        args.extend(recorded.iter().map(String::as_bytes));
        for ((gateway, _), since) in forgotten.iter().zip(&since) {
            args.extend([gateway.as_bytes(), since.as_bytes()]);
        }
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
        let mut entries = list.next()?.list()?;
        let mut forgotten = Vec::new();
        while !entries.is_over() {
            let (gateway, since) = (entries.next()?.text()?.to_owned(), entries.next()?);
            let since = since.text()?.parse().map_err(|_| since.bad("a time"))?;
            forgotten.push((gateway, since));
        }
        let now_ms = list.next()?.count()?;
        Ok(Fleet { replaced: false, process, member, members, newcomers, seen, forgotten, now_ms })
    }

    /// Gives up the log of a gateway that is gone for good. `known`: a log tells of it, if Redis does not.
    pub async fn forget(&self, gateway: &str, known: bool) -> Result<Forgot, OpError> {
        let dead_after = self.options.dead_after.as_millis().to_string();
        let known: &[u8] = if known { b"1" } else { b"0" };
        let keys: Vec<&str> = self.fleet.heartbeat.iter().map(String::as_str).collect();
        let value =
            self.run(&FORGET, None, &keys, &[gateway.as_bytes(), dead_after.as_bytes(), known]).await?;
        let answer = Reply::new("forget", &value).list()?.next()?;
        Ok(match answer.text() {
            Ok("alive") => Forgot::Alive,
            Ok("unknown") => Forgot::Unknown,
            _ => Forgot::Since(answer.count()?),
        })
    }
}
