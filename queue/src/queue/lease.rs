//! Giving leases back: ack, discard, nack, put back, extend. Each takes the group's lock once for all receipts.

use super::broker::Broker;
use super::{Receipt, ReceiptError};
use crate::group::progress::{Fate, GivenBack, NO_DEADLINE, Progress, Track};
use crate::group::receipt::LeaseId;
use crate::group::waiters::Wakers;
use crate::group::{Group, GroupState};
use std::sync::Arc;

type Results<T> = Vec<Result<T, ReceiptError>>;

impl Broker {
    pub(super) fn ack(&self, topic: &str, group: &str, receipts: &[Receipt]) -> Results<()> {
        self.settle_leases(topic, group, receipts, Fate::Acked)
    }

    pub(super) fn discard(&self, topic: &str, group: &str, receipts: &[Receipt]) -> Results<()> {
        self.settle_leases(topic, group, receipts, Fate::Skipped)
    }

    fn settle_leases(&self, topic: &str, group: &str, receipts: &[Receipt], fate: Fate) -> Results<()> {
        let lose = fate == Fate::Acked && crate::defects::active("lost-ack");
        let (results, wakers) = self.with_leases(topic, group, receipts, |group, state, now_ms, receipt| {
            let (lease, _) = self.live(group, state, receipt, now_ms)?;
            if lose {
                return Ok(());
            }
            state.queues[lease.queue as usize].settle(lease.offset, fate);
            state.acked += u64::from(fate == Fate::Acked);
            Ok(())
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
        results
    }

    pub(super) fn nack(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        delay_ms: Option<u64>,
    ) -> Results<()> {
        self.give_back(topic, group, receipts, |state, lease, track, now_ms| {
            let at_ms = self.retry_at_ms(state, track, now_ms, delay_ms);
            let attempts_max = self.attempts_max(state);
            state.queues[lease.queue as usize].give_back(lease.offset, at_ms, now_ms, attempts_max)
        })
    }

    pub(super) fn put_back(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        delay_ms: u64,
    ) -> Results<()> {
        self.give_back(topic, group, receipts, |state, lease, track, now_ms| {
            let at_ms = self.retry_at_ms(state, track, now_ms, Some(delay_ms));
            state.queues[lease.queue as usize].put_back(lease.offset, at_ms, now_ms)
        })
    }

    fn give_back(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        each: impl Fn(&mut GroupState, &LeaseId, &Track, u64) -> GivenBack,
    ) -> Results<()> {
        let (mut next_ms, mut ready, mut dead) = (u64::MAX, 0, false);
        let (results, mut wakers) =
            self.with_leases(topic, group, receipts, |group, state, now_ms, receipt| {
                let (lease, track) = self.live(group, state, receipt, now_ms)?;
                match each(state, &lease, &track, now_ms) {
                    GivenBack::Waiting { at_ms } => next_ms = next_ms.min(at_ms),
                    GivenBack::Ready => ready += 1,
                    GivenBack::Dead => dead = true,
                }
                Ok(())
            });
        if ready > 0
            && let Some(group) = self.topics.get(topic).and_then(|topic| topic.group(group))
        {
            wakers.extend(group.state.lock().waiters.wake(ready));
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
        if dead {
            self.wake_reporter();
        }
        self.plan(next_ms);
        results
    }

    pub(super) fn extend(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        lease_ms: u64,
    ) -> Results<Receipt> {
        let mut next_ms = u64::MAX;
        let (results, wakers) = self.with_leases(topic, group, receipts, |group, state, now_ms, receipt| {
            let (lease, track) = self.live(group, state, receipt, now_ms)?;
            let until_ms = now_ms.saturating_add(lease_ms).min(track.deadline_ms);
            let number = state.next_lease_number();
            state.queues[lease.queue as usize].renew(lease.offset, number, until_ms);
            next_ms = next_ms.min(until_ms);
            Ok(LeaseId { number, ..lease }.to_receipt())
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
        self.plan(next_ms);
        results
    }

    /// Attempts before a message of the group is a dead letter.
    pub(super) fn attempts_max(&self, state: &GroupState) -> u32 {
        state.config.attempts_max.unwrap_or(self.options.attempts_max).max(1)
    }

    fn with_leases<T>(
        &self,
        topic: &str,
        group: &str,
        receipts: &[Receipt],
        mut each: impl FnMut(&Group, &mut GroupState, u64, &Receipt) -> Result<T, ReceiptError>,
    ) -> (Results<T>, Wakers) {
        let Some(group): Option<Arc<Group>> = self.topics.get(topic).and_then(|topic| topic.group(group))
        else {
            return (receipts.iter().map(|_| Err(ReceiptError::Expired)).collect(), Wakers::new());
        };
        let (results, wakers) = {
            let mut state = group.state.lock();
            // Read under the lock: who comes second also has the later time, so ack and expiry cannot both win.
            let now_ms = self.clock.now_ms();
            state.active_ms = now_ms;
            let results: Results<T> =
                receipts.iter().map(|receipt| each(&group, &mut state, now_ms, receipt)).collect();
            let mut wakers = state.wake_starved();
            let released = state.take_released() as u64;
            wakers.extend(state.waiters.wake(released));
            (results, wakers)
        };
        self.acks_changed();
        (results, wakers)
    }

    fn live(
        &self,
        group: &Group,
        state: &GroupState,
        receipt: &Receipt,
        now_ms: u64,
    ) -> Result<(LeaseId, Track), ReceiptError> {
        let lease = LeaseId::parse(receipt).ok_or(ReceiptError::Expired)?;
        if lease.boot_epoch != self.log.recovered().boot_epoch || lease.group != group.hash {
            return Err(ReceiptError::Expired);
        }
        let progress: &Progress = state.queues.get(lease.queue as usize).ok_or(ReceiptError::Expired)?;
        let track = progress.live_lease(lease.offset, lease.number, now_ms).ok_or(ReceiptError::Expired)?;
        Ok((lease, track))
    }

    /// When a message given back is delivered again. The group's own back-off never waits past the deadline:
    /// where it would, half of the time that is left gives the message another chance.
    fn retry_at_ms(&self, state: &GroupState, track: &Track, now_ms: u64, delay_ms: Option<u64>) -> u64 {
        if let Some(delay_ms) = delay_ms {
            return now_ms.saturating_add(delay_ms).min(track.deadline_ms);
        }
        let delays = state.config.retry_delays_ms.as_ref().unwrap_or(&self.options.retry_delays_ms);
        let step = (track.attempt.saturating_sub(1) as usize).min(delays.len().saturating_sub(1));
        let at_ms = now_ms.saturating_add(delays.get(step).copied().unwrap_or(0));
        if track.deadline_ms != NO_DEADLINE && at_ms >= track.deadline_ms {
            return now_ms + track.deadline_ms.saturating_sub(now_ms) / 2;
        }
        at_ms
    }
}
