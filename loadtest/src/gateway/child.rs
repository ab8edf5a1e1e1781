//! The gateway as a child process on free ports, with a data folder of its own.
//!
//! It is never left behind: dropping it kills it.

use super::{config, cpu};
use crate::scenario::Scenario;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tidegate_client::client::{Client, RetryPolicy};

const LOOK: Duration = Duration::from_millis(10);
/// Lines of the child's log shown when it fails.
const LOG_LINES: usize = 12;

pub(crate) struct Child {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    public: SocketAddr,
    inner: SocketAddr,
    start_bound: Duration,
    process: std::process::Child,
    /// Of processes that are gone.
    cpu_before: Duration,
}

/// Why there is no running gateway.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("cannot prepare the gateway's {what}: {source}")]
    Prepare { what: &'static str, source: std::io::Error },
    #[error("cannot write the gateway's configuration: {0}")]
    Config(#[from] toml::ser::Error),
    #[error("cannot start {binary}: {source}")]
    Start { binary: PathBuf, source: std::io::Error },
    #[error("the gateway ended with {status} before it was ready; its log ends with:\n{log_tail}")]
    EndedEarly { status: ExitStatus, log_tail: String },
    #[error("the gateway was not ready within {bound_ms} ms; its log ends with:\n{log_tail}")]
    NotReady { bound_ms: u128, log_tail: String },
    #[error("cannot signal the gateway: {0}")]
    Signal(std::io::Error),
    #[error("the gateway did not end within {bound_ms} ms of {signal}")]
    NotEnded { bound_ms: u128, signal: &'static str },
}

impl Child {
    /// Starts `binary serve` and waits until it can sell. Configuration and log go to `report_dir`.
    pub(crate) async fn start(
        binary: &Path,
        scenario: &Scenario,
        data_dir: &Path,
        report_dir: &Path,
    ) -> Result<Self, ChildError> {
        let [public, inner] = free_ports().map_err(|source| ChildError::Prepare { what: "ports", source })?;
        let config = report_dir.join("gateway.toml");
        std::fs::write(&config, config::text(scenario, public, inner, data_dir)?)
            .map_err(|source| ChildError::Prepare { what: "configuration", source })?;
        let log = report_dir.join("gateway.log");
        let process = launch(binary, &config, &log)?;
        let mut child = Self {
            binary: binary.to_owned(),
            config,
            log,
            public,
            inner,
            start_bound: Duration::from_millis(scenario.bounds.start_ms),
            process,
            cpu_before: Duration::ZERO,
        };
        child.until_ready().await?;
        Ok(child)
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.public
    }

    pub(crate) fn inner(&self) -> SocketAddr {
        self.inner
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// `kill -9`. Returns at once; [`Child::restart`] waits for the end.
    pub(crate) fn kill(&mut self) -> Result<(), ChildError> {
        self.keep_cpu();
        self.process.kill().map_err(ChildError::Signal)
    }

    /// A new process on the same ports and data folder, once the old one is gone; ready when this returns.
    pub(crate) async fn restart(&mut self) -> Result<(), ChildError> {
        self.ended("SIGKILL", self.start_bound).await?;
        self.process = launch(&self.binary, &self.config, &self.log)?;
        self.until_ready().await
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(&mut self, bound: Duration) -> Result<ExitStatus, ChildError> {
        self.keep_cpu();
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).map_err(|error| ChildError::Signal(error.into()))?;
        self.ended("SIGTERM", bound).await
    }

    /// Processor time of all processes so far, up to the last kill or stop.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu_before
    }

    fn keep_cpu(&mut self) {
        self.cpu_before += cpu::used(self.process.id()).unwrap_or_default();
    }

    async fn ended(&mut self, signal: &'static str, bound: Duration) -> Result<ExitStatus, ChildError> {
        let waiting = async {
            loop {
                if let Some(status) = self.process.try_wait().map_err(ChildError::Signal)? {
                    return Ok(status);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let bound_ms = bound.as_millis();
        tokio::time::timeout(bound, waiting).await.unwrap_or(Err(ChildError::NotEnded { bound_ms, signal }))
    }

    async fn until_ready(&mut self) -> Result<(), ChildError> {
        let probe = Client::builder(&format!("http://{}", self.inner))
            .request_timeout(Duration::from_secs(1))
            .retry(RetryPolicy::none())
            .build()
            .map_err(|error| ChildError::Prepare { what: "probe", source: std::io::Error::other(error) })?;
        let waiting = async {
            loop {
                if let Ok(Some(status)) = self.process.try_wait() {
                    return Err(ChildError::EndedEarly { status, log_tail: tail(&self.log) });
                }
                if probe.is_ready().await.unwrap_or(false) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(self.start_bound, waiting).await.unwrap_or_else(|_| {
            let bound_ms = self.start_bound.as_millis();
            Err(ChildError::NotReady { bound_ms, log_tail: tail(&self.log) })
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(binary: &Path, config: &Path, log: &Path) -> Result<std::process::Child, ChildError> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .and_then(|file| Ok([file.try_clone()?, file]))
        .map_err(|source| ChildError::Prepare { what: "log", source })?;
    let [stdout, stderr] = output;
    Command::new(binary)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|source| ChildError::Start { binary: binary.to_owned(), source })
}

/// Two loopback ports that were free a moment ago.
fn free_ports() -> std::io::Result<[SocketAddr; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
