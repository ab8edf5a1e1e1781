//! Errands that are due, waiting for a free connection of their thread. Bounded; what does not fit is refused.

use super::errand::Due;
use std::cell::RefCell;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// First in, first out, within one thread.
pub(crate) struct Ready {
    queue: RefCell<VecDeque<Due>>,
    free: Notify,
    len_max: usize,
}

impl Ready {
    pub(crate) fn new(len_max: usize) -> Self {
        Self { queue: RefCell::default(), free: Notify::new(), len_max }
    }

    /// False when full: the errand is not taken.
    #[must_use]
    pub(crate) fn push(&self, due: Due) -> bool {
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= self.len_max {
            return false;
        }
        queue.push_back(due);
        drop(queue);
        self.free.notify_one();
        true
    }

    /// The next errand. Cancel-safe.
    pub(crate) async fn pop(&self) -> Due {
        loop {
            if let Some(due) = self.take() {
                return due;
            }
            self.free.notified().await;
        }
    }

    fn take(&self) -> Option<Due> {
        self.queue.borrow_mut().pop_front()
    }
}
