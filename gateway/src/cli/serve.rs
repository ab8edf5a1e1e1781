//! `tidegate serve`: start, wait for a signal, drain.

use super::{Failure, out};
use crate::Gateway;
use crate::config::{Config, LogFormat, LogSettings};
use crate::machine::{Grants, Needs, Verdict, judge, raise_open_files};
use crate::state::Live;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate_queue::SystemClock;
use tidegate_queue::storage::DiskStorage;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration; without it every key has its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(args.config.as_deref(), super::environment()).map_err(Failure::Config)?;
    let level = write_log_to_stderr(&config.log);
    fit(&config)?;
    let storage = DiskStorage::new(&config.data.dir).map_err(|error| {
        let dir = config.data.dir.display();
        Failure::Start(format!(
            "cannot use the data folder {dir}: {error}; change [data] dir, or its permissions"
        ))
    })?;
    let signals =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::start)?;
    // Registered before the doors open, so that an early SIGTERM drains instead of killing.
    let mut listener = Signals::register(&signals).map_err(Failure::start)?;
    let gateway =
        Gateway::start(config, Arc::new(storage), Arc::new(SystemClock::new())).map_err(Failure::start)?;
    gateway.app().reloads.after_each(level);
    // For people and scripts: with port 0 this is how one learns the ports. Nobody has to read it.
    let _ = out::say(format_args!(
        "tidegate listens: public {}://{} inner http://{}",
        gateway.app().live().config.listen.public_scheme(),
        gateway.public_addr(),
        gateway.inner_addr()
    ));
    let app = gateway.app().clone();
    let reason = signals.block_on(async {
        tokio::select! {
            name = listener.end(|| app.reloads.ask()) => Ok(name),
            () = app.durable.poisoned() => Err(Failure::LogFailed),
        }
    });
    info!(reason = reason.as_ref().copied().unwrap_or("the log failed"), "shutting down");
    let closed = gateway.shutdown();
    // A log that failed cannot be closed either; why it failed is what the operator must hear.
    reason?;
    closed.map_err(|error| {
        Failure::Start(format!("the log could not be closed: {error}; the next start recovers it"))
    })?;
    info!("gateway is closed");
    Ok(())
}

/// The machine's limits against the configuration: a warning each, an error only for what cannot work.
fn fit(config: &Config) -> Result<(), Failure> {
    raise_open_files();
    for finding in judge(&Needs::of(config), &Grants::read(&config.data.dir)) {
        match &finding.verdict {
            Verdict::Good => {}
            Verdict::Low(_) => warn!("{}", finding.line()),
            Verdict::Fails(_) => return Err(Failure::Start(finding.line())),
        }
    }
    Ok(())
}

/// Answers how to follow the level of a configuration that is reloaded.
fn write_log_to_stderr(settings: &LogSettings) -> impl Fn(&Live) + Send + Sync + 'static {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(settings.filter()))
        .with_ansi(std::io::stderr().is_terminal())
        // Whoever read the log may go: a line that cannot be written is no reason to stop.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second subscriber of the same process (tests) is not an error.
    let follow: Box<dyn Fn(EnvFilter) + Send + Sync> = match settings.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    };
    move |live: &Live| follow(EnvFilter::new(live.config.log.filter()))
}

/// The signals of a service.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn register(runtime: &tokio::runtime::Runtime) -> std::io::Result<Self> {
        let _entered = runtime.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the signal to end; `hung_up` runs at each SIGHUP.
    async fn end(&mut self, hung_up: impl Fn()) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => hung_up(),
            }
        }
    }
}
