//! Consumer groups: who has seen what. State in memory, written to a checkpoint from time to time.
//!
//! ```text
//! ranges    sets of offsets
//! reports   what the owner has still to settle
//! progress  state machine of one queue in one group
//! order     lines of equal ordering keys
//! receipt   text form of a lease
//! load      how much a group has before it, without its lock
//! waiters   receives that wait for work
//! checkpoint  all groups' progress in one file
//! ```

pub(crate) mod checkpoint;
pub(crate) mod load;
pub(crate) mod order;
pub(crate) mod progress;
pub(crate) mod ranges;
pub(crate) mod receipt;
pub(crate) mod reports;
pub(crate) mod waiters;

#[cfg(test)]
mod tests;

use load::Watched;
use progress::Progress;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use waiters::{Waiters, Wakers};

/// What was configured for a group; kept in the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupConfig {
    /// First offset to see, per queue; queues that came later are seen from their first message.
    pub starts: Vec<u64>,
    pub attempts_max: Option<u32>,
    pub retry_delays_ms: Option<Vec<u64>>,
    /// Of each ordering key one message at a time.
    #[serde(default)]
    pub ordered: bool,
}

/// A consumer group of a topic.
pub(crate) struct Group {
    pub topic: Arc<str>,
    pub name: Arc<str>,
    /// Of topic and name; in receipts.
    pub hash: u32,
    pub state: Watched,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("topic", &self.topic).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Everything that changes, under the group's one lock.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    pub config: GroupConfig,
    pub queues: Vec<Progress>,
    pub waiters: Waiters,
    /// Queue that the next receive starts with.
    pub first_queue: usize,
    pub lease_number: u32,
    pub acked: u64,
    pub delivered: u64,
    /// A receive found work that it had no room to lease.
    pub starved: bool,
    /// The index could not be read; when those who wait look again.
    pub look_again_ms: Option<u64>,
    /// Last receive, acknowledgement, reset or redrive, clock's Unix ms.
    pub active_ms: u64,
}

impl Group {
    pub(crate) fn new(topic: Arc<str>, name: Arc<str>, config: GroupConfig) -> Self {
        let hash = crc32c::crc32c_append(crc32c::crc32c(topic.as_bytes()), format!("/{name}").as_bytes());
        Self { topic, name, hash, state: Watched::new(GroupState { config, ..GroupState::default() }) }
    }

    /// Calls `wakers` after the lock is free.
    pub(crate) fn wake(&self, count: u64) {
        let wakers = self.state.lock().waiters.wake(count);
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

impl GroupState {
    /// Makes room for the queues of the topic.
    pub(crate) fn grow(&mut self, queues: usize) {
        while self.queues.len() < queues {
            let start = self.config.starts.get(self.queues.len()).copied().unwrap_or(0);
            self.queues.push(Progress::new(start));
        }
    }

    pub(crate) fn next_lease_number(&mut self) -> u32 {
        self.lease_number = self.lease_number.wrapping_add(1);
        self.lease_number
    }

    /// Nothing is owed to the group for this message.
    pub(crate) fn is_done(&self, queue: u32, offset: u64) -> bool {
        match self.queues.get(queue as usize) {
            Some(progress) => progress.is_done(offset),
            None => offset < self.config.starts.get(queue as usize).copied().unwrap_or(0),
        }
    }

    /// How many messages may go since the last call, because the one before them in line is settled.
    pub(crate) fn take_released(&mut self) -> usize {
        self.queues.iter_mut().map(Progress::take_released).sum()
    }

    /// Room came back: those who were refused for lack of it may look again.
    pub(crate) fn wake_starved(&mut self) -> Wakers {
        if self.starved && self.queues.iter().all(Progress::has_room) {
            self.starved = false;
            return self.waiters.wake(u64::MAX);
        }
        Wakers::new()
    }
}

/// A registered waiter of `poll_receive`. Dropping it leaves the line.
pub struct WaitSlot {
    group: Arc<Group>,
    id: u64,
}

impl fmt::Debug for WaitSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSlot").field("group", &self.group).field("id", &self.id).finish()
    }
}

impl WaitSlot {
    pub(crate) fn new(group: Arc<Group>, id: u64) -> Self {
        Self { group, id }
    }

    /// Its number in the group's line.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn waits_for(&self, group: &Arc<Group>) -> bool {
        Arc::ptr_eq(&self.group, group)
    }
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.group.state.lock();
            if state.waiters.leave(self.id) { state.waiters.wake(1) } else { Wakers::new() }
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}
