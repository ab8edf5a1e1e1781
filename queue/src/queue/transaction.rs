//! Transactions: half messages, their decision, and the check-back to whoever began them.

use super::append::Copied;
use super::broker::Broker;
use super::{AppendError, Appended, Check, Outcome, Space, TransactionError};
use crate::log::{RecordKind, RecordParts};
use crate::sync::atomic::Ordering;
use crate::transaction::{Event, State};
use crate::{Message, NewMessage, Position, reserved};
use smallvec::SmallVec;
use std::task::Waker;

/// Half messages looked at in one step of the timers.
const STEP_MAX: usize = 1_024;
/// What the log refused is tried again after this time.
const REFUSED_RETRY_MS: u64 = 100;
/// Tags of control records that speak of a half message.
const CHECK: &str = "check";
const ROLLBACK: &str = "rollback";

impl Broker {
    pub(super) fn begin(
        &self,
        producer_group: &str,
        message: &NewMessage<'_>,
    ) -> Result<Appended, TransactionError> {
        super::topic::check_name(producer_group).map_err(AppendError::Invalid)?;
        super::append::check(message, self.clock.now_ms())?;
        if message.deliver_at_ms.is_some() {
            self.check_delayed(1)?;
        }
        if self.index_full.load(Ordering::Relaxed) {
            return Err(AppendError::NoSpace.into());
        }
        let mut properties: SmallVec<[(&str, &str); 4]> = SmallVec::new();
        properties.push((reserved::PRODUCER_GROUP, producer_group));
        properties.extend(super::order::property_of(message));
        properties.extend_from_slice(message.properties);
        let mut appender = self.appender.lock();
        if self.halves.lock().is_full() {
            return Err(TransactionError::TooMany);
        }
        let topic = self.topic_or_create(message.topic)?;
        let queue = appender.choose(&topic, message.queue)?;
        let born_at_ms = self.clock.now_ms();
        let record = RecordParts {
            kind: RecordKind::Half,
            topic: message.topic,
            queue,
            tag: message.tag,
            keys: message.keys,
            properties: &properties,
            born_at_ms,
            deliver_at_ms: message.deliver_at_ms,
            deadline_ms: message.deadline_ms,
            body: message.body,
            ..RecordParts::default()
        };
        let (first, end) = appender.append(&self.log, Space::New, &[record])?;
        let due_ms = born_at_ms.saturating_add(self.policies.check_first_ms);
        let bytes = record.encoded_len() as u32;
        self.half_event(Event::Opened { id: first, producer_group: producer_group.into(), due_ms, bytes });
        drop(appender);
        self.plan(due_ms);
        Ok(Appended { first, end, queue, offset: 0 })
    }

    /// Decides a half message. All decisions pass the appender's lock, so the log holds at most one of each.
    pub(super) fn decide(&self, id: Position, outcome: Outcome) -> Result<Appended, TransactionError> {
        let mut appender = self.appender.lock();
        match self.halves.lock().state(id) {
            State::Open => {}
            State::Decided(first, appended) if first == outcome => return Ok(appended),
            State::Decided(first, _) => return Err(TransactionError::Decided(first)),
            State::Unknown => return Err(TransactionError::Unknown),
        }
        let appended = match outcome {
            Outcome::Committed => {
                let half = self.log.read(id).map_err(|_| TransactionError::NotDurable)?;
                self.append_copy(&mut appender, &half, Copied::Half)?
            }
            Outcome::RolledBack => {
                let record = control(ROLLBACK, id, 0, self.clock.now_ms());
                let (first, end) = appender.append(&self.log, Space::Owed, &[record])?;
                Appended { first, end, queue: 0, offset: 0 }
            }
        };
        self.half_event(Event::Decided { id, outcome, appended });
        Ok(appended)
    }

    pub(super) fn outcome(&self, id: Position) -> Result<Option<Outcome>, TransactionError> {
        match self.halves.lock().state(id) {
            State::Open => Ok(None),
            State::Decided(outcome, _) => Ok(Some(outcome)),
            State::Unknown => Err(TransactionError::Unknown),
        }
    }

    /// Asks for what is not decided in time, and rolls back what was asked for often enough.
    pub(super) fn check_halves(&self, now_ms: u64) -> u64 {
        let mut asked = false;
        for _ in 0..STEP_MAX {
            let due = self.halves.lock().take_due(now_ms, now_ms + REFUSED_RETRY_MS);
            let Some((id, checks)) = due else { break };
            if checks >= self.policies.checks_max {
                match self.decide(id, Outcome::RolledBack) {
                    Ok(_) => tracing::warn!(%id, checks, "half message rolled back: nobody decided it"),
                    Err(error) => tracing::debug!(%id, %error, "half message is rolled back later"),
                }
                continue;
            }
            let number = checks + 1;
            let due_ms = now_ms.saturating_add(self.policies.check_every_ms);
            let record = control(CHECK, id, u64::from(number), now_ms);
            match self.appender.lock().append(&self.log, Space::New, &[record]) {
                Ok(_) => {
                    let mut halves = self.halves.lock();
                    halves.apply(Event::Checked { id, number, due_ms });
                    halves.ask(id);
                    asked = true;
                }
                Err(error) => tracing::debug!(%id, %error, "half message is checked later"),
            }
        }
        if asked {
            let waker = self.check_waker.lock().take();
            waker.into_iter().for_each(Waker::wake);
        }
        self.halves.lock().next_due_ms().unwrap_or(u64::MAX)
    }

    pub(super) fn take_checks(&self, producer_group: &str, max: usize, waker: Option<&Waker>) -> Vec<Check> {
        // Registered before the look: what comes in between wakes.
        if let Some(waker) = waker {
            let replaced = self.check_waker.lock().replace(waker.clone());
            drop(replaced);
        }
        let asked = self.halves.lock().take_asked(producer_group, max);
        let check = |(id, number)| match self.log.read(id) {
            Ok(record) => Some(Check { id, number, message: Message::from_record(&record) }),
            Err(error) => {
                tracing::error!(%id, %error, "half message cannot be read");
                None
            }
        };
        asked.into_iter().filter_map(check).collect()
    }

    /// Changes the state and what the log must keep free for it.
    pub(super) fn half_event(&self, event: Event) {
        let bytes = {
            let mut halves = self.halves.lock();
            halves.apply(event);
            halves.bytes()
        };
        self.half_bytes.store(bytes, Ordering::Relaxed);
        self.size_reserve(&self.delays.lock());
    }
}

fn control(tag: &'static str, origin: Position, number: u64, born_at_ms: u64) -> RecordParts<'static> {
    RecordParts {
        kind: RecordKind::Control,
        queue_offset: number,
        tag,
        born_at_ms,
        origin: Some(origin),
        ..RecordParts::default()
    }
}

/// What a record says of a half message.
pub(super) fn event(record: &crate::log::RecordView<'_>, policies: &super::Policies) -> Option<Event> {
    let appended = Appended {
        first: record.position,
        end: Position(record.position.0 + record.encoded_len() as u64),
        queue: record.queue,
        offset: record.queue_offset,
    };
    match (record.kind, record.origin) {
        (RecordKind::Half, _) => {
            let (_, producer_group) =
                record.properties().next().filter(|(name, _)| *name == reserved::PRODUCER_GROUP)?;
            let due_ms = record.born_at_ms.saturating_add(policies.check_first_ms);
            let (id, bytes) = (record.position, record.encoded_len() as u32);
            Some(Event::Opened { id, producer_group: producer_group.into(), due_ms, bytes })
        }
        (RecordKind::Control, Some(id)) if record.tag == CHECK => {
            let due_ms = record.born_at_ms.saturating_add(policies.check_every_ms);
            Some(Event::Checked { id, number: record.queue_offset as u32, due_ms })
        }
        (RecordKind::Control, Some(id)) if record.tag == ROLLBACK => {
            Some(Event::Decided { id, outcome: Outcome::RolledBack, appended })
        }
        // Of a delayed message that came into its queue, or was carried, this says nothing: it is not known as a half.
        (RecordKind::Message | RecordKind::Delayed, Some(id)) => {
            Some(Event::Decided { id, outcome: Outcome::Committed, appended })
        }
        _ => None,
    }
}
