//! Open-loop load on a Tidegate gateway, faults, and a verdict on the invariants. The binary is the product; this
//! library only carries its parts.
//!
//! ```text
//! cli.rs        command line, exit codes
//! scenario.rs   what is sold, who comes, what goes wrong (TOML)
//! schedule.rs   the arrival plan, by seed
//! run/          the stages of one run, in order
//! gateway/      the gateway as a child process, and its admin API
//! buyers/       open-loop requests, retries, polls
//! workers/      receive, create, pay, ack; the event reader; the order database
//! chaos.rs      kill -9 and restart, workers that stop
//! evidence/     what was seen, by whom, when
//! verdict/      one file for each family of invariants
//! report/       final table, JSON
//! progress.rs   what is shown meanwhile
//! ```
#![forbid(unsafe_code)]

mod buyers;
mod chaos;
mod cli;
mod clock;
mod evidence;
mod gateway;
mod progress;
mod report;
mod run;
mod scenario;
mod schedule;
mod seeded;
mod verdict;
mod workers;

use std::process::ExitCode;

/// Runs the command line of this process; 0 = every invariant holds, 1 = one is broken, 2 = could not be run.
pub fn main() -> ExitCode {
    cli::main()
}
