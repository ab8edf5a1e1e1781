//! Closes connections whose clients keep the gateway waiting, and sends quiet ones to sleep: one sweep a core instead of
//! one timer a request.

use super::activity::Activity;
use super::connection::Side;
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

/// HTTP/2 connections of a core; above, silent ones are told to leave. They cannot be taken apart and hold about 40 KiB each.
pub(super) const MULTIPLEXED_MAX: usize = 256;
/// … with those that were told to leave and have not gone yet; above, a new one is closed.
const MULTIPLEXED_LIMIT: usize = 384;
/// Connections that are looked at when one has to make room.
const LOOKS: usize = 64;

/// Sweeps since the start.
pub(super) type Ticks = u32;

/// All connections of one core.
#[derive(Debug)]
pub struct Watchdog {
    now: Cell<Ticks>,
    header_ticks: Cell<Ticks>,
    idle_ticks: Cell<Ticks>,
    watched: RefCell<slab::Slab<(Rc<Activity>, AbortHandle)>>,
    multiplexed: RefCell<slab::Slab<Rc<Activity>>>,
    /// All keys of `watched` are below.
    keys: Cell<usize>,
    connections: Cell<u64>,
    /// Where the next search for room begins.
    hand: Cell<usize>,
}

impl Watchdog {
    /// With the configured bounds.
    pub fn new(header_timeout: Duration, idle_timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(0),
            header_ticks: Cell::new(ticks(header_timeout)),
            idle_ticks: Cell::new(ticks(idle_timeout)),
            watched: RefCell::default(),
            multiplexed: RefCell::default(),
            keys: Cell::new(0),
            connections: Cell::new(0),
            hand: Cell::new(0),
        })
    }

    /// Other bounds, for the connections that are open too.
    pub fn set_bounds(&self, header_timeout: Duration, idle_timeout: Duration) {
        self.header_ticks.set(ticks(header_timeout));
        self.idle_ticks.set(ticks(idle_timeout));
    }

    /// From now on `task` is aborted when `activity` is overdue; answers the key for [`Self::forget`].
    pub(super) fn watch(&self, activity: Rc<Activity>, task: AbortHandle) -> usize {
        let key = self.watched.borrow_mut().insert((activity, task));
        self.keys.set(self.keys.get().max(key + 1));
        key
    }

    /// The connection has ended.
    pub(super) fn forget(&self, key: usize) {
        self.watched.borrow_mut().try_remove(key);
    }

    /// Whether no connection is open on this core.
    pub fn is_empty(&self) -> bool {
        self.watched.borrow().is_empty()
    }

    /// Ends the most dispensable connection of this listener, of some that are looked at: a flood
    /// of silent connections must not lock out those who ask. `false`: all of these are busy.
    pub(super) fn make_room(&self, side: Side) -> bool {
        let watched = self.watched.borrow();
        let from = self.hand.get();
        self.hand.set(from.wrapping_add(LOOKS));
        let keys = self.keys.get().max(1);
        let looked_at = (0..LOOKS.min(keys))
            .filter_map(|step| watched.get(from.wrapping_add(step) % keys))
            .filter(|(activity, _)| activity.side() == side);
        let least = looked_at
            .filter_map(|one| Some((one.0.silence()?, one)))
            .max_by(|one, other| one.0.cmp(&other.0));
        let Some((_, (activity, task))) = least else { return false };
        activity.leave();
        task.abort();
        true
    }

    /// How many connections came before this one.
    pub(super) fn next_number(&self) -> u64 {
        self.connections.replace(self.connections.get() + 1)
    }

    /// Takes one more HTTP/2 connection; answers its key for [`Self::forget_multiplexed`]. When there are too many, the
    /// most dispensable one is told to leave. `None`: all are busy, or too many have not left yet.
    pub(super) fn admit_multiplexed(&self, activity: &Rc<Activity>) -> Option<usize> {
        let mut multiplexed = self.multiplexed.borrow_mut();
        if multiplexed.len() >= MULTIPLEXED_LIMIT {
            return None;
        }
        if multiplexed.len() >= MULTIPLEXED_MAX {
            let idle = multiplexed.iter().filter_map(|(_, one)| Some((one.silence()?, one)));
            idle.max_by(|one, other| one.0.cmp(&other.0))?.1.leave();
        }
        Some(multiplexed.insert(activity.clone()))
    }

    /// The HTTP/2 connection has ended.
    pub(super) fn forget_multiplexed(&self, key: usize) {
        self.multiplexed.borrow_mut().try_remove(key);
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
