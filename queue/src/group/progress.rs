//! What became of every offset of one queue in one group: untouched, leased, waiting for its retry,
//! reported, settled. A pure state machine; it knows no messages, no files and no clock.
//!
//! ```text
//!        floor            next                end of the queue
//!  settled │ settled, tracked, │ untouched (or    │
//!          │ reported          │ dropped already) │
//! ```

use super::order::Order;
use super::ranges::RangeSet;
use super::reports::Reports;
use crate::{QueueStats, ReportKind};
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// Deadline of a message that has none.
pub(crate) const NO_DEADLINE: u64 = u64::MAX;
/// Offsets above the floor that cost memory, at most; beyond it nothing new is leased until some settle.
pub(crate) const OUTSTANDING_MAX: usize = 100_000;
/// Ranges kept for loss detection, of each kind; beyond it the oldest below the floor are forgotten.
pub(crate) const RANGES_MAX: usize = 10_000;

/// A message that was delivered at least once and is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Track {
    /// Deliveries so far.
    pub attempt: u32,
    pub deadline_ms: u64,
    pub state: TrackState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrackState {
    /// Lease `number` ends at `until_ms`.
    Leased { number: u32, until_ms: u64 },
    /// To be delivered again at `at_ms`.
    Waiting { at_ms: u64 },
    /// To be delivered again now.
    Ready,
    /// Waits in line behind another message of its ordering key; it may never have been delivered.
    Parked,
}

/// Why an offset left the group's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Acked,
    Skipped,
}

/// How a lease was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenBack {
    Waiting { at_ms: u64 },
    Ready,
    Dead,
}

/// Counts of one step of the timers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promoted {
    pub ready: usize,
    pub reports: usize,
}

/// Progress of a group in one queue.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(super) start: u64,
    pub(super) floor: u64,
    pub(super) next: u64,
    /// Settled at or above the floor.
    pub(super) settled: RangeSet,
    pub(super) tracked: HashMap<u64, Track, foldhash::fast::RandomState>,
    /// Lease ends and retries, by time.
    due: BTreeSet<(u64, u64)>,
    ready: BTreeSet<u64>,
    leased: usize,
    pub(super) dropped: RangeSet,
    pub(super) dead: RangeSet,
    pub(super) skipped: RangeSet,
    /// Dead letters whose report is settled.
    pub(super) dead_kept: RangeSet,
    pub(super) drop_reports: Reports,
    pub(super) dead_reports: Reports,
    pub(super) order: Order,
    /// What is outstanding is in line; not so after a start.
    pub(super) in_line: bool,
    pub(super) released: usize,
    /// Old ranges of `dropped`, `dead` or `skipped` were forgotten.
    pub(super) truncated: bool,
}

impl Progress {
    pub(crate) fn new(start: u64) -> Self {
        Self { start, floor: start, next: start, ..Self::default() }
    }

    pub(crate) fn leased(&self) -> usize {
        self.leased
    }

    /// Everything below is settled.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// The oldest message whose report the owner has still to settle.
    pub(crate) fn oldest_report(&self) -> Option<u64> {
        self.drop_reports.oldest().into_iter().chain(self.dead_reports.oldest()).min()
    }

    /// The oldest dead letter that is kept.
    pub(crate) fn oldest_dead(&self) -> Option<u64> {
        self.dead_kept.next_present(0)
    }

    /// Messages of `[.., end)` neither settled nor reported.
    pub(crate) fn backlog(&self, end: u64) -> u64 {
        let above = self.settled.total() + self.drop_reports.total() + self.dead_reports.total();
        end.saturating_sub(self.floor).saturating_sub(above)
    }

    /// Messages of `[0, ..)` that are settled or reported, those below the start included.
    pub(crate) fn done(&self) -> u64 {
        self.floor + self.settled.total() + self.drop_reports.total() + self.dead_reports.total()
    }

    /// Messages below `offset` that are neither settled nor reported; `None` when itself is.
    pub(crate) fn ahead(&self, offset: u64) -> Option<u64> {
        if self.is_done(offset) {
            return None;
        }
        let done = [&self.drop_reports, &self.dead_reports].map(|reports| reports.total_below(offset));
        let done = self.settled.total_below(offset) + done.iter().sum::<u64>();
        Some((offset - self.floor).saturating_sub(done))
    }

    /// Dead letters, reported or kept.
    pub(crate) fn dead_letters(&self) -> u64 {
        self.dead_kept.total() + self.dead_reports.total()
    }

    pub(crate) fn stats(&self, queue: u32, end: u64) -> QueueStats {
        QueueStats {
            queue,
            start: self.start,
            end,
            floor: self.floor,
            dropped: self.dropped.to_vec(),
            dead: self.dead.to_vec(),
            skipped: self.skipped.to_vec(),
            truncated: self.truncated,
        }
    }

    /// Oldest offset that is neither settled nor reported; may be one past the newest.
    pub(crate) fn oldest(&self) -> u64 {
        self.next_open(self.floor)
    }

    /// Nothing is owed to this group for the offset: it never had to see it, or it is settled or reported.
    pub(crate) fn is_done(&self, offset: u64) -> bool {
        offset < self.floor
            || self.settled.contains(offset)
            || self.drop_reports.contains(offset)
            || self.dead_reports.contains(offset)
    }

    fn next_open(&self, mut from: u64) -> u64 {
        loop {
            let mut next = self.settled.next_absent(from);
            // The defect delivers what it has reported as dropped.
            if !crate::defects::active("late-delivery") {
                next = self.drop_reports.next_absent(next);
            }
            next = self.dead_reports.next_absent(next);
            if next == from {
                return from;
            }
            from = next;
        }
    }

    /// Memory for one more outstanding message is allowed.
    pub(crate) fn has_room(&self) -> bool {
        let reports = self.drop_reports.weight() + self.dead_reports.weight();
        self.tracked.len() + self.settled.ranges() + reports < OUTSTANDING_MAX
    }

    /// The next untouched offset below `end`; it is not taken until [`Self::lease`] or [`Self::skip_to`].
    pub(crate) fn peek_new(&mut self, end: u64) -> Option<u64> {
        self.next = self.next_open(self.next);
        (self.next < end).then_some(self.next)
    }

    /// Offsets to be delivered again now.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The oldest offset whose retry is due.
    pub(crate) fn peek_ready(&self) -> Option<u64> {
        self.ready.first().copied()
    }

    /// Leases an offset that was peeked. Answers which attempt this is.
    pub(crate) fn lease(&mut self, offset: u64, number: u32, until_ms: u64, deadline_ms: u64) -> u32 {
        let attempt = self.untrack(offset).map_or(1, |track| track.attempt.saturating_add(1));
        self.next = self.next.max(offset + 1);
        self.track(offset, Track { attempt, deadline_ms, state: TrackState::Leased { number, until_ms } });
        attempt
    }

    /// The lease, if `number` is the present one and it is not over.
    pub(crate) fn live_lease(&self, offset: u64, number: u32, now_ms: u64) -> Option<Track> {
        let track = *self.tracked.get(&offset)?;
        match track.state {
            TrackState::Leased { number: present, until_ms } if present == number && now_ms < until_ms => {
                Some(track)
            }
            _ => None,
        }
    }

    /// Settles for good.
    pub(crate) fn settle(&mut self, offset: u64, fate: Fate) {
        self.untrack(offset);
        self.release(offset);
        if fate == Fate::Skipped {
            note(&mut self.skipped, offset, self.floor, &mut self.truncated);
        }
        self.settled.insert(offset);
        self.advance();
    }

    /// Prolongs a live lease under a new number.
    pub(crate) fn renew(&mut self, offset: u64, number: u32, until_ms: u64) {
        if let Some(track) = self.untrack(offset) {
            self.track(offset, Track { state: TrackState::Leased { number, until_ms }, ..track });
        }
    }

    /// Gives a lease back, to be delivered again at `at_ms`, or to be a dead letter after its last attempt.
    pub(crate) fn give_back(&mut self, offset: u64, at_ms: u64, now_ms: u64, attempts_max: u32) -> GivenBack {
        let Some(track) = self.untrack(offset) else { return GivenBack::Ready };
        if track.attempt >= attempts_max {
            note(&mut self.dead, offset, self.floor, &mut self.truncated);
            self.dead_reports.add(offset);
            self.release(offset);
            return GivenBack::Dead;
        }
        let state = if at_ms <= now_ms { TrackState::Ready } else { TrackState::Waiting { at_ms } };
        self.track(offset, Track { state, ..track });
        if at_ms <= now_ms { GivenBack::Ready } else { GivenBack::Waiting { at_ms } }
    }

    /// Takes a lease back as if it had not been: this attempt does not count. Delivered again at `at_ms`.
    pub(crate) fn put_back(&mut self, offset: u64, at_ms: u64, now_ms: u64) -> GivenBack {
        if let Some(track) = self.tracked.get_mut(&offset) {
            track.attempt = track.attempt.saturating_sub(1);
        }
        self.give_back(offset, at_ms, now_ms, u32::MAX)
    }

    /// Its deadline is over: reports it, unless nothing is owed for it. True when it is reported.
    pub(crate) fn drop_late(&mut self, offset: u64) -> bool {
        if self.is_done(offset) {
            return false;
        }
        if !crate::defects::active("late-delivery") {
            self.untrack(offset);
        }
        note(&mut self.dropped, offset, self.floor, &mut self.truncated);
        self.drop_reports.add(offset);
        self.release(offset);
        true
    }

    /// Hands out the next report, dead letters before drops.
    pub(crate) fn take_report(&mut self, now_ms: u64) -> Option<(ReportKind, u64)> {
        let dead = self.dead_reports.take(now_ms).map(|offset| (ReportKind::DeadLettered, offset));
        dead.or_else(|| self.drop_reports.take(now_ms).map(|offset| (ReportKind::Dropped, offset)))
    }

    /// When the next report may be handed out; 0 for at once.
    pub(crate) fn report_due_ms(&self) -> Option<u64> {
        [&self.dead_reports, &self.drop_reports].into_iter().filter_map(Reports::next_due_ms).min()
    }

    pub(crate) fn kept_dead(&self) -> impl Iterator<Item = u64> + '_ {
        self.dead_kept.iter().flat_map(|(start, end)| start..end)
    }

    /// The owner has dealt with the drop.
    pub(crate) fn settle_drop(&mut self, offset: u64) {
        if self.drop_reports.settle(offset) && !crate::defects::active("late-delivery") {
            self.settled.insert(offset);
            self.advance();
        }
    }

    /// The owner has dealt with the dead letter; it is kept for look-up and redrive.
    pub(crate) fn settle_dead(&mut self, offset: u64) {
        if self.dead_reports.settle(offset) {
            self.dead_kept.insert(offset);
            self.settled.insert(offset);
            self.advance();
        }
    }

    /// Ends leases and waits that are over at `now_ms`, at most `max` of them.
    pub(crate) fn promote(&mut self, now_ms: u64, attempts_max: u32, max: usize) -> Promoted {
        let mut promoted = Promoted::default();
        for _ in 0..max {
            let Some(&(at_ms, offset)) = self.due.first() else { break };
            if at_ms > now_ms {
                break;
            }
            let Some(&track) = self.tracked.get(&offset) else {
                self.due.pop_first();
                continue;
            };
            if now_ms >= track.deadline_ms && !crate::defects::active("late-delivery") {
                promoted.reports += usize::from(self.drop_late(offset));
                continue;
            }
            match track.state {
                TrackState::Leased { .. } => match self.give_back(offset, now_ms, now_ms, attempts_max) {
                    GivenBack::Dead => promoted.reports += 1,
                    GivenBack::Ready | GivenBack::Waiting { .. } => promoted.ready += 1,
                },
                TrackState::Waiting { .. } | TrackState::Ready | TrackState::Parked => {
                    self.make_ready(offset);
                    promoted.ready += 1;
                }
            }
        }
        promoted
    }

    /// When the next lease or wait is over.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|&(at_ms, _)| at_ms)
    }

    /// Puts a dead letter back, attempts from 1. False when it is none.
    pub(crate) fn redrive(&mut self, offset: u64) -> bool {
        if !self.dead_kept.remove(offset) {
            return false;
        }
        self.dead.remove(offset);
        if offset < self.floor {
            self.settled.insert_range(offset + 1, self.floor);
            self.floor = offset;
        } else {
            self.settled.remove(offset);
        }
        self.next = self.next.max(offset + 1);
        self.track(offset, Track { attempt: 0, deadline_ms: NO_DEADLINE, state: TrackState::Ready });
        true
    }

    /// Moves the group to `to`. All leases are void. What it jumps over is skipped, what it goes back to is
    /// delivered again, except what was dropped; unsettled reports stay owed.
    pub(crate) fn reset(&mut self, to: u64) {
        self.tracked.clear();
        self.due.clear();
        self.ready.clear();
        self.leased = 0;
        self.order = Order::default();
        let owed = self.owed_reports();
        if to < self.floor {
            self.start = self.start.min(to);
            self.floor = to;
        } else {
            self.skip_open(to, &owed);
        }
        for set in [&mut self.settled, &mut self.dead_kept, &mut self.dead] {
            set.remove_range(to, u64::MAX);
        }
        self.skipped.remove_range(to, u64::MAX);
        for (start, end) in self.dropped.iter() {
            self.settled.insert_range(start.max(to), end);
        }
        for (start, end) in owed.iter() {
            self.settled.remove_range(start, end);
        }
        self.next = to;
        self.advance();
    }

    /// Everything below `to` that is neither settled nor reported is skipped.
    fn skip_open(&mut self, to: u64, owed: &RangeSet) {
        let mut done = self.settled.clone();
        owed.iter().for_each(|(start, end)| done.insert_range(start, end));
        let mut open = done.next_absent(self.floor);
        while open < to {
            let run_end = done.next_present(open).unwrap_or(to).min(to);
            self.skipped.insert_range(open, run_end);
            self.settled.insert_range(open, run_end);
            open = done.next_absent(run_end);
        }
        self.truncated |= self.skipped.forget_oldest(RANGES_MAX, to);
    }

    fn owed_reports(&self) -> RangeSet {
        let mut owed = self.drop_reports.to_ranges();
        self.dead_reports.to_ranges().iter().for_each(|(start, end)| owed.insert_range(start, end));
        owed
    }

    /// A recovery found that the queue ends at `end`: what lies beyond never became durable.
    pub(crate) fn clamp(&mut self, end: u64) {
        let beyond: Vec<u64> = self.tracked.keys().copied().filter(|&offset| offset >= end).collect();
        for offset in beyond {
            self.untrack(offset);
        }
        for set in
            [&mut self.settled, &mut self.dropped, &mut self.dead, &mut self.skipped, &mut self.dead_kept]
        {
            set.remove_range(end, u64::MAX);
        }
        self.drop_reports.clamp(end);
        self.dead_reports.clamp(end);
        self.start = self.start.min(end);
        self.next = self.next.min(end);
        self.floor = self.floor.min(end);
    }

    /// Nothing below `oldest` is kept in the queue any more; what was owed of it counts as skipped, and its
    /// reports can no longer be made.
    pub(crate) fn raise(&mut self, oldest: u64) {
        if self.floor < oldest {
            self.drop_reports.forget_below(oldest);
            self.dead_reports.forget_below(oldest);
            self.dead_kept.remove_range(0, oldest);
            self.skip_open(oldest, &RangeSet::default());
            let gone: Vec<u64> = self.tracked.keys().copied().filter(|&offset| offset < oldest).collect();
            for offset in gone {
                self.untrack(offset);
                self.release(offset);
            }
            self.advance();
        }
    }

    pub(super) fn track(&mut self, offset: u64, track: Track) {
        match track.state {
            TrackState::Leased { until_ms, .. } => {
                self.leased += 1;
                self.due.insert((until_ms, offset));
            }
            TrackState::Waiting { at_ms } => {
                self.due.insert((at_ms, offset));
            }
            TrackState::Ready => {
                self.ready.insert(offset);
            }
            TrackState::Parked => {}
        }
        self.tracked.insert(offset, track);
    }

    pub(super) fn untrack(&mut self, offset: u64) -> Option<Track> {
        let track = self.tracked.remove(&offset)?;
        match track.state {
            TrackState::Leased { until_ms, .. } => {
                self.leased -= 1;
                self.due.remove(&(until_ms, offset));
            }
            TrackState::Waiting { at_ms } => {
                self.due.remove(&(at_ms, offset));
            }
            TrackState::Ready => {
                self.ready.remove(&offset);
            }
            TrackState::Parked => {}
        }
        Some(track)
    }

    fn advance(&mut self) {
        let floor = self.settled.next_absent(self.floor);
        if floor > self.floor {
            self.settled.remove_range(self.floor, floor);
            self.floor = floor;
        }
        self.next = self.next.max(self.floor);
    }
}

fn note(set: &mut RangeSet, offset: u64, floor: u64, truncated: &mut bool) {
    set.insert(offset);
    if set.ranges() > RANGES_MAX {
        *truncated |= set.forget_oldest(RANGES_MAX, floor);
    }
}
