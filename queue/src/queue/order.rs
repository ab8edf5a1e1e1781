//! Ordered groups: of each ordering key one message at a time, in the order of its queue; other keys go on. The key
//! is the one that the message was sent with, else its first look-up key; messages without either are not ordered. Where a key's messages wait is not
//! written: after a start it is found again from what is outstanding.

use super::ReceiveError;
use super::broker::Broker;
use crate::group::GroupState;
use crate::index::{ConsumeQueue, tag_hash};
use crate::log::RecordView;
use crate::{NewMessage, QueueChoice, reserved};
use std::sync::Arc;
use std::task::Waker;

/// Hash of the ordering key, if there is one.
pub(super) fn key_of(record: &RecordView<'_>) -> Option<u64> {
    // Behind what else the queue keeps of a record, before the message's own.
    let own = record.properties().take_while(|(name, _)| reserved::is_reserved(name));
    let sent_with = own.filter(|(name, _)| *name == reserved::ORDERING_KEY).map(|(_, key)| key).next();
    sent_with.or_else(|| record.keys().next()).map(tag_hash)
}

/// What the record must say of its ordering key; nothing where the first look-up key says it.
pub(super) fn property_of<'a>(message: &NewMessage<'a>) -> Option<(&'static str, &'a str)> {
    match message.queue {
        QueueChoice::Ordered(key) if message.keys.first() != Some(&key) => {
            Some((reserved::ORDERING_KEY, key))
        }
        _ => None,
    }
}

impl Broker {
    pub(super) fn set_ordered(&self, topic: &str, group: &str, ordered: bool) -> Result<(), ReceiveError> {
        let (_, group) = self.group_or_create(topic, group)?;
        let wakers = {
            let mut state = group.state.lock();
            if state.config.ordered == ordered {
                // What is in line stays there.
                return Ok(());
            }
            state.config.ordered = ordered;
            for progress in &mut state.queues {
                progress.forget_order();
            }
            state.waiters.wake(u64::MAX)
        };
        wakers.into_iter().for_each(Waker::wake);
        self.catalog_changed();
        self.store_catalog_for_receiver()
    }

    /// Puts what is outstanding into line, oldest first, once after a start.
    pub(super) fn find_order(&self, state: &mut GroupState, queues: &[Arc<ConsumeQueue>]) {
        for (progress, queue) in state.queues.iter_mut().zip(queues) {
            let outstanding = progress.take_unordered();
            for offset in outstanding {
                let record =
                    queue.entry(offset).ok().flatten().and_then(|entry| self.log.read(entry.position).ok());
                // One that cannot be read is delivered when it can, and is put into line then.
                if let Some(key) = record.as_ref().and_then(|record| key_of(&record.view())) {
                    progress.put_in_line(offset, key);
                }
            }
        }
    }
}
