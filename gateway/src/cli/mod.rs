//! The commands. Each reads its arguments, calls the library, prints, and answers an exit code; what a command
//! does is in its own file, nothing here knows of HTTP or logs.
//!
//! ```text
//! serve.rs    run the gateway until a signal
//! check.rs    validate a configuration
//! audit.rs    offline: rebuild the ledger from a log and check its identities
//! log.rs      offline: dump or verify a log
//! backup.rs   a copy of a data folder, also of one in use
//! sale.rs     sales of a running gateway, over its admin API
//! reload.rs   a running gateway reads its configuration again
//! blacklist.rs  who is banned at a running gateway
//! policy.rs   runs a policy against the cases beside it
//! resume.rs   a paused sale goes on without a gateway's log
//! gateway.rs  the gateways of a fleet
//! admin.rs    how these reach a gateway
//! failure.rs  why a command failed, in one line, with its exit code
//! table.rs    columns for a terminal
//! out.rs      printing, also where nobody reads any more
//! ```

mod admin;
mod audit;
mod backup;
mod blacklist;
mod check;
mod failure;
mod gateway;
mod log;
mod out;
mod policy;
mod reload;
mod resume;
mod sale;
mod serve;
mod table;

pub use failure::Failure;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Shown under `--help`.
const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the command ran and the answer is no: an audit does not hold, a log is
     damaged, the gateway refused
  2  wrong usage, or a configuration with errors
  3  could not start or reach what it needs: a port or data folder in use, a
     damaged log, no gateway there, a sale that is paused and cannot be audited
  4  a write to the log failed while the gateway ran; start it again

Every key of the configuration is documented in config/tidegate.toml;
TIDEGATE__SECTION__KEY in the environment overrides it.";

/// A flash-sale gateway with an integrated, durable order queue.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway; SIGTERM and SIGINT drain and end it
    Serve(serve::Args),
    /// Tell every mistake of a configuration at once
    Check(check::Args),
    /// Rebuild the ledger from a log at rest and check its identities
    Audit(audit::Args),
    /// Look at a log at rest
    Log(log::Args),
    /// Copy a data folder, also while a gateway writes to it
    Backup(backup::Args),
    /// Sales of a running gateway
    Sale(sale::Args),
    /// A running gateway reads its configuration again: all of it, or nothing
    Reload(reload::Args),
    /// Who is banned at a running gateway
    Blacklist(blacklist::Args),
    /// Policies in Lua, at rest
    Policy(policy::Args),
    /// The gateways that sell one stock in Redis
    Gateway(gateway::Args),
}

/// Runs the command of the process's arguments.
pub fn run() -> ExitCode {
    // Wrong usage ends in here with exit code 2, help and version with 0.
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Sale(args) => sale::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Blacklist(args) => blacklist::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Gateway(args) => gateway::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

/// The process's environment; variables that are no text cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::start)?;
    out::say(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
