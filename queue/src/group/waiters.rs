//! Receives that wait for work of one group. A wake-up given to a waiter that goes away without having
//! looked is passed on, so none is lost.

use std::collections::{BTreeMap, HashSet};
use std::task::Waker;

use smallvec::SmallVec;

/// Waiting receives of one group, at most.
pub(crate) const WAITERS_MAX: usize = 10_000;

/// Wakers to call once the group's lock is free.
pub(crate) type Wakers = SmallVec<[Waker; 4]>;

/// Too many waiting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// By number, which is the order of arrival.
    waiting: BTreeMap<u64, Waker>,
    /// Woken, and not seen since.
    woken: HashSet<u64>,
    arrivals: u64,
}

impl Waiters {
    /// Registers, or renews the registration `id` at its old place in the line.
    pub(crate) fn register(&mut self, id: Option<u64>, waker: &Waker) -> Result<u64, Full> {
        let id = match id {
            Some(id) => {
                self.woken.remove(&id);
                id
            }
            None if self.waiting.len() + self.woken.len() >= WAITERS_MAX => return Err(Full),
            None => {
                self.arrivals += 1;
                self.arrivals
            }
        };
        match self.waiting.get_mut(&id) {
            Some(present) => present.clone_from(waker),
            None => drop(self.waiting.insert(id, waker.clone())),
        }
        Ok(id)
    }

    /// Takes the `count` that wait longest.
    pub(crate) fn wake(&mut self, count: u64) -> Wakers {
        let mut wakers = Wakers::new();
        for _ in 0..count {
            let Some((id, waker)) = self.waiting.pop_first() else { break };
            self.woken.insert(id);
            wakers.push(waker);
        }
        wakers
    }

    /// Those that wait and have not been woken.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Leaves the line. True when it had been woken and did not look.
    pub(crate) fn leave(&mut self, id: u64) -> bool {
        self.waiting.remove(&id);
        self.woken.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_waiting_is_woken_first_and_keeps_its_place() {
        let mut waiters = Waiters::default();
        let first = waiters.register(None, Waker::noop()).unwrap();
        let second = waiters.register(None, Waker::noop()).unwrap();
        assert_eq!(waiters.wake(1).len(), 1);
        waiters.register(Some(first), Waker::noop()).unwrap();
        assert_eq!(waiters.wake(1).len(), 1);
        assert!(waiters.leave(first), "woken again before the younger one");
        assert!(!waiters.leave(second));
        assert!(waiters.wake(1).is_empty());
    }

    #[test]
    fn the_line_is_bounded() {
        let mut waiters = Waiters::default();
        for _ in 0..WAITERS_MAX {
            waiters.register(None, Waker::noop()).unwrap();
        }
        assert_eq!(waiters.register(None, Waker::noop()), Err(Full));
        assert!(waiters.register(Some(3), Waker::noop()).is_ok());
    }
}
