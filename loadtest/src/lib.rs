//! Open-loop load on a Tidegate gateway, faults, and a verdict on the invariants. The binary is the product; this
//! library only carries its parts.
//!
//! ```text
//! cli.rs        command line, exit codes
//! scenario/     what is sold, who comes, what goes wrong (TOML)
//! schedule.rs   the arrival plan, by seed
//! run/          the stages of one run, in order
//! process.rs    child processes, never left behind
//! gateway/      the gateways as child processes, and the list of their addresses
//! proxied/      a service behind a route of the gateway, and its clients
//! redis/        the Redis of a run, and what may happen to it
//! buyers/       open-loop requests, retries, polls
//! workers/      receive, create, pay, ack; the event reader; the order database
//! chaos/        what goes wrong on purpose, and when
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
mod process;
mod progress;
mod proxied;
mod redis;
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
