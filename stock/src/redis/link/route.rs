//! Which node a key is on.

use super::attempt::Attempt;
use super::connector::{Connector, Place};
use super::error::CallError;
use super::lane::Lane;
use super::slots::{SlotMap, slot_of};
use crate::redis::options::{Address, Topology};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two readings of the slots, at least.
const REFRESH_EVERY: Duration = Duration::from_millis(100);

/// The connections to one node. WAIT stops a connection until the replicas have answered, so calls that wait for
/// replicas have one of their own.
pub(super) struct Node {
    pub(super) plain: Lane,
    pub(super) replicated: Lane,
    /// For what Redis may take its time for. Its timeouts say nothing of whether Redis answers.
    pub(super) patient: Lane,
}

impl Node {
    fn new(connector: &Arc<Connector>, place: &Place) -> Rc<Self> {
        Rc::new(Self {
            plain: Lane::new(connector.clone(), place.clone()),
            replicated: Lane::new(connector.clone(), place.clone()),
            patient: Lane::new(connector.clone(), place.clone()),
        })
    }
}

/// Keys to nodes.
pub(super) enum Route {
    /// All keys are on one node.
    One(Rc<Node>),
    /// By slot.
    Slots(Slots),
}

impl Route {
    pub(super) fn new(connector: &Arc<Connector>) -> Self {
        match &connector.options.topology {
            Topology::Single(address) => Self::One(Node::new(connector, &Place::Node(address.clone()))),
            Topology::Sentinel { .. } => Self::One(Node::new(connector, &Place::SentinelMaster)),
            Topology::Cluster(seeds) => Self::Slots(Slots::new(connector.clone(), seeds.clone())),
        }
    }

    /// The node that a key is on, as far as is known.
    pub(super) async fn node(&self, key: &str, patience: Duration) -> Result<Rc<Node>, CallError> {
        match self {
            Self::One(node) => Ok(node.clone()),
            Self::Slots(slots) => slots.node(slot_of(key), patience).await,
        }
    }

    /// Whether it is known since so lately where keys are.
    pub(super) fn was_read_within(&self, age: Duration) -> bool {
        match self {
            Self::One(_) => true,
            Self::Slots(slots) => slots.read_at.get().is_some_and(|at| at.elapsed() < age),
        }
    }

    /// As `node`, after reading the slots again.
    pub(super) async fn node_read_anew(&self, key: &str, patience: Duration) -> Result<Rc<Node>, CallError> {
        if let Self::Slots(slots) = self {
            slots.read(patience).await?;
        }
        self.node(key, patience).await
    }

    /// Something is wrong with a node: in a Cluster, another may own its slots by now.
    pub(super) fn suspect(&self) {
        if let Self::Slots(slots) = self {
            slots.stale.set(true);
        }
    }
}

/// The slots of a Cluster, read anew when they turn out to be out of date.
pub(super) struct Slots {
    connector: Arc<Connector>,
    seeds: Vec<Address>,
    map: RefCell<Option<SlotMap>>,
    reading: Attempt<Arc<SlotMap>>,
    read_at: Cell<Option<Instant>>,
    stale: Cell<bool>,
    nodes: RefCell<HashMap<Address, Rc<Node>>>,
}

impl Slots {
    fn new(connector: Arc<Connector>, seeds: Vec<Address>) -> Self {
        Self {
            connector,
            seeds,
            map: RefCell::new(None),
            reading: Attempt::new(),
            read_at: Cell::new(None),
            stale: Cell::new(true),
            nodes: RefCell::default(),
        }
    }

    async fn node(&self, slot: u16, patience: Duration) -> Result<Rc<Node>, CallError> {
        if self.stale.get() {
            self.refresh(patience).await?;
        }
        let owner = self.map.borrow().as_ref().and_then(|map| map.owner(slot).cloned());
        if let Some(address) = owner {
            Ok(self.at(&address))
        } else {
            self.stale.set(true);
            Err(CallError::Unavailable(format!(
                "slot {slot} of the Redis Cluster has no owner; repair it: redis-cli --cluster check"
            )))
        }
    }

    /// Reads the slots if they were not read just now. Those who have an old map do not wait for the new one.
    async fn refresh(&self, patience: Duration) -> Result<(), CallError> {
        if self.read_at.get().is_some_and(|at| at.elapsed() < REFRESH_EVERY) {
            return Ok(());
        }
        let known = self.map.borrow().is_some();
        match self.read(if known { Duration::ZERO } else { patience }).await {
            Err(_) if known => Ok(()),
            read => read,
        }
    }

    async fn read(&self, patience: Duration) -> Result<(), CallError> {
        let start = || {
            let connector = self.connector.clone();
            let mut ask = self.map.borrow().as_ref().map(|map| map.nodes().to_vec()).unwrap_or_default();
            for seed in &self.seeds {
                if !ask.contains(seed) {
                    ask.push(seed.clone());
                }
            }
            async move { connector.slots(&ask).await.map(Arc::new) }
        };
        let map =
            self.reading.get(patience, start).await.map_err(|why| CallError::Unavailable(why.to_string()))?;
        self.nodes.borrow_mut().retain(|address, _| map.nodes().contains(address));
        *self.map.borrow_mut() = Some(SlotMap::clone(&map));
        self.reading.forget();
        self.read_at.set(Some(Instant::now()));
        self.stale.set(false);
        Ok(())
    }

    /// The node at an address.
    pub(super) fn at(&self, address: &Address) -> Rc<Node> {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(node) = nodes.get(address) {
            return node.clone();
        }
        let node = Node::new(&self.connector, &Place::Node(address.clone()));
        nodes.insert(address.clone(), node.clone());
        node
    }

    /// A node said that the slot is elsewhere.
    pub(super) fn moved(&self, slot: u16, to: &Address) {
        if let Some(map) = &mut *self.map.borrow_mut() {
            map.moved(slot, to);
        }
        self.stale.set(true);
    }
}
