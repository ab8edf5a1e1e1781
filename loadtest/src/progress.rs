//! What is shown while a run goes on, on standard error: one living line on a terminal, else one line a second.

use crate::buyers::Live;
use crate::workers::Floor;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const TERMINAL_EVERY: Duration = Duration::from_millis(100);
const PLAIN_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    started: Instant,
    bar: Option<ProgressBar>,
    stage: Mutex<&'static str>,
    watched: Mutex<Option<(Arc<Live>, Arc<Floor>)>>,
}

impl Progress {
    /// Starts to show; on this runtime.
    pub(crate) fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {wide_msg}")
                    .unwrap_or(ProgressStyle::default_spinner()),
            );
            bar
        });
        let shared = Arc::new(Shared {
            started: Instant::now(),
            bar,
            stage: Mutex::new("start"),
            watched: Mutex::default(),
        });
        let showing = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let every = if showing.bar.is_some() { TERMINAL_EVERY } else { PLAIN_EVERY };
            let mut beat = tokio::time::interval(every);
            loop {
                beat.tick().await;
                showing.show();
            }
        });
        Self { shared, task }
    }

    pub(crate) fn stage(&self, stage: &'static str) {
        *self.shared.stage.lock() = stage;
    }

    pub(crate) fn watch(&self, live: &Arc<Live>, floor: &Arc<Floor>) {
        *self.shared.watched.lock() = Some((Arc::clone(live), Arc::clone(floor)));
    }

    /// Shows no more; the living line is taken away.
    pub(crate) fn finish(self) {
        self.task.abort();
        if let Some(bar) = &self.shared.bar {
            bar.finish_and_clear();
        }
    }
}

impl Shared {
    fn show(&self) {
        let line = self.line();
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            None => eprintln!("{line}"),
        }
    }

    fn line(&self) -> String {
        let elapsed_s = self.started.elapsed().as_secs_f64();
        let stage = *self.stage.lock();
        let head = format!("{elapsed_s:5.1} s  {stage:<8}");
        let Some((live, floor)) = self.watched.lock().clone() else { return head };
        let load = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
        let figures = &floor.figures;
        let mut line = format!(
            "{head} offered {}  answered {}  won {}  sold out {}  created {}  paid {}",
            load(&live.offered),
            load(&live.answered),
            load(&live.won),
            load(&live.sold_out),
            figures.created(),
            figures.paid(),
        );
        for (name, count) in [("no answer", &live.lost), ("unsent", &live.unsent)] {
            if load(count) > 0 {
                let _ = write!(line, "  {name} {}", load(count));
            }
        }
        line
    }
}
