//! Looking messages up by their keys, and keeping the key index.

use super::broker::Broker;
use crate::keys::{SAME_MAX, Step, id_hash, key_hash};
use crate::log::{RecordKind, RecordView};
use crate::{Message, Position};
use std::io;

/// Messages of one look-up, at most.
pub const LOOK_UP_MAX: usize = SAME_MAX;
/// Steps of reading in one look-up, at most, when the index is behind.
const CATCH_UP_STEPS: usize = 64;

impl Broker {
    pub(super) fn look_up_key(&self, topic: &str, key: &str, max: usize) -> Vec<Message> {
        let hash = key_hash(self.log.log_id(), topic, key, &mut Vec::new());
        self.look_up(hash, max, |record| record.topic == topic && record.keys().any(|present| present == key))
    }

    /// The message that came into its queue from a delayed or half record.
    pub(super) fn look_up_origin(&self, id: Position) -> Option<Message> {
        let hash = id_hash(self.log.log_id(), id);
        self.look_up(hash, 1, |record| record.origin == Some(id)).pop()
    }

    /// Other keys may have the same hash: the record decides.
    fn look_up(&self, hash: u64, max: usize, is_it: impl Fn(&RecordView<'_>) -> bool) -> Vec<Message> {
        for _ in 0..CATCH_UP_STEPS {
            match self.keys.read_on(&self.log) {
                Ok(Step::More) => {}
                Ok(Step::Done | Step::Full) => break,
                Err(error) => {
                    tracing::warn!(%error, "the key index cannot read on");
                    break;
                }
            }
        }
        let candidates = self.keys.candidates(hash, LOOK_UP_MAX).into_iter();
        let read = candidates.filter_map(|position| {
            let record = self.log.read(position).ok()?;
            let view = record.view();
            (view.kind == RecordKind::Message && is_it(&view)).then(|| Message::from_record(&record))
        });
        read.take(max).collect()
    }

    /// Brings the key index up to the dispatcher, and its files into order. Answers early when the threads stop.
    pub(super) fn keep_keys(&self) -> io::Result<()> {
        while !self.bells.stopping() {
            let step = self.keys.read_on(&self.log).map_err(io::Error::other)?;
            self.keys.tidy(&self.log, self.log.start())?;
            if step == Step::Done {
                break;
            }
        }
        Ok(())
    }
}
