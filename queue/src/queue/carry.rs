//! Carrying: a delayed message that waits for long is appended once more, so that the old part of the log can go.
//!
//! One record replaces the one before: it names the first one as its origin, which stays the message's id. Before it
//! is durable the old record counts, from then on the new one; both are one message, which is delivered once.

use super::AppendError;
use super::append::Copied;
use super::broker::Broker;
use crate::log::{RecordKind, RecordView};
use crate::sync::atomic::Ordering;
use crate::timer::Pending;
use crate::{Message, Position, reserved};

/// Messages of one step, and the pause after it: the log has other work.
const STEP_MAX: usize = 256;
const PAUSE_MS: u64 = 100;
/// When the log refuses, for lack of space, it is tried again after this time.
const REFUSED_RETRY_MS: u64 = 60_000;
/// A message is not carried more often than this.
const AFTER_MIN_MS: u64 = 60_000;

impl Broker {
    /// Looks at the oldest pending messages, each once where it stands. Answers when the next one is old enough.
    pub(super) fn carry_delayed(&self, now_ms: u64) -> u64 {
        let due_ms = self.carry_at_ms.load(Ordering::Relaxed);
        if now_ms < due_ms {
            return due_ms;
        }
        let next_ms = self.carry_step(now_ms);
        self.carry_at_ms.store(next_ms, Ordering::Relaxed);
        next_ms
    }

    fn carry_step(&self, now_ms: u64) -> u64 {
        let after_ms = self.policies.carry_after_ms.min(self.policies.retention_ms / 2).max(AFTER_MIN_MS);
        for _ in 0..STEP_MAX {
            // Whatever comes is younger.
            let Some((pending, waits)) = self.delays.lock().to_look_at() else {
                return now_ms.saturating_add(after_ms);
            };
            let Pending { at_ms, id, position, .. } = pending;
            match self.log.read(position) {
                Ok(record) => {
                    let old_ms = record.view().born_at_ms.saturating_add(after_ms);
                    if old_ms > now_ms {
                        return old_ms;
                    }
                    // What is due before then does not hold the log for longer than twice that time.
                    if waits && at_ms > now_ms.saturating_add(after_ms) {
                        let carried =
                            self.append_copy(&mut self.appender.lock(), &record, Copied::Carried(id));
                        if let Err(error) = carried {
                            tracing::debug!(%id, %error, "delayed message is carried forward later");
                            let busy = error == AppendError::Busy;
                            return now_ms.saturating_add(if busy { PAUSE_MS } else { REFUSED_RETRY_MS });
                        }
                    }
                }
                Err(error) => tracing::error!(%id, %error, "delayed message cannot be read"),
            }
            self.delays.lock().looked_at(position);
        }
        now_ms.saturating_add(PAUSE_MS)
    }

    /// A message by its id, also when the place that its id names is gone: it has been carried, or was delivered.
    pub(super) fn find(&self, id: Position) -> Option<Message> {
        let carried = || self.log.read(self.delays.lock().get(id)?.position).ok();
        let Some(record) = self.log.read(id).ok().or_else(carried) else { return self.look_up_origin(id) };
        matches!(record.view().kind, RecordKind::Message | RecordKind::Delayed)
            .then(|| Message { position: id, ..Message::from_record(&record) })
    }
}

/// The id of the message that this record carries on.
pub(super) fn origin(record: &RecordView<'_>) -> Option<Position> {
    let carried = record.kind == RecordKind::Delayed
        && record.properties().next().is_some_and(|(name, _)| name == reserved::CARRIED);
    record.origin.filter(|_| carried)
}
