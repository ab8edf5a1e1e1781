//! Why a command failed. One line each for people, on standard error: what, why, what to do.

use super::out::note;
use crate::config::ConfigProblem;
use std::fmt::Display;
use std::process::ExitCode;

/// A failed command.
#[derive(Debug)]
pub enum Failure {
    /// It ran, and the answer is no.
    No(String),
    /// Wrong usage.
    Usage(String),
    /// The configuration has errors.
    Config(Vec<ConfigProblem>),
    /// What it needs is not there, or in use.
    Start(String),
    /// A write to the log failed while the gateway ran: whoever supervises it must start it again.
    LogFailed,
}

impl Failure {
    /// What it needs is not there.
    pub fn start(why: impl Display) -> Self {
        Self::Start(why.to_string())
    }

    /// Prints it.
    pub fn print(&self) {
        match self {
            Self::No(why) | Self::Usage(why) | Self::Start(why) => note(format_args!("error: {why}")),
            Self::LogFailed => note(
                "error: a write to the order log failed, so the gateway has stopped; see the log line before, \
                 repair the disk, and start again: what the disk holds is recovered",
            ),
            Self::Config(problems) => {
                for problem in problems {
                    note(format_args!("error: {problem}"));
                }
            }
        }
    }

    /// As documented in `--help`.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::No(_) => 1,
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Start(_) => 3,
            Self::LogFailed => 4,
        })
    }
}
