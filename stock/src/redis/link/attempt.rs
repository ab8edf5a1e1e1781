//! Something that takes an attempt to get, shared by all who need it, with a pause after a failure.

use super::backoff;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

type Outcome<T> = Option<Result<T, Arc<str>>>;

enum State<T> {
    /// Nothing there; whoever comes starts an attempt.
    Idle,
    /// One attempt, in a task of its own: it goes on when those who wait give up.
    Running { since: Instant, outcome: watch::Receiver<Outcome<T>>, task: AbortHandle },
    /// There it is.
    Ready(T),
    /// Whoever comes is refused at once, until then.
    Paused { until: Instant, why: Arc<str> },
}

/// One thing, got by an attempt at a time.
pub(super) struct Attempt<T> {
    state: RefCell<State<T>>,
    failures: Cell<u32>,
}

impl<T: Clone + Send + Sync + 'static> Attempt<T> {
    pub(super) fn new() -> Self {
        Self { state: RefCell::new(State::Idle), failures: Cell::new(0) }
    }

    /// The thing, if it is there now.
    pub(super) fn ready(&self) -> Option<T> {
        match &*self.state.borrow() {
            State::Ready(thing) => Some(thing.clone()),
            _ => None,
        }
    }

    /// The thing, after an attempt if need be, which may take until `patience` after it began. The error tells why
    /// not. Cancelled: the attempt goes on for the next caller.
    pub(super) async fn get<F>(&self, patience: Duration, start: impl Fn() -> F) -> Result<T, Arc<str>>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        loop {
            let (since, mut outcome) = match self.step(&start)? {
                Step::Ready(thing) => return Ok(thing),
                Step::Wait(since, outcome) => (since, outcome),
            };
            if timeout_at(since + patience, outcome.wait_for(Option::is_some)).await.is_err() {
                return Err(Arc::from(format!(
                    "Redis has not answered a new connection within {patience:?}; check that it runs and is reachable"
                )));
            }
        }
    }

    /// Takes the attempt one step further without waiting.
    fn step<F>(&self, start: &impl Fn() -> F) -> Result<Step<T>, Arc<str>>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
    {
        let mut state = self.state.borrow_mut();
        if let State::Running { outcome, .. } = &*state {
            let done = outcome.borrow().clone();
            match done {
                // A task that ended without a word was cancelled with its runtime.
                None if outcome.has_changed().is_err() => *state = State::Idle,
                None => {}
                Some(Ok(thing)) => {
                    if self.failures.replace(0) > 0 {
                        tracing::info!("Redis is reachable again");
                    }
                    *state = State::Ready(thing);
                }
                Some(Err(why)) => {
                    let failures = self.failures.get().saturating_add(1);
                    self.failures.set(failures);
                    if failures == 1 {
                        tracing::warn!("{why}");
                    }
                    *state = State::Paused { until: Instant::now() + backoff::pause(failures), why };
                }
            }
        }
        match &*state {
            State::Ready(thing) => return Ok(Step::Ready(thing.clone())),
            State::Running { since, outcome, .. } => return Ok(Step::Wait(*since, outcome.clone())),
            State::Paused { until, why } if Instant::now() < *until => return Err(why.clone()),
            State::Paused { .. } | State::Idle => {}
        }
        let (tell, outcome) = watch::channel(None);
        let attempt = start();
        let task = tokio::spawn(async move {
            let result = attempt.await.map_err(Arc::from);
            tell.send_replace(Some(result));
        });
        let since = Instant::now();
        *state = State::Running { since, outcome: outcome.clone(), task: task.abort_handle() };
        Ok(Step::Wait(since, outcome))
    }

    /// Drops the thing: the next who comes starts an attempt at once.
    pub(super) fn forget(&self) {
        *self.state.borrow_mut() = State::Idle;
    }

    /// Drops the thing and refuses for a time.
    pub(super) fn pause(&self, pause: Duration, why: String) {
        *self.state.borrow_mut() = State::Paused { until: Instant::now() + pause, why: Arc::from(why) };
    }
}

enum Step<T> {
    Ready(T),
    Wait(Instant, watch::Receiver<Outcome<T>>),
}

impl<T> Drop for Attempt<T> {
    fn drop(&mut self) {
        if let State::Running { task, .. } = &*self.state.borrow() {
            task.abort();
        }
    }
}
