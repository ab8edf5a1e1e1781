//! Hot reload, by SIGHUP or `POST /v1/reload`: read, check and build everything, then swap it in one step, or change
//! nothing at all (failure mode 43).
//!
//! ```text
//! mod.rs    one reload at a time, from reading to the swap
//! sales.rs  the sales of the file
//! ```
//!
//! The settings are one pointer (`state/live.rs`). Sales are records of the ledger, written before the swap; each put
//! may be repeated. When one fails that was found good (the disk is full, Redis is gone) the settings stay, and the same
//! reload can be asked for again.

mod sales;

use crate::config::{ConfigProblem, Place, in_order};
use crate::state::{Core, Live};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tidegate_client::wire::Reloaded;
use tokio::sync::{Notify, Semaphore};
use tracing::{error, info};

/// What the process does with new settings besides.
type Then = Box<dyn Fn(&Live) + Send + Sync>;

/// What a gateway knows of its reloads.
pub struct Reloads {
    turn: Semaphore,
    asked: Notify,
    after: OnceLock<Then>,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// Another reload is under way.
    #[error("another reload is under way; nothing was changed by this one")]
    Busy,
    /// What is wrong with the configuration, all of it.
    #[error("{}; nothing was changed", listed(.0))]
    Problems(Vec<ConfigProblem>),
    /// The sales cannot be compared with the ledger, or written to it.
    #[error("{0}")]
    Ledger(String),
}

impl Default for Reloads {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            asked: Notify::new(),
            after: OnceLock::new(),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads")
            .field("taken", &self.taken)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl Reloads {
    /// Asks for a reload and does not wait; the log tells what came of it. Several that are asked while one runs are one.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// `then` runs after each reload. Only the first call counts.
    pub fn after_each(&self, then: impl Fn(&Live) + Send + Sync + 'static) {
        let _ = self.after.set(Box::new(then));
    }

    /// How many were taken, how many refused.
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        [("taken", self.taken.load(Ordering::Relaxed)), ("refused", self.refused.load(Ordering::Relaxed))]
    }
}

/// Reloads whenever [`Reloads::ask`] asked for it, until the gateway stops.
pub(crate) async fn run(core: Rc<Core>) {
    let reloads = &core.app.reloads;
    loop {
        tokio::select! {
            () = core.app.stopping.wait() => return,
            () = reloads.asked.notified() => {}
        }
        // Closed never; whoever reloads by the API is waited for.
        if let Ok(_turn) = reloads.turn.acquire().await {
            let _ = take_turn(&core).await;
        }
    }
}

/// One reload. Not cancel safe: run it as a task, and let the task run to its end.
pub(crate) async fn reload(core: &Rc<Core>) -> Result<Reloaded, NotReloaded> {
    let Ok(_turn) = core.app.reloads.turn.try_acquire() else { return Err(NotReloaded::Busy) };
    take_turn(core).await
}

async fn take_turn(core: &Rc<Core>) -> Result<Reloaded, NotReloaded> {
    let reloads = &core.app.reloads;
    let outcome = read_and_swap(core).await;
    match &outcome {
        Ok(Reloaded { changed, sales_created, sales_changed, sales_left }) => {
            reloads.taken.fetch_add(1, Ordering::Relaxed);
            let text =
                |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(" ") };
            info!(
                changed = text(changed),
                sales_created = text(sales_created),
                sales_changed = text(sales_changed),
                sales_left = text(sales_left),
                "the configuration was reloaded"
            );
        }
        Err(why) => {
            reloads.refused.fetch_add(1, Ordering::Relaxed);
            error!(%why, "the configuration was not reloaded; the present one goes on");
        }
    }
    outcome
}

async fn read_and_swap(core: &Rc<Core>) -> Result<Reloaded, NotReloaded> {
    let app = &core.app;
    let previous = app.live();
    // A folder on a network may take its time; this thread has requests to answer.
    let before = previous.clone();
    let read = blocking(move || {
        let next = before.config.load_again()?;
        let changed = before.config.reload_to(&next);
        Ok((next, changed))
    });
    let (next, changed) = read.await?;
    let (sales, mut problems) = sales::plan(core, &previous.config, &next).await?;
    let changed = changed.unwrap_or_else(|refused| {
        problems.extend(refused);
        Vec::new()
    });
    if !problems.is_empty() {
        in_order(&mut problems);
        return Err(NotReloaded::Problems(problems));
    }
    let clock = app.clock.clone();
    let live = blocking(move || {
        Live::build(next, Some(&previous), &clock).map_err(|error| {
            let message = error.to_string();
            vec![ConfigProblem { place: Place::Whole, key: String::new(), message, help: None }]
        })
    });
    let live = Arc::new(live.await?);
    let (sales_created, sales_changed) = sales.put(core).await?;
    app.live.store(live.clone());
    if let Some(then) = app.reloads.after.get() {
        then(&live);
    }
    Ok(Reloaded { changed, sales_created, sales_changed, sales_left: sales.left })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Vec<ConfigProblem>> + Send + 'static,
) -> Result<T, NotReloaded> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(NotReloaded::Problems),
        Err(_) => Err(NotReloaded::Ledger("the reload was interrupted; nothing was changed".to_owned())),
    }
}

fn listed(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
