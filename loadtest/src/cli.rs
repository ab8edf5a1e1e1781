//! Command line and exit codes: 0 every invariant holds, 1 one is broken, 2 the run could not be carried through.

use crate::progress::Progress;
use crate::report::{Report, Verdict, render};
use crate::run::{Plan, Target, run};
use crate::scenario::Scenario;
use crate::seeded::Seed;
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const BROKEN: u8 = 1;
const UNUSABLE: u8 = 2;

/// Rehearse a flash sale on a Tidegate gateway, and have the outcome judged.
#[derive(Debug, Parser)]
#[command(name = "tidegate-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario and judge it: exit code 0 only when every invariant holds.
    Run(RunArgs),
    /// List the built-in scenarios.
    List,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A built-in scenario (`list` tells them) or a TOML file.
    scenario: String,
    /// Buyers' listener of a gateway that runs already, such as <http://127.0.0.1:8080>.
    #[arg(long, requires = "inner", conflicts_with = "spawn", value_name = "URL")]
    target: Option<String>,
    /// Inner listener of that gateway, such as <http://127.0.0.1:8081>.
    #[arg(long, requires = "target", value_name = "URL")]
    inner: Option<String>,
    /// File with a bearer token of scope `admin` for the inner listener.
    #[arg(long, value_name = "FILE", requires = "inner")]
    token_file: Option<PathBuf>,
    /// Gateway binary to start as child processes on free ports with temporary data folders, and Redis with them
    /// where the scenario has one.
    #[arg(long, value_name = "BIN")]
    spawn: Option<PathBuf>,
    /// "redis": a scenario without a section `[redis]` runs with two gateways, one Redis and twice the workers. Left
    /// out: as the scenario says.
    #[arg(long, value_enum, value_name = "KIND", requires = "spawn")]
    ledger: Option<Ledger>,
    /// Folder for the JSON report, the order database and the gateway's log.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write the JSON report here as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Same seed, same plan; drawn and shown when left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Where the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ledger {
    Embedded,
    Redis,
}

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    let outcome = match Cli::parse().command {
        Command::Run(args) => run_scenario(&args),
        Command::List => list(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate-loadtest: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn list() -> anyhow::Result<ExitCode> {
    for (name, _) in crate::scenario::BUILT_IN {
        println!("{name:<26} {}", Scenario::load(name)?.about);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_scenario(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::load(&args.scenario)?;
    let scenario = match args.ledger {
        Some(Ledger::Redis) => scenario.on_redis()?,
        Some(Ledger::Embedded) if scenario.redis.is_some() => {
            bail!("--ledger embedded: scenario {} is one of Redis", scenario.name)
        }
        Some(Ledger::Embedded) | None => scenario,
    };
    let seed = Seed(args.seed.unwrap_or_else(|| rand::random::<u32>().into()));
    let target = target(args)?;
    let report_dir = report_dir(args, &scenario, seed)?;
    let token = match &args.token_file {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let plan = Plan { scenario, seed, target, report_dir, token };
    eprintln!("scenario {}: {} (seed {})", plan.scenario.name, plan.scenario.about, seed.0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let finished = runtime.block_on(async {
        let progress = Progress::start();
        let finished = tokio::select! {
            finished = run(&plan, &progress) => finished.map_err(anyhow::Error::from),
            () = told_to_end() => Err(anyhow::anyhow!("interrupted")),
        };
        progress.finish();
        finished
    });
    // Dropping the runtime first would wait for blocking tasks of an interrupted run.
    runtime.shutdown_background();
    let mut finished = finished?;
    let report = Report::new(&plan, &finished);
    println!("{}", render(&report));
    let json = serde_json::to_string_pretty(&report)? + "\n";
    let in_dir = plan.report_dir.join("report.json");
    for path in std::iter::once(&in_dir).chain(&args.json) {
        std::fs::write(path, &json).with_context(|| format!("report {}", path.display()))?;
        println!("report: {}", path.display());
    }
    if report.verdict == Verdict::Pass {
        return Ok(ExitCode::SUCCESS);
    }
    // The log tells more than any report: it stays.
    if let Some(data_dir) = finished.data_dir.take() {
        println!("the gateway's data folder is kept: {}", data_dir.keep().display());
    }
    Ok(ExitCode::from(BROKEN))
}

/// Ctrl-C or SIGTERM: what was started is ended, as at every other end.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn target(args: &RunArgs) -> anyhow::Result<Target> {
    match (&args.spawn, &args.target, &args.inner) {
        (Some(binary), None, None) => {
            if !binary.is_file() {
                bail!("--spawn {}: no such file", binary.display());
            }
            Ok(Target::Spawn(binary.clone()))
        }
        (None, Some(public), Some(inner)) => {
            Ok(Target::Running { public: address(public)?, inner: inner.clone() })
        }
        _ => bail!("say which gateway: --spawn BIN, or --target URL with --inner URL"),
    }
}

/// The address behind `http://host:port`.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let uri: http::Uri = url.parse().with_context(|| format!("--target {url}"))?;
    let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        bail!("--target {url}: give it as http://host:port");
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host, uri.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .with_context(|| format!("--target {url}"))?
        .next()
        .with_context(|| format!("--target {url}: no address"))
}

fn report_dir(args: &RunArgs, scenario: &Scenario, seed: Seed) -> anyhow::Result<PathBuf> {
    let dir = args
        .report
        .clone()
        .unwrap_or_else(|| Path::new("tidegate-report").join(format!("{}-{}", scenario.name, seed.0)));
    std::fs::create_dir_all(&dir).with_context(|| format!("report folder {}", dir.display()))?;
    Ok(dir)
}
