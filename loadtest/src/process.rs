//! A child process that is never left behind: dropping it kills it, and the kernel kills it when this program ends in
//! any other way.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(5);
/// Lines of a log that are shown when its process fails.
const LOG_LINES: usize = 12;
/// Asks the kernel for the signal on behalf of a program and then becomes it; part of util-linux.
const LAST_WILL: [&str; 3] = ["/usr/bin/setpriv", "--pdeathsig", "KILL"];

/// A running program, with standard output and error in a log.
pub(crate) struct Process {
    what: String,
    child: Child,
    log: PathBuf,
}

/// Why a process does not do as it should. `what` names it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("cannot open the log of {what}, {log}: {source}")]
    Log { what: String, log: PathBuf, source: std::io::Error },
    #[error("cannot start {what}, {program}: {source}")]
    Start { what: String, program: PathBuf, source: std::io::Error },
    #[error("cannot signal {what}: {source}")]
    Signal { what: String, source: std::io::Error },
    #[error("{what} did not end within {bound_ms} ms of {signal}")]
    NotEnded { what: String, bound_ms: u128, signal: &'static str },
}

impl Process {
    /// Starts `program`; the log grows at its end. To be called on a thread that lives as long as this program.
    pub(crate) fn start<A: AsRef<OsStr>>(
        what: impl Into<String>,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self, ProcessError> {
        let what = what.into();
        let output = OpenOptions::new().create(true).append(true).open(log);
        let (stdout, stderr) = output
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|source| ProcessError::Log { what: what.clone(), log: log.to_owned(), source })?;
        let [setpriv, will @ ..] = LAST_WILL;
        let mut command = if Path::new(setpriv).exists() {
            let mut command = Command::new(setpriv);
            command.args(will).arg("--").arg(program);
            command
        } else {
            Command::new(program)
        };
        let child =
            command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().map_err(
                |source| ProcessError::Start { what: what.clone(), program: program.to_owned(), source },
            )?;
        Ok(Self { what, child, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The log's last lines.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// How it ended, if it did.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal and returns at once.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| ProcessError::Signal { what: self.what.clone(), source: error.into() })
    }

    /// Waits until it has ended after `signal`.
    pub(crate) async fn ended(
        &mut self,
        signal: &'static str,
        bound: Duration,
    ) -> Result<ExitStatus, ProcessError> {
        let waiting = async {
            loop {
                if let Some(status) = self.has_ended() {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(bound, waiting).await.map_err(|_| ProcessError::NotEnded {
            what: self.what.clone(),
            bound_ms: bound.as_millis(),
            signal,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted. A stopped process is killed all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
