//! Who else is there: what RocketMQ's `NameServer` does, in one hash.

use super::{OpError, Ops};
use crate::redis::Process;
use crate::redis::link::Script;
use crate::redis::reply::Reply;
use std::sync::LazyLock;
use std::time::Duration;

static PROPOSE: LazyLock<Script> =
    LazyLock::new(|| Script::new("propose", include_str!("../../../../lua/stock/propose.lua")));

static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new("heartbeat", include_str!("../../../../lua/stock/heartbeat.lua")));

static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("forget", include_str!("../../../../lua/stock/forget.lua")));

/// Random bits of a process' number: two that are started in one millisecond have different ones.
const RANDOM_BITS: u64 = 1_023;

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
    /// Its newest process.
    pub newest: Newest,
    /// Newest number of a process before, known to others, that its log has been found to hold. `None`: others know that
    /// newest process, and nobody has told yet that its log holds what that one wrote.
    pub confirmed: Option<u64>,
}

/// The newest process of a gateway, as Redis knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Newest {
    /// Its number; 0: none is known.
    pub process: u64,
    /// How far its log was on disk.
    pub log_end: u64,
}

/// A number for a process that was just started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// The number, above all that were before. Nobody else knows it yet.
    pub number: u64,
    /// Who has the id now.
    pub newest: Newest,
    /// Redis's clock, in ms.
    pub now_ms: u64,
}

/// What a gateway tells with a heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// The process, with its number.
    pub process: &'a Process,
    /// How far its log is on disk.
    pub log_end: u64,
    /// What it tells of itself (JSON).
    pub tells: &'a str,
    /// Newcomers whose join is in its durable log.
    pub recorded: &'a [String],
    /// Processes of others that it knows, which a Redis that lost its data would not.
    pub processes: &'a [(String, Newest)],
    /// Gateways that its log knows to be forgotten, and since when; as above.
    pub forgotten: &'a [(String, u64)],
}

/// What came of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It counts.
    Fleet(Fleet),
    /// Nothing was done: somebody else has the id, or this one's log was further already; see [`Process::heed`].
    Other(Newest),
}

/// What a heartbeat hears.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
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
    /// A number for the process that was just started, and who has the id now. Nothing is written. `above`: the newest
    /// number that its log holds; of `random` the lowest bits count.
    pub async fn propose(&self, above: u64, random: u64) -> Result<Proposal, OpError> {
        let (above, random) = (above.to_string(), (random & RANDOM_BITS).to_string());
        let args = [self.gateway.as_bytes(), above.as_bytes(), random.as_bytes()];
        let value = self.run(&PROPOSE, None, &[&self.fleet.heartbeat[4]], &args).await?;
        let mut list = Reply::new("propose", &value).list()?;
        let number = list.next()?.count()?;
        let newest = Newest { process: list.next()?.count()?, log_end: list.next()?.count()? };
        Ok(Proposal { number, newest, now_ms: list.next()?.count()? })
    }

    /// Says that this gateway is there. Its log must hold the process' number, on disk.
    pub async fn heartbeat(&self, beat: &Beat<'_>) -> Result<Heard, OpError> {
        let Beat { process, log_end, tells, recorded, processes, forgotten } = *beat;
        let dead_after = self.options.dead_after.as_millis() as u64;
        let unlisted_after = UNLISTED_AFTER.as_millis() as u64;
        let head = [process.number(), process.base(), process.confirmed(), log_end].map(|n| n.to_string());
        let bounds = [dead_after, unlisted_after, recorded.len() as u64].map(|n| n.to_string());
        let known = processes.len().to_string();
        let processes: Vec<_> = processes
            .iter()
            .map(|(gateway, newest)| (gateway, newest.process.to_string(), newest.log_end.to_string()))
            .collect();
        let forgotten: Vec<_> =
            forgotten.iter().map(|(gateway, since)| (gateway, since.to_string())).collect();
        let mut args: Vec<&[u8]> = vec![self.gateway.as_bytes()];
        args.extend(head.iter().map(String::as_bytes));
        args.push(tells.as_bytes());
        args.extend(bounds.iter().map(String::as_bytes));
        args.extend(recorded.iter().map(String::as_bytes));
        args.push(known.as_bytes());
        for (gateway, number, log_end) in &processes {
            args.extend([gateway.as_bytes(), number.as_bytes(), log_end.as_bytes()]);
        }
        for (gateway, since) in &forgotten {
            args.extend([gateway.as_bytes(), since.as_bytes()]);
        }
        let keys: Vec<&str> = self.fleet.heartbeat.iter().map(String::as_str).collect();
        let value = self.run(&HEARTBEAT, None, &keys, &args).await?;
        let mut list = Reply::new("heartbeat", &value).list()?;
        let member = list.next()?.int()?;
        if member < 0 {
            return Ok(Heard::Other(Newest {
                process: list.next()?.count()?,
                log_end: list.next()?.count()?,
            }));
        }
        let member = member == 1;
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
            let newest = Newest { process: entries.next()?.count()?, log_end: entries.next()?.count()? };
            seen.push(Seen {
                gateway,
                tells,
                age,
                newest,
                confirmed: u64::try_from(entries.next()?.int()?).ok(),
            });
        }
        let mut entries = list.next()?.list()?;
        let mut forgotten = Vec::new();
        while !entries.is_over() {
            let (gateway, since) = (entries.next()?.text()?.to_owned(), entries.next()?);
            let since = since.text()?.parse().map_err(|_| since.bad("a time"))?;
            forgotten.push((gateway, since));
        }
        let now_ms = list.next()?.count()?;
        Ok(Heard::Fleet(Fleet { member, members, newcomers, seen, forgotten, now_ms }))
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
