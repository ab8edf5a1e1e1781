//! A single server, or a master with a replica and a sentinel; and what may happen to it.

use super::server::{BOUND, RedisError, Server};
use crate::scenario::{AppendOnly, Redis};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name under which the sentinel knows the master.
const MASTER: &str = "mymaster";
/// The sentinel takes a master that is silent for so long for dead.
const DOWN_AFTER_MS: u32 = 500;
/// Long: within it the sentinel also leaves a replica alone that was told to follow nobody.
const FAILOVER_TIMEOUT_MS: u32 = 60_000;
/// Where no master listens.
const NOWHERE: &str = "1";

/// How gateways reach it; keys of `[ledger.redis]`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Reach {
    Single { url: String },
    Sentinel { sentinels: Vec<String>, master: &'static str },
}

/// Running servers; dropped, they are killed.
pub(crate) struct Deployment {
    master: Server,
    failover: Option<Failover>,
    settings: Redis,
}

struct Failover {
    replica: Server,
    sentinel: Server,
}

impl Deployment {
    /// Starts everything; ready when this returns. Data lies below `root`, logs in `report_dir`.
    pub(crate) async fn start(settings: &Redis, root: &Path, report_dir: &Path) -> Result<Self, RedisError> {
        let store = |of: Option<u16>| {
            let appendonly = settings.appendonly;
            move |_port: u16, _dir: &Path| Ok(store_arguments(appendonly, of))
        };
        let mut master = Server::start("redis", root, report_dir, store(None)).await?;
        if !settings.sentinel {
            return Ok(Self { master, failover: None, settings: settings.clone() });
        }
        let port = master.port();
        let mut replica = Server::start("redis-replica", root, report_dir, store(Some(port))).await?;
        replica.until_info("replication", "master_link_status:up", "the first synchronisation").await?;
        master.until_info("replication", "state=online", "the replica").await?;
        let mut sentinel =
            Server::start("redis-sentinel", root, report_dir, |_, dir| sentinel_arguments(dir, port)).await?;
        sentinel.until_info("sentinel", "status=ok", "the watch").await?;
        sentinel.until_info("sentinel", "slaves=1", "the replica").await?;
        let failover = Some(Failover { replica, sentinel });
        Ok(Self { master, failover, settings: settings.clone() })
    }

    pub(crate) fn reach(&self) -> Reach {
        match &self.failover {
            None => Reach::Single { url: format!("redis://127.0.0.1:{}/0", self.master.port()) },
            Some(failover) => Reach::Sentinel {
                sentinels: vec![format!("127.0.0.1:{}", failover.sentinel.port())],
                master: MASTER,
            },
        }
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let appendonly = self.settings.appendonly.name();
        let kind = if self.failover.is_some() { "master, replica and sentinel" } else { "one server" };
        format!("{kind}, appendonly {appendonly}")
    }

    /// `kill -9`. With `lose`, the file of the last writes is cut back to what it held so long before: what a power
    /// loss takes. Returns how many bytes that were.
    pub(crate) async fn kill(&mut self, lose: Duration) -> Result<u64, RedisError> {
        let io = |source| RedisError::Io { name: "redis", what: "append-only file", source };
        if lose.is_zero() {
            self.master.kill().await?;
            return Ok(0);
        }
        let (file, kept) = newest_append_only(self.master.dir()).map_err(io)?;
        tokio::time::sleep(lose).await;
        self.master.kill().await?;
        let file = std::fs::OpenOptions::new().write(true).open(file).map_err(io)?;
        let full = file.metadata().map_err(io)?.len();
        file.set_len(kept).map_err(io)?;
        Ok(full - kept)
    }

    /// Starts again with what the folder holds; ready when this returns.
    pub(crate) async fn restart(&mut self) -> Result<(), RedisError> {
        self.master.restart().await
    }

    /// Starts again with nothing; ready when this returns.
    pub(crate) async fn restart_empty(&mut self) -> Result<(), RedisError> {
        let io = |source| RedisError::Io { name: "redis", what: "data folder", source };
        std::fs::remove_dir_all(self.master.dir()).map_err(io)?;
        std::fs::create_dir_all(self.master.dir()).map_err(io)?;
        self.master.restart().await
    }

    /// The replica is cut off, the master works on for `lose` and is killed for good. Returns how many bytes of
    /// replication the replica lacks.
    pub(crate) async fn lose_master(&mut self, lose: Duration) -> Result<u64, RedisError> {
        let Some(failover) = &self.failover else { return Ok(0) };
        let _: String = failover.replica.ask(&["REPLICAOF", "127.0.0.1", NOWHERE]).await?;
        let had = offset(&failover.replica, "slave_repl_offset:").await?;
        tokio::time::sleep(lose).await;
        let written = offset(&self.master, "master_repl_offset:").await?;
        self.master.kill().await?;
        Ok(written.saturating_sub(had))
    }

    /// Waits until the sentinel has made the replica the master.
    pub(crate) async fn until_promoted(&mut self) -> Result<(), RedisError> {
        let Some(failover) = &mut self.failover else { return Ok(()) };
        failover.replica.until_info("replication", "role:master", "the promotion").await?;
        let port = failover.replica.port().to_string();
        let ends = tokio::time::Instant::now() + BOUND;
        loop {
            let address: Vec<String> =
                failover.sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await?;
            if address.last() == Some(&port) || tokio::time::Instant::now() > ends {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn store_arguments(appendonly: AppendOnly, replica_of: Option<u16>) -> Vec<String> {
    let fsync = appendonly.name();
    let mut words = vec!["--save", "", "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"];
    if appendonly == AppendOnly::None {
        words.extend(["--appendonly", "no"]);
    } else {
        words.extend(["--appendonly", "yes", "--appendfsync", fsync]);
    }
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    if let Some(port) = replica_of {
        words.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), port.to_string()]);
    }
    words
}

/// A sentinel keeps what it learns in its configuration file, so it needs one.
fn sentinel_arguments(dir: &Path, master: u16) -> std::io::Result<Vec<String>> {
    let file = dir.join("sentinel.conf");
    std::fs::write(
        &file,
        format!(
            "sentinel monitor {MASTER} 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}\n"
        ),
    )?;
    Ok(vec![file.display().to_string(), "--sentinel".to_owned()])
}

async fn offset(server: &Server, field: &str) -> Result<u64, RedisError> {
    let info: String = server.ask(&["INFO", "replication"]).await?;
    Ok(info.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok()).unwrap_or_default())
}

/// The file that writes go to, and its length.
fn newest_append_only(dir: &Path) -> std::io::Result<(PathBuf, u64)> {
    let mut newest: Option<(PathBuf, u64)> = None;
    for entry in std::fs::read_dir(dir.join("appendonlydir"))? {
        let path = entry?.path();
        let is_writes = path.to_string_lossy().ends_with(".incr.aof");
        if is_writes && newest.as_ref().is_none_or(|(known, _)| path > *known) {
            let len = std::fs::metadata(&path)?.len();
            newest = Some((path, len));
        }
    }
    newest.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}
