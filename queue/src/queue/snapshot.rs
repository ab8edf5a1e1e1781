//! Making a snapshot of what is derived from the log, and starting from one.
//!
//! Nothing stops while a snapshot is made: `at` is read first, each part is captured after it, under its own lock.
//! A start takes the parts over and dispatches the log from `at` again. What it meets then may be in the parts
//! already, so every part must come to the same when it is told a second time, and must hold what only records
//! below `at` say:
//!
//! - Index: entries at or after `at` may be in it. A message whose entry is there gets no second one; its deadline and
//!   its delivery are noted again all the same.
//! - Delays: one that was put in by a record below `at` is in the capture unless its delivery was dispatched: until
//!   then it is known, also while the timers have it in their hands. Put in again, it stays as it is; carried again,
//!   it comes to the same place; taken out again: nothing.
//! - Half messages: opened, checked and decided count once (`Halves::apply`), and what was decided first stays.
//! - Producers: the first of a number stays, and a number at or below one that was forgotten stays forgotten. They are
//!   noted by who appends, in the appender's lock; so the capture waits for whoever is in it.
//! - Deadlines are not in it: a start looks at what groups are owed below `at`, from the index and the log.
//! - Groups have their own checkpoint.
//!
//! Half messages and producers are noted when the log accepts them, so a capture may hold what is not on disk yet.
//! The snapshot waits for that.

use super::CheckpointError;
use super::broker::{Broker, CatchUp, io_error};
use super::topic::Topics;
use crate::group::progress::Progress;
use crate::log::OpenError;
use crate::snapshot::{self, Body, Snapshot};
use crate::storage::Storage;
use crate::sync::atomic::Ordering;
use crate::{Position, log::FIRST_POSITION};
use std::path::Path;
use std::sync::Arc;

/// Entries looked at for deadlines before a start is done; more are looked at by the timers.
const CATCH_UP_AT_START: u64 = 65_536;

/// Which snapshots are on disk.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    pub(super) newest: Option<Position>,
    /// The log is kept from here on, in case the newest is damaged.
    pub(super) older: Option<Position>,
    /// A deletion was begun and has not removed everything.
    pub(super) leftovers: bool,
}

/// How far a start has come by a snapshot.
pub(super) struct Resumed {
    /// What lies from here on has to be dispatched.
    pub(super) from: Position,
    /// The index has to be made again.
    pub(super) rebuild: bool,
    /// What a snapshot knows of the queues' ends: topic, queue, end. Not all of their messages may be kept.
    ends: Vec<(String, u32, u64)>,
}

impl Broker {
    /// Makes a snapshot, unless nothing came since the last one. Blocks until the log is on disk as far as the
    /// snapshot rests on it.
    pub(super) fn snapshot(&self) -> Result<(), CheckpointError> {
        let mut snapshots = self.snapshots.lock();
        if snapshots.newest == Some(self.dispatched()) {
            return Ok(());
        }
        self.make_snapshot(&mut snapshots)
    }

    /// Makes one also when nothing came: the older one then holds the log no longer.
    pub(super) fn make_snapshot(&self, snapshots: &mut Snapshots) -> Result<(), CheckpointError> {
        let at = self.dispatched();
        // Who appended something below `at` has noted its number before it leaves this lock, and no dispatch after a start
        // notes that again.
        drop(self.appender.lock());
        let topics = self.topics.all();
        let mut indexes = Vec::with_capacity(topics.len());
        for topic in &topics {
            let states = topic.queues().iter().map(|queue| queue.prove()).collect::<Result<_, _>>()?;
            indexes.push((&*topic.name, states));
        }
        let mut body = Body::new(&indexes);
        // In pieces, so that nobody waits for a million of them.
        let held = self.delays.lock().held();
        body.delays(held, |number, each| self.delays.lock().piece(number, each));
        self.halves.lock().encode(&mut body.0);
        self.producers.lock().encode(&mut body.0);
        self.wait_on_disk()?;
        snapshot::store(self.storage.as_ref(), self.log.log_id(), at, &body.0)?;
        snapshots.older = snapshots.newest.or(snapshots.older);
        snapshots.newest = Some(at);
        self.next_snapshot.store(at.0.saturating_add(self.policies.snapshot_every_bytes), Ordering::Relaxed);
        Ok(())
    }

    /// Everything that is accepted now is on disk; in async mode it is synced at once.
    pub(super) fn wait_on_disk(&self) -> Result<(), CheckpointError> {
        self.log.wait_synced(self.log.end()).map_err(|_| CheckpointError::LogStopped)
    }

    /// Takes over what was chosen. Nothing of it may lie behind the log's end: it then speaks of another past.
    pub(super) fn resume(&mut self, chosen: Choice) -> Result<Resumed, OpenError> {
        let (start, end) = (self.log.start(), self.log.recovered().end);
        let mut chosen = chosen;
        if chosen.found.iter().any(|snapshot| snapshot.at > end) {
            forget_index(&self.topics);
            chosen = Choice::look(self.storage.as_ref(), &self.topics, self.log.log_id(), start, end)?;
        }
        let Choice { found, good, newest, older } = chosen;
        *self.snapshots.get_mut() = Snapshots { newest, older, leftovers: false };
        let mut resumed = Resumed { from: start, rebuild: good.is_none(), ends: Vec::new() };
        if let Some(mut snapshot) = found.into_iter().nth(good.unwrap_or(0)) {
            if good.is_some() {
                resumed.from = snapshot.at;
            } else {
                for (topic, queues) in &snapshot.topics {
                    let ends = (0..).zip(queues).map(|(queue, state)| (topic.clone(), queue, state.end));
                    resumed.ends.extend(ends);
                }
                // They all stand in the log, which is read from its beginning: so none comes back that is there no more, and
                // each finds its place in their order at once.
                snapshot.delays.clear();
            }
            self.take_over(snapshot)?;
        }
        *self.dispatched.get_mut() = resumed.from;
        let next = newest.unwrap_or(start).0.saturating_add(self.policies.snapshot_every_bytes);
        self.next_snapshot.store(next, Ordering::Relaxed);
        Ok(resumed)
    }

    fn take_over(&mut self, snapshot: Snapshot) -> Result<(), OpenError> {
        for (name, states) in &snapshot.topics {
            self.topics.put(name, states.len() as u32).map_err(OpenError::Invalid)?;
        }
        let delays = self.delays.get_mut();
        // As the log would tell them.
        let mut delayed = snapshot.delays;
        delayed.sort_unstable_by_key(|pending| pending.position);
        for pending in delayed {
            delays.restore(pending);
        }
        self.half_bytes.store(snapshot.halves.bytes(), Ordering::Relaxed);
        *self.halves.get_mut() = snapshot.halves;
        *self.producers.get_mut() = snapshot.producers;
        self.size_reserve(&self.delays.lock());
        Ok(())
    }

    /// After the log was dispatched: what it no longer says, because its beginning was deleted.
    pub(super) fn settle_start(&mut self, resumed: &Resumed) -> Result<(), OpenError> {
        let start = self.log.start();
        if resumed.rebuild {
            self.restore_ends(&resumed.ends);
        }
        for topic in self.topics.all().iter().filter(|_| start > FIRST_POSITION) {
            for queue in topic.queues() {
                let moved = queue.first_at(start).and_then(|oldest| {
                    queue.raise_oldest(oldest);
                    queue.trim()
                });
                moved.map_err(|error| io_error(Path::new("consumequeue"), error))?;
            }
        }
        Ok(())
    }

    /// A queue whose messages are all deleted goes on where it was; the groups know as well how far that is.
    fn restore_ends(&self, ends: &[(String, u32, u64)]) {
        if self.log.start() == FIRST_POSITION {
            return;
        }
        let begin = |name: &str, number: u32, end: u64| {
            let queue = self.topics.get(name).and_then(|topic| topic.queue(number));
            if let Some(queue) = queue.filter(|queue| queue.oldest() == queue.end() && queue.end() < end) {
                queue.begin_at(end);
            }
        };
        for (name, queue, end) in ends {
            begin(name, *queue, *end);
        }
        for topic in self.topics.all() {
            for group in topic.groups() {
                let state = group.state.lock();
                for (number, progress) in (0..).zip(&state.queues) {
                    begin(&topic.name, number, progress.floor());
                }
            }
        }
    }

    /// Looks for deadlines of what groups are owed below `at`, from where the log was not read.
    pub(super) fn find_deadlines(&mut self, resumed: &Resumed) {
        if resumed.rebuild {
            return;
        }
        for topic in self.topics.all() {
            let groups = topic.groups();
            for (number, queue) in (0..).zip(topic.queues()) {
                let floor = |state: &crate::group::GroupState| {
                    state.queues.get(number as usize).map_or(queue.oldest(), Progress::floor)
                };
                let Some(next) = groups.iter().map(|group| floor(&group.state.lock())).min() else {
                    continue;
                };
                let (next, end) = (next.max(queue.oldest()), queue.deadlines_end());
                if next < end {
                    let (topic, queue) = (topic.id, number);
                    self.catch_ups.get_mut().push_back(CatchUp { topic, group: None, queue, next, end });
                }
            }
        }
        let mut looked = 0;
        while looked < CATCH_UP_AT_START && !self.catch_ups.get_mut().is_empty() {
            looked += self.catch_groups_up().max(1);
        }
    }

    /// Everything below is in the index and the timers.
    pub(super) fn dispatched(&self) -> Position {
        *self.dispatched.lock()
    }
}

/// Which snapshot a start goes on from: the newest whose index is what stands on disk. Without one the newest all the
/// same, but for the index, which is then made again from the log.
#[derive(Default)]
pub(super) struct Choice {
    /// Those that can be read, newest first.
    found: Vec<Snapshot>,
    good: Option<usize>,
    newest: Option<Position>,
    older: Option<Position>,
}

impl Choice {
    /// Looks at what there is for the log of this id, from `start` to `end`. The index of the one that is chosen is
    /// taken over.
    pub(super) fn look(
        storage: &dyn Storage,
        topics: &Topics,
        log_id: u64,
        start: Position,
        end: Position,
    ) -> Result<Self, OpenError> {
        let found = snapshot::load(storage, log_id, end)?;
        let at = |snapshot: &Option<Snapshot>| snapshot.as_ref().map(|snapshot| snapshot.at);
        let (newest, older) = (at(&found.newest), at(&found.older));
        let found: Vec<Snapshot> = found.newest.into_iter().chain(found.older).collect();
        let mut good = None;
        for (index, snapshot) in found.iter().enumerate() {
            if snapshot.at >= start && resume_index(topics, snapshot, start)? {
                good = Some(index);
                break;
            }
            forget_index(topics);
            tracing::warn!(at = %snapshot.at, "the index is not as the snapshot says; more of the log is read again");
        }
        Ok(Self { found, good, newest, older })
    }

    /// The log is read from here on.
    pub(super) fn from(&self) -> Option<Position> {
        self.good.map(|index| self.found[index].at)
    }
}

fn forget_index(topics: &Topics) {
    topics.all().iter().flat_map(|topic| topic.queues()).for_each(|queue| queue.forget());
}

fn resume_index(topics: &Topics, snapshot: &Snapshot, start: Position) -> Result<bool, OpenError> {
    for (name, states) in &snapshot.topics {
        let (topic, _) = topics.put(name, states.len() as u32).map_err(OpenError::Invalid)?;
        for (queue, state) in topic.queues().iter().zip(states) {
            let as_it_was = queue.resume(state, start);
            if !as_it_was.map_err(|error| io_error(Path::new("consumequeue"), error))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// What a catch-up is for: one group, or all of the topic.
pub(super) fn groups_of(broker: &Broker, catch_up: &CatchUp) -> Vec<Arc<crate::group::Group>> {
    match &catch_up.group {
        Some(group) => vec![Arc::clone(group)],
        None => broker.topics.by_id(catch_up.topic).map_or_else(Vec::new, |topic| topic.groups()),
    }
}
