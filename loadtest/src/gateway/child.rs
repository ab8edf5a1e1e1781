//! One gateway as a child process on free ports, with a data folder of its own.

use super::{config, cpu};
use crate::process::{Process, ProcessError};
use crate::redis::Reach;
use crate::scenario::Scenario;
use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tidegate_client::client::{Client, RetryPolicy};

const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Child {
    what: String,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    data_dir: PathBuf,
    public: SocketAddr,
    inner: SocketAddr,
    start_bound: Duration,
    process: Process,
    /// Of processes that are gone.
    cpu_before: Duration,
}

/// What a gateway is started with.
pub(crate) struct Setting<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) scenario: &'a Scenario,
    pub(crate) redis: Option<&'a Reach>,
    /// A service behind the route of `[proxy]`.
    pub(crate) upstream: Option<SocketAddr>,
    /// For its configuration and log.
    pub(crate) report_dir: &'a Path,
}

/// Why there is no running gateway. `what` names it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("cannot prepare the {of} of {what}: {source}")]
    Prepare { what: String, of: &'static str, source: std::io::Error },
    #[error("cannot write the gateway's configuration: {0}")]
    Config(#[from] toml::ser::Error),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{what} ended with {status} before it was ready; its log ends with:\n{log_tail}")]
    EndedEarly { what: String, status: ExitStatus, log_tail: String },
    #[error("{what} was not ready within {bound_ms} ms; its log ends with:\n{log_tail}")]
    NotReady { what: String, bound_ms: u128, log_tail: String },
}

impl Child {
    /// Starts `binary serve` and waits until it can sell. `name` is that of its configuration and its log.
    pub(crate) async fn start(
        setting: &Setting<'_>,
        name: &str,
        data_dir: &Path,
    ) -> Result<Self, ChildError> {
        let what = name.replace('-', " ");
        let prepare = |of| {
            let what = what.clone();
            move |source| ChildError::Prepare { what, of, source }
        };
        let ports = free_ports().map_err(prepare("ports"))?;
        std::fs::create_dir_all(data_dir).map_err(prepare("data folder"))?;
        let config = setting.report_dir.join(format!("{name}.toml"));
        std::fs::write(&config, config::text(setting, ports, data_dir)?).map_err(prepare("configuration"))?;
        let log = setting.report_dir.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        let process = launch(&what, setting.binary, &config, &log)?;
        let mut child = Self {
            what,
            binary: setting.binary.to_owned(),
            config,
            log,
            data_dir: data_dir.to_owned(),
            public: ports[0],
            inner: ports[1],
            start_bound: Duration::from_millis(setting.scenario.bounds.start_ms),
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

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// `kill -9`; the process is gone when this returns.
    pub(crate) async fn kill(&mut self) -> Result<(), ChildError> {
        self.keep_cpu();
        self.process.signal(Signal::KILL)?;
        self.process.ended("SIGKILL", self.start_bound).await?;
        Ok(())
    }

    /// A new process on the same ports and data folder, after [`Child::kill`]; ready when this returns.
    pub(crate) async fn restart(&mut self) -> Result<(), ChildError> {
        self.process = launch(&self.what, &self.binary, &self.config, &self.log)?;
        self.until_ready().await
    }

    /// SIGSTOP: it does nothing any more, and nobody is told.
    pub(crate) fn freeze(&self) -> Result<(), ChildError> {
        Ok(self.process.signal(Signal::STOP)?)
    }

    /// SIGCONT: it goes on where it stood.
    pub(crate) fn thaw(&self) -> Result<(), ChildError> {
        Ok(self.process.signal(Signal::CONT)?)
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(&mut self, bound: Duration) -> Result<ExitStatus, ChildError> {
        self.keep_cpu();
        self.process.signal(Signal::TERM)?;
        Ok(self.process.ended("SIGTERM", bound).await?)
    }

    /// Processor time of all processes so far, up to the last kill or stop.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu_before
    }

    fn keep_cpu(&mut self) {
        self.cpu_before += cpu::used(self.process.id()).unwrap_or_default();
    }

    async fn until_ready(&mut self) -> Result<(), ChildError> {
        let probe = Client::builder(&format!("http://{}", self.inner))
            .request_timeout(Duration::from_secs(1))
            .retry(RetryPolicy::none())
            .build()
            .map_err(|error| ChildError::Prepare {
                what: self.what.clone(),
                of: "probe",
                source: std::io::Error::other(error),
            })?;
        let process = &mut self.process;
        let what = &self.what;
        let waiting = async {
            loop {
                if let Some(status) = process.has_ended() {
                    let log_tail = process.log_tail();
                    return Err(ChildError::EndedEarly { what: what.clone(), status, log_tail });
                }
                if probe.is_ready().await.unwrap_or(false) {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(self.start_bound, waiting).await.unwrap_or_else(|_| {
            Err(ChildError::NotReady {
                what: self.what.clone(),
                bound_ms: self.start_bound.as_millis(),
                log_tail: self.process.log_tail(),
            })
        })
    }
}

fn launch(what: &str, binary: &Path, config: &Path, log: &Path) -> Result<Process, ProcessError> {
    let arguments = ["serve".as_ref(), "--config".as_ref(), config.as_os_str()];
    Process::start(what, binary, arguments, log)
}

/// Two loopback ports that were free a moment ago.
fn free_ports() -> std::io::Result<[SocketAddr; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}
