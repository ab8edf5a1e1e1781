//! Retention: what holds the log, and deleting what nothing holds.

use super::CheckpointError;
use super::broker::Broker;
use super::snapshot::Snapshots;
use crate::Position;
use crate::group::Group;
use crate::index::ConsumeQueue;
use crate::storage::is_no_space;
use crate::sync::Mutex;
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// Below which position the owner needs nothing; `None` until it has said so.
#[derive(Default)]
pub(super) struct OwnerHold(Mutex<Option<Position>>);

impl OwnerHold {
    fn release_below(&self, position: Position) {
        let mut released = self.0.lock();
        *released = (*released).max(Some(position));
    }
}

/// What holds the log from a position on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HeldBy {
    /// It was not looked yet.
    #[default]
    Unknown,
    /// It is younger than the retention time, or in the segment that is written.
    Age,
    /// The older of the two snapshots begins there: a start may need what follows. Also before there are two.
    Snapshot,
    /// The owner has not released it: see [`Queue::release_below`](super::Queue::release_below).
    Owner,
    /// A message that this group has not acknowledged.
    Group {
        /// Topic.
        topic: String,
        /// Group.
        group: String,
    },
    /// A drop or a dead letter of this group that the owner has not settled.
    Report {
        /// Topic.
        topic: String,
        /// Group.
        group: String,
    },
    /// A dead letter of this group: redrive it, or delete the group.
    DeadLetter {
        /// Topic.
        topic: String,
        /// Group.
        group: String,
    },
    /// A delayed message.
    Delayed,
    /// A half message that is not decided.
    Transaction,
}

/// How much is kept, and why not less.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keeping {
    /// What is below may be deleted.
    pub floor: Position,
    /// By what.
    pub held_by: HeldBy,
    /// Since when it is this, at this position; clock's Unix ms.
    pub since_ms: u64,
    /// Bytes of the log from its beginning to its end.
    pub kept_bytes: u64,
    /// Segments deleted since the start of the process.
    pub segments_deleted: u64,
}

/// The lowest position that is held, and by what.
struct Floor {
    position: Position,
    held_by: HeldBy,
}

impl Floor {
    fn hold(&mut self, position: Option<Position>, by: impl FnOnce() -> HeldBy) {
        if let Some(position) = position.filter(|position| *position < self.position) {
            *self = Self { position, held_by: by() };
        }
    }
}

impl Broker {
    pub(super) fn release_below(&self, position: Position) {
        self.owner_hold.release_below(position);
    }

    pub(super) fn keeping(&self) -> Keeping {
        let kept_bytes = self.log.end().0.saturating_sub(self.log.start().0);
        Keeping { kept_bytes, ..self.keeping.lock().clone() }
    }

    /// Deletes the segments that are old enough and that nothing holds. Answers how many went. Blocks on the disk.
    pub(super) fn delete_unheld(&self) -> Result<usize, CheckpointError> {
        let mut snapshots = self.snapshots.lock();
        let now_ms = self.clock.now_ms();
        let old = self.end_of_old(now_ms);
        let mut floor = self.floor(&snapshots, old, now_ms)?;
        for _ in 0..2 {
            if floor.held_by != HeldBy::Snapshot || snapshots.older >= Some(self.dispatched()) {
                break;
            }
            // All else has let go of it. Twice, and the older one has moved, too.
            match self.make_snapshot(&mut snapshots) {
                // What goes without one may make room for it.
                Err(CheckpointError::Io(error)) if is_no_space(&error) => {
                    tracing::warn!(%error, "no snapshot is made; what is deleted now is what lies below the older one");
                    break;
                }
                made => made?,
            }
            floor = self.floor(&snapshots, old, now_ms)?;
        }
        let start = self.log.segments().into_iter().rfind(|segment| segment.start <= floor.position);
        let start = start.map_or(Position(0), |segment| segment.start);
        self.note(floor, now_ms);
        // The log starts behind the header of its first segment: of that one there is nothing to delete.
        if start < self.log.start() && !snapshots.leftovers {
            return Ok(0);
        }
        // What let go of the log may rest on records that are not on disk yet: a delivery, a decision, what an
        // acknowledgement stands for. And a group must not come back with less acknowledged than is deleted.
        self.wait_on_disk()?;
        self.checkpoint(false)?;
        self.raise_queues(start)?;
        snapshots.leftovers = true;
        let removed = self.log.remove_below(start)?;
        for queue in self.topics.all().iter().flat_map(|topic| topic.queues()) {
            queue.trim()?;
        }
        snapshots.leftovers = false;
        self.keeping.lock().segments_deleted += removed as u64;
        if removed > 0 {
            tracing::info!(segments = removed, begins_at = %self.log.start(), "old part of the log deleted");
        }
        Ok(removed)
    }

    fn note(&self, floor: Floor, now_ms: u64) {
        let mut keeping = self.keeping.lock();
        if (keeping.floor, &keeping.held_by) != (floor.position, &floor.held_by) {
            (keeping.floor, keeping.held_by, keeping.since_ms) = (floor.position, floor.held_by, now_ms);
        }
    }

    /// Where the segments end whose records are all older than the retention time.
    fn end_of_old(&self, now_ms: u64) -> Position {
        let segments = self.log.segments();
        let is_old = |end: Position| match self.log.scan(end).next() {
            // What comes right after is younger than all before it.
            Some(Ok(record)) => record.view().born_at_ms.saturating_add(self.policies.retention_ms) <= now_ms,
            _ => false,
        };
        let old = segments.iter().take_while(|segment| is_old(segment.end)).last();
        old.map_or(self.log.start(), |segment| segment.end)
    }

    fn floor(&self, snapshots: &Snapshots, old: Position, now_ms: u64) -> io::Result<Floor> {
        let mut floor = Floor { position: old, held_by: HeldBy::Age };
        if self.policies.owner_holds {
            let released = self.owner_hold.0.lock().unwrap_or(self.log.start());
            floor.hold(Some(released), || HeldBy::Owner);
        }
        floor.hold(self.delays.lock().oldest_position(), || HeldBy::Delayed);
        floor.hold(self.halves.lock().oldest(), || HeldBy::Transaction);
        for topic in self.topics.all() {
            let queues = topic.queues();
            for group in topic.groups() {
                self.hold_for(&group, &queues, now_ms, &mut floor)?;
            }
        }
        floor.hold(Some(snapshots.older.unwrap_or(self.log.start())), || HeldBy::Snapshot);
        Ok(floor)
    }

    fn hold_for(
        &self,
        group: &Group,
        queues: &[Arc<ConsumeQueue>],
        now_ms: u64,
        floor: &mut Floor,
    ) -> io::Result<()> {
        let names = || (group.topic.to_string(), group.name.to_string());
        for (number, queue) in queues.iter().enumerate() {
            let (owed, report, dead) = {
                let state = group.state.lock();
                let expired = now_ms.saturating_sub(state.active_ms) >= self.policies.group_expiry_ms;
                match state.queues.get(number) {
                    Some(progress) => (
                        (!expired).then(|| progress.floor()),
                        progress.oldest_report(),
                        progress.oldest_dead(),
                    ),
                    None if expired => (None, None, None),
                    None => (Some(state.config.starts.get(number).copied().unwrap_or(0)), None, None),
                }
            };
            // The index is read without the group's lock.
            let stands = |offset: Option<u64>| match offset {
                Some(offset) => Ok(queue.first_standing(offset.max(queue.oldest()))?.map(|found| found.1)),
                None => Ok::<_, io::Error>(None),
            };
            let (topic, group) = names();
            floor.hold(stands(report)?, || HeldBy::Report { topic, group });
            let (topic, group) = names();
            floor.hold(stands(dead)?, || HeldBy::DeadLetter { topic, group });
            let (topic, group) = names();
            floor.hold(stands(owed)?, || HeldBy::Group { topic, group });
        }
        Ok(())
    }

    /// Before messages go: nobody asks for them any more, and groups that were idle for too long go on after them.
    fn raise_queues(&self, start: Position) -> io::Result<()> {
        for topic in self.topics.all() {
            for (number, queue) in topic.queues().iter().enumerate() {
                let oldest = queue.first_at(start)?;
                if !queue.raise_oldest(oldest) {
                    continue;
                }
                for group in topic.groups() {
                    self.raise_group(&group, number, oldest);
                }
            }
        }
        Ok(())
    }

    fn raise_group(&self, group: &Group, number: usize, oldest: u64) {
        let wakers = {
            let mut state = group.state.lock();
            // Also for a queue that it never asked for.
            state.grow(number + 1);
            let progress = &mut state.queues[number];
            let left = oldest.saturating_sub(progress.floor());
            if left == 0 {
                return;
            }
            progress.raise(oldest);
            let (topic, group) = (&group.topic, &group.name);
            tracing::warn!(%topic, %group, queue = number, begins_at = oldest, left,
                "group was idle for longer than group_expiry; its oldest messages are deleted and skipped");
            state.waiters.wake(u64::MAX)
        };
        wakers.into_iter().for_each(Waker::wake);
        self.acks_changed();
    }
}
