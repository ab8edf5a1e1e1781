//! Who waits for checks of transactions. The queue knows one waker; behind it are all that wait, on every core.

use std::sync::Arc;
use std::task::{Wake, Waker};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Wakes all who wait for checks; each looks for those of its own producer group.
#[derive(Debug)]
pub struct CheckNews {
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_waiters();
    }
}

impl Default for CheckNews {
    fn default() -> Self {
        let bell = Arc::new(Bell::default());
        Self { waker: Waker::from(bell.clone()), bell }
    }
}

impl CheckNews {
    /// To hand to the queue with every look.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Completes when there may be more. Enable it (`Notified::enable`) before the look. Cancel safe.
    pub fn news(&self) -> Notified<'_> {
        self.bell.0.notified()
    }
}
