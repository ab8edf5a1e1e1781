//! Wakes a parked thread. A ring before the wait is not lost.

use crate::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock();
        if !*rung {
            *rung = true;
            self.ring.notify_one();
        }
    }

    /// Waits for a ring, at most `timeout` when there is one; takes it.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        let mut rung = self.rung.lock();
        match timeout {
            Some(timeout) => {
                self.ring.wait_while_for(&mut rung, |rung| !*rung, timeout);
            }
            None => self.ring.wait_while(&mut rung, |rung| !*rung),
        }
        *rung = false;
    }
}
