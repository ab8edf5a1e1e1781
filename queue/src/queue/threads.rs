//! The five threads: dispatcher, timers, checkpoints, the keeper that makes snapshots and deletes, and the one that reads
//! the log for the key index. Each parks until there is something to do.

use super::CheckpointError;
use super::broker::Broker;
use super::dispatch::{DispatchError, Dispatcher};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::thread::{Builder, JoinHandle};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a file could not be written, it is tried again after this time.
const RETRY: Duration = Duration::from_millis(200);
/// After a snapshot could not be made, or a segment not be deleted, it is tried again after this time.
const KEEP_RETRY: Duration = Duration::from_secs(5);
/// What may be deleted is looked for this often.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// The same for the key index, which nobody waits for.
const KEYS_RETRY: Duration = Duration::from_secs(5);
/// Longest the timers sleep without looking.
const LOOK_MAX: Duration = Duration::from_mins(1);

/// Running threads; stopped and joined when dropped.
pub(super) struct Threads {
    broker: Arc<Broker>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub(super) fn start(broker: &Arc<Broker>, dispatcher: Dispatcher) -> io::Result<Self> {
        let threads = Self { broker: Arc::clone(broker), handles: Mutex::default() };
        threads.spawn("queue-dispatch", move |broker| dispatch(broker, dispatcher))?;
        if broker.options.timer_thread {
            threads.spawn("queue-timer", run_timers)?;
            threads.spawn("queue-acks", run_checkpoints)?;
            threads.spawn("queue-keeper", run_keeper)?;
            threads.spawn("queue-keys", run_keys)?;
        }
        Ok(threads)
    }

    fn spawn(&self, name: &str, job: impl FnOnce(&Broker) + Send + 'static) -> io::Result<()> {
        let broker = Arc::clone(&self.broker);
        let handle = Builder::new().name(name.into()).spawn(move || job(&broker))?;
        self.handles.lock().push(handle);
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.broker.bells.stop();
        for handle in std::mem::take(&mut *self.handles.lock()) {
            // A waker can drop the last clone of the queue on one of these threads; it ends by itself.
            let own = handle.thread().id() == crate::sync::thread::current().id();
            if !own && handle.join().is_err() {
                tracing::error!("a queue thread panicked");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn dispatch(broker: &Broker, mut dispatcher: Dispatcher) {
    while !broker.bells.stopping() {
        match broker.dispatch(&mut dispatcher) {
            Ok(true) => {}
            Ok(false) => {
                let full = broker.index_full.load(Ordering::Relaxed);
                broker.bells.dispatch.wait(full.then_some(RETRY));
            }
            // Everything was verified at the start: it changed under the process. The next start says where.
            Err(DispatchError::Log(error)) => {
                return broker.log.poison("cannot read what is durable", &io::Error::other(error));
            }
            Err(error @ DispatchError::Index(_)) => {
                tracing::error!(%error, "messages cannot be indexed; they are delivered once they can");
                broker.bells.dispatch.wait(Some(RETRY));
            }
        }
    }
}

fn run_timers(broker: &Broker) {
    while !broker.bells.stopping() {
        broker.tick();
        loop {
            let wait_ms = broker.planned_ms.load(Ordering::Acquire).saturating_sub(broker.clock.now_ms());
            if wait_ms == 0 || broker.bells.stopping() {
                break;
            }
            broker.bells.timer.wait(Some(LOOK_MAX.min(Duration::from_millis(wait_ms))));
        }
    }
}

fn run_keys(broker: &Broker) {
    while !broker.bells.stopping() && !broker.bells.poisoned.load(Ordering::Acquire) {
        let started = Instant::now();
        if let Err(error) = broker.keep_keys() {
            tracing::warn!(%error, "the key index is behind; it goes on when it can");
            // It is rung for whatever comes.
            while !broker.bells.stopping() && started.elapsed() < KEYS_RETRY {
                broker.bells.keys.wait(Some(KEYS_RETRY.saturating_sub(started.elapsed())));
            }
        } else {
            broker.bells.keys.wait(None);
        }
    }
}

fn run_checkpoints(broker: &Broker) {
    let interval = Duration::from_millis(broker.options.ack_sync_ms);
    while !broker.bells.stopping() {
        let started = Instant::now();
        match broker.checkpoint(false) {
            Ok(()) => {}
            Err(CheckpointError::LogStopped) => return,
            Err(error @ CheckpointError::Io(_)) => {
                tracing::warn!(%error, "acknowledgements are not checkpointed");
                broker.bells.checkpoint.wait(Some(RETRY));
            }
        }
        while !broker.bells.stopping() {
            let changed =
                broker.acks_changed.load(Ordering::Acquire) || broker.catalog_changed.load(Ordering::Acquire);
            let rest = interval.saturating_sub(started.elapsed());
            if changed && rest.is_zero() {
                break;
            }
            broker.bells.checkpoint.wait(changed.then_some(rest));
        }
    }
}

fn run_keeper(broker: &Broker) {
    let mut looked = Instant::now();
    while !broker.bells.stopping() {
        let due = broker.next_snapshot.load(Ordering::Relaxed);
        let made = if broker.dispatched().0 >= due { broker.snapshot() } else { Ok(()) };
        // Also when none could be made: it may be for want of the space that this gives back.
        let deleted = if looked.elapsed() >= KEEP_EVERY {
            looked = Instant::now();
            broker.delete_unheld().map(drop)
        } else {
            Ok(())
        };
        match made.and(deleted) {
            Ok(()) => broker.bells.keeper.wait(Some(KEEP_EVERY.saturating_sub(looked.elapsed()))),
            Err(CheckpointError::LogStopped) => return,
            Err(error @ CheckpointError::Io(_)) => {
                tracing::warn!(%error, "no snapshot is made, or old segments are not deleted");
                // Nobody rings for one until then.
                let next = broker.next_snapshot.swap(u64::MAX, Ordering::Relaxed);
                broker.bells.keeper.wait(Some(KEEP_RETRY));
                broker.next_snapshot.store(next, Ordering::Relaxed);
            }
        }
    }
}
