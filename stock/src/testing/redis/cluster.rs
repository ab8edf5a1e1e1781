//! A Cluster of masters.

use super::process::until;
use super::server::{RedisServer, Setup};
use crate::redis::options::{Address, RedisOptions, Topology};
use ::redis::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const SLOTS: usize = 16_384;

/// Masters that share the slots evenly. Dropped: killed.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Three masters.
    pub fn start() -> Self {
        Self::with(vec![Vec::new(); 3])
    }

    /// One master for each list of further arguments.
    pub fn with(arguments: Vec<Vec<String>>) -> Self {
        let nodes: Vec<_> = arguments
            .into_iter()
            .map(|arguments| Setup { cluster: true, arguments, ..Setup::default() }.start())
            .collect();
        let share = SLOTS.div_ceil(nodes.len());
        for (index, node) in nodes.iter().enumerate() {
            let (from, to) = (index * share, ((index + 1) * share).min(SLOTS) - 1);
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            if index > 0 {
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port().to_string()]);
            }
        }
        let all = Self { nodes };
        for node in &all.nodes {
            until("the Cluster is whole", LIMIT, || {
                let known = matches!(node.command(&["CLUSTER", "SLOTS"]), Value::Array(r) if r.len() == all.nodes.len());
                known && text(node.command(&["CLUSTER", "INFO"])).contains("cluster_state:ok")
            });
        }
        all
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Its nodes, to kill and restart them.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// Options that lead to it.
    pub fn options(&self) -> RedisOptions {
        let address = |node: &RedisServer| Address { host: "127.0.0.1".into(), port: node.port() };
        RedisOptions {
            topology: Topology::Cluster(self.nodes.iter().map(address).collect()),
            ..RedisOptions::single("", 0)
        }
    }

    /// Slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        match self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]) {
            Value::Int(slot) => u16::try_from(slot).expect("slot"),
            other => panic!("CLUSTER KEYSLOT: {other:?}"),
        }
    }

    /// Index of the node that owns the slot of a key, if no slot was moved.
    pub fn first_owner(&self, key: &str) -> usize {
        usize::from(self.slot(key)) / SLOTS.div_ceil(self.nodes.len())
    }

    /// The slot is between the two from now on: ASK for keys that are not at the old owner any more.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let (source, target) = (self.id(from), self.id(to));
        self.nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    }

    /// Moves the slot's keys.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let port = self.nodes[to].port().to_string();
        let found = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100000"]);
        let Value::Array(keys) = found else { panic!("CLUSTER GETKEYSINSLOT: {found:?}") };
        for key in keys {
            self.nodes[from].command(&["MIGRATE", "127.0.0.1", &port, &text(key), "0", "5000"]);
        }
    }

    /// All nodes know the new owner.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, target) = (slot.to_string(), self.id(to));
        let others = (0..self.nodes.len()).filter(|&n| n != from && n != to);
        for node in [to, from].into_iter().chain(others) {
            self.nodes[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
        }
    }

    /// Moves a slot with its keys.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        self.move_keys(slot, from, to);
        self.end_move(slot, from, to);
    }

    fn id(&self, node: usize) -> String {
        text(self.nodes[node].command(&["CLUSTER", "MYID"]))
    }
}

fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).expect("UTF-8"),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        other => panic!("no text: {other:?}"),
    }
}
