//! One `redis-server`, or a sentinel, as a child process.

use crate::process::{Process, ProcessError};
use redis::FromRedisValue;
use rustix::process::Signal;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(10);
/// A server that starts, syncs or ends does so within this.
pub(super) const BOUND: Duration = Duration::from_secs(10);
/// One command, connection included.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
const PROGRAM: &str = "/usr/bin/redis-server";

pub(super) struct Server {
    name: &'static str,
    dir: PathBuf,
    log: PathBuf,
    port: u16,
    arguments: Vec<String>,
    process: Process,
}

/// Why there is no Redis as the scenario wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisError {
    #[error("no redis-server here ({PROGRAM}): install Debian's package `redis-server`")]
    Missing,
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("redis {name}: {what}: {source}")]
    Io { name: &'static str, what: &'static str, source: std::io::Error },
    #[error("redis {name} ended before it was ready; its log ends with:\n{log_tail}")]
    EndedEarly { name: &'static str, log_tail: String },
    #[error("redis {name}: {what} did not come about within {} s; its log ends with:\n{log_tail}", BOUND.as_secs())]
    NotReady { name: &'static str, what: &'static str, log_tail: String },
    #[error("redis {name}: {source}")]
    Command { name: &'static str, source: redis::RedisError },
}

impl Server {
    /// Starts and waits until it answers. `arguments` come after those for port, folder and log; the first may be a
    /// configuration file.
    pub(super) async fn start(
        name: &'static str,
        root: &Path,
        report_dir: &Path,
        arguments: impl FnOnce(u16, &Path) -> std::io::Result<Vec<String>>,
    ) -> Result<Self, RedisError> {
        if !Path::new(PROGRAM).exists() {
            return Err(RedisError::Missing);
        }
        let io = |what| move |source| RedisError::Io { name, what, source };
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).map_err(io("folder"))?;
        let port = free_port().map_err(io("port"))?;
        let log = report_dir.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        let mut all = arguments(port, &dir).map_err(io("configuration"))?;
        let port_text = port.to_string();
        let dir_text = dir.display().to_string();
        for (key, value) in [("--port", port_text.as_str()), ("--bind", "127.0.0.1"), ("--dir", &dir_text)] {
            all.extend([key.to_owned(), value.to_owned()]);
        }
        let process = Process::start(format!("redis {name}"), Path::new(PROGRAM), &all, &log)?;
        let mut server = Self { name, dir, log, port, arguments: all, process };
        server.until_ready().await?;
        Ok(server)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `kill -9`; the process is gone when this returns.
    pub(super) async fn kill(&mut self) -> Result<(), RedisError> {
        self.process.signal(Signal::KILL)?;
        self.process.ended("SIGKILL", BOUND).await?;
        Ok(())
    }

    /// A new process on the same port and folder, after [`Server::kill`]; ready when this returns.
    pub(super) async fn restart(&mut self) -> Result<(), RedisError> {
        let what = format!("redis {}", self.name);
        self.process = Process::start(what, Path::new(PROGRAM), &self.arguments, &self.log)?;
        self.until_ready().await
    }

    /// One command on a connection of its own.
    pub(super) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let fail = |source| RedisError::Command { name: self.name, source };
        let asking = async {
            let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command.query_async(&mut connection).await
        };
        let timeout = || fail(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        tokio::time::timeout(COMMAND_TIMEOUT, asking).await.map_err(|_| timeout())?.map_err(fail)
    }

    /// Waits until `INFO section` has this line.
    pub(super) async fn until_info(
        &mut self,
        section: &str,
        line: &str,
        what: &'static str,
    ) -> Result<(), RedisError> {
        let ends = tokio::time::Instant::now() + BOUND;
        loop {
            if let Ok(info) = self.ask::<String>(&["INFO", section]).await
                && info.lines().any(|is| is.contains(line))
            {
                return Ok(());
            }
            self.go_on_waiting(ends, what).await?;
        }
    }

    async fn until_ready(&mut self) -> Result<(), RedisError> {
        let ends = tokio::time::Instant::now() + BOUND;
        // An error while it loads its data is no answer.
        while self.ask::<String>(&["PING"]).await.is_err() {
            self.go_on_waiting(ends, "an answer").await?;
        }
        Ok(())
    }

    async fn go_on_waiting(
        &mut self,
        ends: tokio::time::Instant,
        what: &'static str,
    ) -> Result<(), RedisError> {
        let name = self.name;
        if self.process.has_ended().is_some() {
            return Err(RedisError::EndedEarly { name, log_tail: self.process.log_tail() });
        }
        if tokio::time::Instant::now() > ends {
            return Err(RedisError::NotReady { name, what, log_tail: self.process.log_tail() });
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
