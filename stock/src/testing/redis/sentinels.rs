//! Sentinels that watch a master.

use super::process::{free_port, start, until};
use super::server::{RedisServer, ask};
use crate::redis::options::{Address, RedisOptions, Topology};
use ::redis::Value;
use std::process::Child;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// Sentinels with the majority as quorum, which take a master for dead after 300 ms. Dropped: killed.
#[derive(Debug)]
pub struct Sentinels {
    running: Vec<(u16, Child, TempDir)>,
}

impl Sentinels {
    /// Name by which they know the master.
    pub const MASTER: &str = "tidegate";

    /// So many Sentinels of this master; they know its replicas, of which there are so many, when this returns.
    pub fn start(master: &RedisServer, count: usize, replicas: usize) -> Self {
        let running: Vec<_> = (0..count)
            .map(|_| {
                let (port, folder) =
                    (free_port(), TempDir::with_prefix("tidegate-sentinel-").expect("folder"));
                let (name, quorum, watched) = (Self::MASTER, count / 2 + 1, master.plain_port());
                let config = format!(
                    "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {watched} {quorum}\n\
                     sentinel down-after-milliseconds {name} 300\nsentinel failover-timeout {name} 3000\n"
                );
                let file = folder.path().join("sentinel.conf");
                std::fs::write(&file, config).expect("configuration");
                let arguments = [file.to_str().expect("UTF-8").to_owned(), "--sentinel".to_owned()];
                (port, start("redis-server", &arguments, folder.path()), folder)
            })
            .collect();
        let all = Self { running };
        for &(port, ..) in &all.running {
            until("Sentinels know the master, its replicas and each other", LIMIT, || {
                let field = |name: &str| Self::field(port, name).and_then(|v| v.parse::<usize>().ok());
                field("num-slaves") == Some(replicas) && field("num-other-sentinels") == Some(count - 1)
            });
        }
        all
    }

    /// Options that lead to the master through them.
    pub fn options(&self) -> RedisOptions {
        let address = |port| Address { host: "127.0.0.1".into(), port };
        RedisOptions {
            topology: Topology::Sentinel {
                sentinels: self.running.iter().map(|&(port, ..)| address(port)).collect(),
                master: Self::MASTER.into(),
                password: None,
            },
            ..RedisOptions::single("", 0)
        }
    }

    /// Their ports.
    pub fn ports(&self) -> Vec<u16> {
        self.running.iter().map(|&(port, ..)| port).collect()
    }

    /// A switch to a replica while the master lives.
    pub fn failover(&self) {
        // Refused until a Sentinel has heard enough of the replica.
        until("SENTINEL FAILOVER is taken", LIMIT, || {
            ask(self.running[0].0, None, &["SENTINEL", "FAILOVER", Self::MASTER]).is_ok()
        });
    }

    /// Port of the master, as the first of them sees it.
    pub fn master_port(&self) -> u16 {
        Self::field(self.running[0].0, "port").and_then(|port| port.parse().ok()).expect("port of the master")
    }

    /// Waits until the first of them names this port.
    pub fn until_master_is(&self, port: u16) {
        until("Sentinels name the new master", LIMIT, || self.master_port() == port);
    }

    fn field(port: u16, name: &str) -> Option<String> {
        let Ok(Value::Array(fields)) = ask(port, None, &["SENTINEL", "MASTER", Self::MASTER]) else {
            return None;
        };
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        fields.chunks(2).find(|pair| text(&pair[0]) == name).map(|pair| text(&pair[1]))
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
