//! Broadcasts: every consumer sees every message. Each is a group of its own, named after both, so it goes on where it
//! stopped, and what holds for groups holds for it. What they have in common is in the catalog.

use super::broker::Broker;
use super::topic::Topic;
use super::{Broadcast, ReceiveError};
use std::sync::Arc;

/// Between the names of broadcast and consumer; neither may hold it.
const BETWEEN: char = '%';
/// Broadcasts of a topic, at most.
const BROADCASTS_MAX: usize = 1_000;

/// The group of one consumer.
fn group_of(broadcast: &str, consumer: &str) -> String {
    format!("{broadcast}{BETWEEN}{consumer}")
}

impl Topic {
    /// Names of the groups of a broadcast's consumers.
    fn consumers(&self, broadcast: &str) -> Vec<Arc<str>> {
        let of = |name: &str| name.strip_prefix(broadcast).is_some_and(|rest| rest.starts_with(BETWEEN));
        self.groups().iter().map(|group| Arc::clone(&group.name)).filter(|name| of(name)).collect()
    }

    pub(super) fn is_broadcast(&self, name: &str) -> bool {
        self.broadcasts.read().contains_key(name)
    }

    /// Forgets the broadcast; answers the groups of its consumers, which the caller removes.
    pub(super) fn forget_broadcast(&self, name: &str) -> Option<Vec<Arc<str>>> {
        self.broadcasts.write().remove(name)?;
        Some(self.consumers(name))
    }
}

impl Broker {
    pub(super) fn put_broadcast(
        &self,
        topic: &str,
        name: &str,
        broadcast: Broadcast,
    ) -> Result<(), ReceiveError> {
        let bad = |why| Err(ReceiveError::Invalid(why));
        super::topic::check_name(name).map_err(ReceiveError::Invalid)?;
        if name.contains(BETWEEN) {
            return bad("the name of a broadcast must not contain %");
        }
        if broadcast.attempts_max == Some(0) {
            return bad("attempts must be at least 1");
        }
        let topic =
            self.topic_or_create(topic).map_err(|_| ReceiveError::Invalid("the topic cannot be created"))?;
        {
            let broadcasts = topic.broadcasts.read();
            if topic.group(name).is_some() {
                return bad("there is a group of this name, and it is no broadcast; delete it first");
            }
            if broadcasts.len() >= BROADCASTS_MAX && !broadcasts.contains_key(name) {
                return bad("too many broadcasts on this topic");
            }
        }
        for group in topic.consumers(name).iter().filter_map(|consumer| topic.group(consumer)) {
            let mut state = group.state.lock();
            state.config.attempts_max = broadcast.attempts_max;
            state.config.retry_delays_ms.clone_from(&broadcast.retry_delays_ms);
        }
        topic.broadcasts.write().insert(name.to_owned(), broadcast);
        self.catalog_changed();
        self.store_catalog_for_receiver()
    }

    pub(super) fn broadcast(&self, topic: &str, name: &str) -> Option<Broadcast> {
        self.topics.get(topic)?.broadcasts.read().get(name).cloned()
    }

    pub(super) fn join_broadcast(
        &self,
        topic: &str,
        broadcast: &str,
        consumer: &str,
        settings: Broadcast,
    ) -> Result<String, ReceiveError> {
        if consumer.is_empty() || consumer.contains(BETWEEN) {
            return Err(ReceiveError::Invalid("the name of a consumer must not be empty, and not contain %"));
        }
        let group = group_of(broadcast, consumer);
        if let Some(topic) = self.topics.get(topic).filter(|topic| topic.group(&group).is_none()) {
            self.forget_expired(&topic, broadcast);
        }
        let Broadcast { start, attempts_max, retry_delays_ms } = settings;
        self.put_group(topic, &group, start, attempts_max, retry_delays_ms)?;
        self.store_catalog_for_receiver()?;
        Ok(group)
    }

    /// Makes room: consumers that were idle for `group_expiry_ms` do not come back, or begin anew.
    fn forget_expired(&self, topic: &Topic, broadcast: &str) {
        let now_ms = self.clock.now_ms();
        for name in topic.consumers(broadcast) {
            let Some(group) = topic.group(&name) else { continue };
            let idle_ms = now_ms.saturating_sub(group.state.lock().active_ms);
            if idle_ms >= self.policies.group_expiry_ms && topic.remove_group(&name).is_some() {
                tracing::info!(topic = %topic.name, consumer = %name, idle_ms, "consumer of a broadcast is forgotten");
                group.wake(u64::MAX);
                self.catalog_changed();
                self.acks_changed();
            }
        }
    }

    pub(super) fn consumers(&self, topic: &str, broadcast: &str) -> Vec<String> {
        let topic = self.topics.get(topic);
        topic.map_or_else(Vec::new, |topic| {
            topic.consumers(broadcast).iter().map(ToString::to_string).collect()
        })
    }

    pub(super) fn store_catalog_for_receiver(&self) -> Result<(), ReceiveError> {
        self.store_catalog().map_err(|error| {
            tracing::error!(%error, "catalog cannot be written");
            ReceiveError::Invalid("the catalog cannot be written now; see the log of the process")
        })
    }
}
