//! Producers that number what they send, and how much they want to know before they go on.

use super::broker::Broker;
use super::{Acknowledge, AppendError, Appended, Once, Place, Producer, ProducerError, Space};
use crate::producer::{self, Known};
use crate::{NewMessage, Position, reserved};

/// Longest id of a producer, bytes.
const ID_MAX: usize = 255;

impl Broker {
    pub(super) fn append_once(
        &self,
        producer: Producer<'_>,
        batch: &[NewMessage<'_>],
        space: Space,
        places: Option<&mut Vec<Place>>,
    ) -> Result<Once, ProducerError> {
        if producer.id.is_empty() || producer.id.len() > ID_MAX {
            return Err(AppendError::Invalid("a producer's id is 1 to 255 bytes").into());
        }
        // The appender's lock makes look, append and note one step.
        let mut appender = self.appender.lock();
        let now_ms = self.clock.now_ms();
        match self.producers.lock().look(producer.id, producer.sequence, now_ms) {
            Known::New => {}
            Known::Repeated(appended) => return Ok(Once { appended, repeated: true }),
            Known::TooOld => return Err(ProducerError::TooOld),
            Known::TooMany => return Err(ProducerError::TooMany),
        }
        let value = producer::encode(producer.id, producer.sequence);
        let mark = Some((reserved::PRODUCER, value.as_str()));
        let appended = self.append_locked(&mut appender, batch, space, mark, places)?;
        self.producers.lock().note(producer.id, producer.sequence, appended, now_ms);
        Ok(Once { appended, repeated: false })
    }

    pub(super) fn append_placed(
        &self,
        producer: Option<Producer<'_>>,
        batch: &[NewMessage<'_>],
        space: Space,
    ) -> Result<(Once, Vec<Place>), ProducerError> {
        let mut places = Vec::with_capacity(batch.len());
        let once = if let Some(producer) = producer {
            self.append_once(producer, batch, space, Some(&mut places))?
        } else {
            let mut appender = self.appender.lock();
            let appended = self.append_locked(&mut appender, batch, space, None, Some(&mut places))?;
            Once { appended, repeated: false }
        };
        Ok((once, places))
    }

    pub(super) fn send(
        &self,
        batch: &[NewMessage<'_>],
        space: Space,
        acknowledge: Acknowledge,
    ) -> Result<Option<Appended>, AppendError> {
        let accepted = self.append(batch, space);
        match acknowledge {
            Acknowledge::None => {
                if let Err(error) = accepted {
                    tracing::debug!(%error, "message without acknowledgement was refused");
                }
                Ok(None)
            }
            Acknowledge::Memory => accepted.map(Some),
            Acknowledge::Disk => {
                let appended = accepted?;
                self.log.wait_synced(appended.end)?;
                Ok(Some(appended))
            }
        }
    }
}

/// What a batch's first record says of its producer: id, sequence, where it stands.
pub(super) fn numbered<'a>(record: &crate::log::RecordView<'a>) -> Option<(&'a str, u64, Appended)> {
    // The copy that delivers a delayed message has lost it.
    let (_, value) = record.properties().next().filter(|(name, _)| *name == reserved::PRODUCER)?;
    let (sequence, id) = producer::decode(value)?;
    let (first, end) = (record.position, Position(record.position.0 + record.encoded_len() as u64));
    let delayed = record.kind == crate::log::RecordKind::Delayed;
    let (queue, offset) = if delayed { (0, 0) } else { (record.queue, record.queue_offset) };
    Some((id, sequence, Appended { first, end, queue, offset }))
}
