//! Closes connections whose clients keep the gateway waiting, and sends quiet ones to sleep: one sweep a core instead of
//! one timer a request.

use super::activity::Activity;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Between two sweeps; times are exact to this.
const TICK: Duration = Duration::from_millis(250);
/// Sweeps after which a quiet connection gives its buffers back: two seconds.
const QUIET_TICKS: u32 = 8;
/// With more connections on a core they give their buffers back as soon as they are quiet: what those of one core hold
/// for nothing is bounded, at about 20 KiB each.
pub(super) const AWAKE_MAX: usize = 512;

/// Sweeps since the start.
pub(super) type Ticks = u32;

/// All connections of one core.
#[derive(Debug)]
pub struct Watchdog {
    now: Cell<Ticks>,
    header_ticks: Cell<Ticks>,
    idle_ticks: Cell<Ticks>,
    watched: RefCell<slab::Slab<(Rc<Activity>, AbortHandle)>>,
}

impl Watchdog {
    /// With the configured bounds.
    pub fn new(header_timeout: Duration, idle_timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(0),
            header_ticks: Cell::new(ticks(header_timeout)),
            idle_ticks: Cell::new(ticks(idle_timeout)),
            watched: RefCell::default(),
        })
    }

    /// Other bounds, for the connections that are open too.
    pub fn set_bounds(&self, header_timeout: Duration, idle_timeout: Duration) {
        self.header_ticks.set(ticks(header_timeout));
        self.idle_ticks.set(ticks(idle_timeout));
    }

    /// From now on `task` is aborted when `activity` is overdue; answers the key for [`Self::forget`].
    pub(super) fn watch(&self, activity: Rc<Activity>, task: AbortHandle) -> usize {
        self.watched.borrow_mut().insert((activity, task))
    }

    /// The connection has ended.
    pub(super) fn forget(&self, key: usize) {
        self.watched.borrow_mut().try_remove(key);
    }

    /// Whether no connection is open on this core.
    pub fn is_empty(&self) -> bool {
        self.watched.borrow().is_empty()
    }

    /// Sweeps until dropped. `before_each` may set other bounds.
    pub async fn run(self: Rc<Self>, before_each: impl Fn(&Self)) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            before_each(&self);
            self.sweep();
        }
    }

    pub(super) fn sweep(&self) {
        self.now.set(self.now.get().wrapping_add(1));
        for (_, (activity, task)) in self.watched.borrow().iter() {
            if activity.is_overdue() {
                task.abort();
            } else {
                activity.tell_if_quiet();
            }
        }
    }

    pub(super) fn header_ticks(&self) -> Ticks {
        self.header_ticks.get()
    }

    pub(super) fn idle_ticks(&self) -> Ticks {
        self.idle_ticks.get()
    }

    pub(super) fn now(&self) -> Ticks {
        self.now.get()
    }

    pub(super) fn elapsed(&self, since: Ticks) -> Ticks {
        self.now.get().wrapping_sub(since)
    }

    /// How long a connection keeps its buffers for nothing.
    pub(super) fn quiet_ticks(&self) -> Ticks {
        if self.watched.borrow().len() > AWAKE_MAX { 0 } else { QUIET_TICKS }
    }
}

fn ticks(time: Duration) -> Ticks {
    time.as_millis().div_ceil(TICK.as_millis()).max(1) as Ticks
}
