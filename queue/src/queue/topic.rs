//! The topics in memory: their queues' indexes and their groups. What is durable of them is the catalog.

use super::Broadcast;
use crate::group::{Group, GroupConfig};
use crate::index::ConsumeQueue;
use crate::storage::Storage;
use crate::sync::RwLock;
use crate::sync::atomic::AtomicU64;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Topics, at most.
const TOPICS_MAX: usize = 10_000;
/// Groups of a topic, at most.
const GROUPS_MAX: usize = 1_000;
/// Queues of a topic, at most.
pub const QUEUES_MAX: u32 = 1_024;

/// One topic.
pub(crate) struct Topic {
    /// Its number in this process.
    pub id: u32,
    pub name: Arc<str>,
    /// Durable messages seen since start.
    pub appended: AtomicU64,
    queues: RwLock<Vec<Arc<ConsumeQueue>>>,
    index_step: u64,
    groups: RwLock<BTreeMap<Arc<str>, Arc<Group>>>,
    pub(super) broadcasts: RwLock<BTreeMap<String, Broadcast>>,
}

/// All topics.
pub(crate) struct Topics {
    storage: Arc<dyn Storage>,
    /// Bytes by which an index file grows.
    index_step: u64,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    by_name: HashMap<Arc<str>, Arc<Topic>, foldhash::fast::RandomState>,
    by_id: Vec<Arc<Topic>>,
}

impl Topics {
    pub(crate) fn new(storage: Arc<dyn Storage>, index_step: u64) -> Self {
        Self { storage, index_step, table: RwLock::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<Arc<Topic>> {
        self.table.read().by_id.get(id as usize).cloned()
    }

    /// In the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.table.read().by_id.clone()
    }

    /// The topic, created when missing, with at least so many queues. Answers whether anything changed.
    pub(crate) fn put(&self, name: &str, queues: u32) -> Result<(Arc<Topic>, bool), &'static str> {
        if let Some(topic) = self.get(name) {
            let grown = topic.grow(&self.storage, queues);
            return Ok((topic, grown));
        }
        check_name(name)?;
        let mut table = self.table.write();
        if let Some(topic) = table.by_name.get(name) {
            let grown = topic.grow(&self.storage, queues);
            return Ok((Arc::clone(topic), grown));
        }
        if table.by_id.len() >= TOPICS_MAX {
            return Err("too many topics");
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic {
            id: table.by_id.len() as u32,
            name: Arc::clone(&name),
            appended: AtomicU64::new(0),
            index_step: self.index_step,
            queues: RwLock::default(),
            groups: RwLock::default(),
            broadcasts: RwLock::default(),
        });
        topic.grow(&self.storage, queues.max(1));
        table.by_id.push(Arc::clone(&topic));
        table.by_name.insert(name, Arc::clone(&topic));
        Ok((topic, true))
    }
}

impl Topic {
    pub(crate) fn queues(&self) -> Vec<Arc<ConsumeQueue>> {
        self.queues.read().clone()
    }

    pub(crate) fn queue(&self, number: u32) -> Option<Arc<ConsumeQueue>> {
        self.queues.read().get(number as usize).cloned()
    }

    pub(crate) fn queue_count(&self) -> u32 {
        self.queues.read().len() as u32
    }

    pub(crate) fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.read().get(name).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }

    /// The group, created when missing. Answers whether it was.
    pub(crate) fn put_group(
        &self,
        name: &str,
        config: impl FnOnce() -> GroupConfig,
    ) -> Result<(Arc<Group>, bool), &'static str> {
        if let Some(group) = self.group(name) {
            return Ok((group, false));
        }
        check_name(name)?;
        let mut groups = self.groups.write();
        if let Some(group) = groups.get(name) {
            return Ok((Arc::clone(group), false));
        }
        if groups.len() >= GROUPS_MAX {
            return Err("too many groups on this topic");
        }
        let name: Arc<str> = name.into();
        let group = Arc::new(Group::new(Arc::clone(&self.name), Arc::clone(&name), config()));
        group.state.lock().grow(self.queue_count() as usize);
        groups.insert(name, Arc::clone(&group));
        Ok((group, true))
    }

    pub(crate) fn remove_group(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.write().remove(name)
    }

    fn grow(&self, storage: &Arc<dyn Storage>, count: u32) -> bool {
        if self.queue_count() >= count {
            return false;
        }
        let mut queues = self.queues.write();
        let from = queues.len() as u32;
        let queue = |n| ConsumeQueue::new(Arc::clone(storage), &self.name, n, self.index_step);
        queues.extend((from..count).map(|n| Arc::new(queue(n))));
        from < count
    }
}

/// Names stand in paths and URLs.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.%-".contains(&byte);
    if name.is_empty() || name.len() > 127 || !name.bytes().all(good) || name.bytes().all(|byte| byte == b'.')
    {
        return Err("a name is 1 to 127 of the characters A-Z a-z 0-9 _ . % -, and not only dots");
    }
    Ok(())
}
