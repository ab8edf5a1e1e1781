//! How much a group has before it, for readers that must not take its lock: whoever has held the lock of a watched
//! group leaves the figures behind.

use super::GroupState;
use crate::QUEUES_MAX;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// Figures of one group as they were when its lock was last left. Each is exact by itself; two that are read one after
/// the other may be of two moments.
pub struct GroupLoad {
    /// By number of the queue.
    done: Box<[AtomicU64]>,
    queues: AtomicU64,
    leased: AtomicU64,
    receivers: AtomicU64,
}

impl fmt::Debug for GroupLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupLoad").field("leased", &self.leased()).finish_non_exhaustive()
    }
}

impl Default for GroupLoad {
    /// Of a group that has seen nothing.
    fn default() -> Self {
        Self {
            done: (0..QUEUES_MAX).map(|_| AtomicU64::new(0)).collect(),
            queues: AtomicU64::new(1),
            leased: AtomicU64::new(0),
            receivers: AtomicU64::new(0),
        }
    }
}

impl GroupLoad {
    /// Messages of one queue that are acknowledged, dropped or dead, or that the group never had to see. The queue's
    /// next offset less this is what the group is still owed.
    pub fn done(&self, queue: usize) -> u64 {
        self.done.get(queue).map_or(0, |done| done.load(Ordering::Acquire))
    }

    /// Queues of the topic, as far as the group has seen.
    pub fn queues(&self) -> u64 {
        self.queues.load(Ordering::Relaxed)
    }

    /// Messages under lease.
    pub fn leased(&self) -> u64 {
        self.leased.load(Ordering::Relaxed)
    }

    /// Receives that wait for a message.
    pub fn receivers(&self) -> u64 {
        self.receivers.load(Ordering::Relaxed)
    }

    fn take(&self, state: &GroupState) {
        let mut leased = 0;
        for (done, progress) in self.done.iter().zip(&state.queues) {
            done.store(progress.done(), Ordering::Release);
            leased += progress.leased() as u64;
        }
        self.queues.store(state.queues.len().max(1) as u64, Ordering::Relaxed);
        self.leased.store(leased, Ordering::Relaxed);
        self.receivers.store(state.waiters.waiting() as u64, Ordering::Relaxed);
    }
}

/// A group's state under its lock, and its figures beside it once somebody has asked for them.
pub(crate) struct Watched {
    state: Mutex<GroupState>,
    load: OnceLock<Arc<GroupLoad>>,
}

impl Watched {
    pub(crate) fn new(state: GroupState) -> Self {
        Self { state: Mutex::new(state), load: OnceLock::new() }
    }

    pub(crate) fn lock(&self) -> Held<'_> {
        Held { state: self.state.lock(), load: &self.load }
    }

    /// The figures, kept from here on.
    pub(crate) fn watch(&self) -> Arc<GroupLoad> {
        let load = Arc::clone(self.load.get_or_init(Arc::default));
        // Whoever held the lock when this was called may not have seen that it is watched.
        drop(self.lock());
        load
    }
}

/// The lock of a group. Leaves the figures behind.
pub(crate) struct Held<'a> {
    state: MutexGuard<'a, GroupState>,
    load: &'a OnceLock<Arc<GroupLoad>>,
}

impl Deref for Held<'_> {
    type Target = GroupState;

    fn deref(&self) -> &GroupState {
        &self.state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut GroupState {
        &mut self.state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(load) = self.load.get() {
            load.take(&self.state);
        }
    }
}
