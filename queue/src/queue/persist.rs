//! Writing the catalog and the acknowledgement checkpoint.

use super::CheckpointError;
use super::broker::Broker;
use crate::Position;
use crate::catalog::{self, Catalog, TopicEntry};
use crate::group::checkpoint;
use crate::sync::atomic::Ordering;
use std::io;

impl Broker {
    /// Writes the catalog if it changed.
    pub(super) fn store_catalog(&self) -> io::Result<()> {
        let _one_at_a_time = self.checkpointing.lock();
        self.store_catalog_locked()
    }

    fn store_catalog_locked(&self) -> io::Result<()> {
        if !self.catalog_changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut catalog = Catalog::default();
        for topic in self.topics.all() {
            let broadcasts = topic.broadcasts.read().clone();
            let mut entry = TopicEntry { queues: topic.queue_count(), broadcasts, ..TopicEntry::default() };
            for group in topic.groups() {
                entry.groups.insert(group.name.to_string(), group.state.lock().config.clone());
            }
            catalog.topics.insert(topic.name.to_string(), entry);
        }
        catalog::store(self.storage.as_ref(), catalog).inspect_err(|_| {
            self.catalog_changed.store(true, Ordering::Release);
        })
    }

    /// Writes catalog and acknowledgements if they changed. `even_when_stopping` is for the last one.
    ///
    /// What was settled may rest on records that the owner appended just before. So the checkpoint waits until
    /// everything is on disk that was accepted when the state was captured: log first, then acknowledgements.
    pub(super) fn checkpoint(&self, even_when_stopping: bool) -> Result<(), CheckpointError> {
        let _one_at_a_time = self.checkpointing.lock();
        self.store_catalog_locked()?;
        if !self.acks_changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let body = self.capture();
        let stored = self.wait_synced(self.log.end(), even_when_stopping).and_then(|()| {
            let log_id = self.log.log_id();
            checkpoint::store(self.storage.as_ref(), &body, log_id).map_err(CheckpointError::Io)
        });
        stored.inspect_err(|_| self.acks_changed.store(true, Ordering::Release))
    }

    fn capture(&self) -> Vec<u8> {
        let groups: Vec<_> = self.topics.all().iter().flat_map(|topic| topic.groups()).collect();
        let mut body = checkpoint::begin(groups.len() as u32);
        let now_ms = self.clock.now_ms();
        let mut idle = Vec::with_capacity(groups.len());
        for group in &groups {
            let state = group.state.lock();
            checkpoint::encode_group(&mut body, &group.topic, &group.name, &state.queues);
            idle.push(now_ms.saturating_sub(state.active_ms));
        }
        for idle_ms in idle {
            checkpoint::encode_idle(&mut body, idle_ms);
        }
        body
    }

    fn wait_synced(&self, end: Position, even_when_stopping: bool) -> Result<(), CheckpointError> {
        while self.log.synced() < end {
            let stopping = self.bells.stopping() && !even_when_stopping;
            if stopping || self.bells.poisoned.load(Ordering::Acquire) {
                return Err(CheckpointError::LogStopped);
            }
            self.bells.synced.wait(None);
        }
        Ok(())
    }
}
