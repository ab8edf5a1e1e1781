//! Who waits for news of a ticket: long polls, `Prefer: wait`, event streams.
//!
//! Bounded: beyond `waiters_max` a poll is answered at once with the ticket as it stands.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate_stock::TicketId;
use tokio::sync::Notify;

const SHARDS: usize = 16;

/// All waiters of a gateway.
#[derive(Debug)]
pub struct TicketWatch {
    waiters_max: usize,
    waiting: AtomicUsize,
    shards: [Mutex<HashMap<TicketId, Waited>>; SHARDS],
}

#[derive(Debug)]
struct Waited {
    notify: Arc<Notify>,
    watchers: usize,
}

/// One waiter's registration. Create it BEFORE looking the ticket up, so that no change falls between.
#[derive(Debug)]
pub struct Watcher<'a> {
    watch: &'a TicketWatch,
    ticket: TicketId,
    notify: Arc<Notify>,
}

impl TicketWatch {
    /// At most `waiters_max` at once.
    pub fn new(waiters_max: usize) -> Self {
        Self {
            waiters_max,
            waiting: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        }
    }

    /// Whether anybody waits for anything. One load: transitions without watchers pay no more.
    pub fn is_watched(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Registers; `None` when there are too many.
    pub fn watch(&self, ticket: TicketId) -> Option<Watcher<'_>> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.waiters_max {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let mut shard = self.shard(ticket).lock();
        let waited =
            shard.entry(ticket).or_insert_with(|| Waited { notify: Arc::new(Notify::new()), watchers: 0 });
        waited.watchers += 1;
        Some(Watcher { watch: self, ticket, notify: waited.notify.clone() })
    }

    /// Wakes all who wait for this ticket.
    pub fn notify(&self, ticket: TicketId) {
        if let Some(waited) = self.shard(ticket).lock().get(&ticket) {
            waited.notify.notify_waiters();
        }
    }

    /// Wakes everybody: the gateway shuts down.
    pub fn notify_all(&self) {
        for shard in &self.shards {
            for waited in shard.lock().values() {
                waited.notify.notify_waiters();
            }
        }
    }

    fn shard(&self, ticket: TicketId) -> &Mutex<HashMap<TicketId, Waited>> {
        &self.shards[ticket.0 as usize % SHARDS]
    }
}

impl Watcher<'_> {
    /// A future that completes at the next change after this call. Enable it (`Notified::enable`) before
    /// looking the ticket up.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let mut shard = self.watch.shard(self.ticket).lock();
        if let Some(waited) = shard.get_mut(&self.ticket) {
            waited.watchers -= 1;
            if waited.watchers == 0 {
                shard.remove(&self.ticket);
            }
        }
        drop(shard);
        self.watch.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
