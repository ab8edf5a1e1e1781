//! How many messages a group is still owed before one of them.

use super::broker::Broker;
use crate::Position;
use crate::group::Group;
use crate::index::ConsumeQueue;

impl Broker {
    /// See [`super::Queue::ahead`].
    pub(super) fn ahead(
        &self,
        topic: &str,
        group: &str,
        number: u32,
        near: Position,
        key: &str,
    ) -> Option<u64> {
        let topic = self.topics.get(topic)?;
        let (queue, group) = (topic.queue(number)?, topic.group(group)?);
        let offset = self.offset_near(&queue, &group, number, near, key)?;
        group.state.lock().queues.get(number as usize)?.ahead(offset)
    }

    /// The offset of the message with this key that begins or ends at `near`.
    fn offset_near(
        &self,
        queue: &ConsumeQueue,
        group: &Group,
        number: u32,
        near: Position,
        key: &str,
    ) -> Option<u64> {
        // What is below is settled: of no use to anybody.
        let floor = group.state.lock().queues.get(number as usize)?.floor().max(queue.oldest());
        let (mut low, mut high) = (floor, queue.end());
        while low < high {
            let middle = low + (high - low) / 2;
            if queue.entry(middle).ok().flatten()?.position < near {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let is_it = |offset: &u64| {
            let entry = queue.entry(*offset).ok().flatten();
            let record =
                entry.filter(|entry| entry.size > 0).and_then(|entry| self.log.read(entry.position).ok());
            record.is_some_and(|record| record.view().keys().any(|found| found == key))
        };
        [Some(low), low.checked_sub(1)].into_iter().flatten().find(is_it)
    }
}
