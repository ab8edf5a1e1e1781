//! Names in Redis. The schema's version is a part of every name: two releases that differ in it do not see each
//! other's sales.

use std::sync::Arc;

/// Raised whenever what stands under the keys changes its meaning.
pub const SCHEMA: u32 = 1;

/// Keys of one sale, in the order in which the scripts expect them. All in one hash slot.
#[derive(Debug, Clone)]
pub struct SaleKeys {
    /// The sale.
    pub sale: Arc<str>,
    names: [String; 10],
}

impl SaleKeys {
    /// Of a sale under a prefix.
    pub fn new(prefix: &str, sale: &str) -> Self {
        let name = |letter: &str| format!("{prefix}{SCHEMA}:{{{sale}}}:{letter}");
        Self { sale: Arc::from(sale), names: ["s", "t", "b", "o", "d", "w", "r", "x", "a", "m"].map(name) }
    }

    /// The first `count` of them.
    pub(super) fn first(&self, count: usize) -> [&str; 10] {
        let mut keys = [""; 10];
        for (key, name) in keys.iter_mut().zip(&self.names[..count]) {
            *key = name;
        }
        keys
    }

    /// The sale's meta data; it also tells the slot.
    pub fn meta(&self) -> &str {
        &self.names[0]
    }

    /// Gateways whose logs are brought in, and those whose logs must be.
    pub(super) fn recovery(&self) -> [&str; 2] {
        [&self.names[8], &self.names[9]]
    }

    /// Live tickets by when they are due.
    pub(super) fn due(&self) -> &str {
        &self.names[4]
    }
}

/// Keys of the fleet, in one hash slot.
#[derive(Debug, Clone)]
pub struct FleetKeys {
    /// gateways, beats, members, joins, processes, forgotten.
    pub(super) heartbeat: [String; 6],
    /// Names of all sales.
    pub(super) sales: String,
}

impl FleetKeys {
    /// Under a prefix.
    pub fn new(prefix: &str) -> Self {
        let name = |what: &str| format!("{prefix}{SCHEMA}:{{fleet}}:{what}");
        let heartbeat = ["gateways", "beats", "members", "joins", "processes", "forgotten"].map(name);
        Self { heartbeat, sales: name("sales") }
    }

    /// A key in the fleet's slot.
    pub fn any(&self) -> &str {
        &self.sales
    }
}

/// Key of something that the gates of all gateways share, in a slot of its own.
pub fn gate_key(prefix: &str, what: &str) -> String {
    format!("{prefix}{SCHEMA}:{{gate}}:{what}")
}

/// Channel of the news of all sales under a prefix.
pub fn news_channel(prefix: &str) -> String {
    format!("{prefix}{SCHEMA}:news")
}
