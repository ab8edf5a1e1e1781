//! How Redis is reached, and the bounds on every wait for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything the ledger needs to know of its Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where it is.
    pub topology: Topology,
    /// Of each address: TLS, and what to believe.
    pub tls: Option<Tls>,
    /// ACL user; `None`: the default user.
    pub user: Option<String>,
    /// Password of that user.
    pub password: Option<Password>,
    /// Number of the database; 0 in a Cluster.
    pub database: u32,
    /// Before every key: several installations in one Redis.
    pub prefix: Arc<str>,
    /// Until a connection is made and checked.
    pub connect_timeout: Duration,
    /// Until a call is given up with an unknown outcome.
    pub call_timeout: Duration,
    /// Calls in a row without an answer before calls are refused at once …
    pub breaker_failures: u32,
    /// … for so long, after which one call tries again.
    pub breaker_pause: Duration,
    /// Replicas that must have a batch before it is answered; 0: none.
    pub wait_replicas: u32,
    /// Until a replica's word is given up; the outcome is then unknown.
    pub wait_timeout: Duration,
    /// Reservations and transitions in one call, at most.
    pub batch_max: usize,
    /// Reservations and transitions waiting for their call, on one core and of one sale, at most.
    pub waiting_max: usize,
    /// A note in the outbox that is older is claimed by whoever sees it.
    pub claim_after: Duration,
    /// A gateway without a heartbeat for so long is dead: its tickets are adopted.
    pub dead_after: Duration,
    /// Start although Redis may evict keys, or does not say. For tests of one's own only.
    pub allow_eviction: bool,
}

/// Where Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Address),
    /// Sentinels that know the master of that name.
    Sentinel {
        /// Asked in turn.
        sentinels: Vec<Address>,
        /// Name of the master they watch.
        master: String,
        /// Password of the sentinels themselves.
        password: Option<Password>,
    },
    /// Nodes of a Cluster, of which one must answer.
    Cluster(Vec<Address>),
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or IP.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// TLS towards Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities believed; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the gateway's own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A password: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Arc<str>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl RedisOptions {
    /// The defaults, with one server.
    pub fn single(host: &str, port: u16) -> Self {
        Self {
            topology: Topology::Single(Address { host: host.to_owned(), port }),
            tls: None,
            user: None,
            password: None,
            database: 0,
            prefix: Arc::from("tidegate:"),
            connect_timeout: Duration::from_secs(1),
            call_timeout: Duration::from_millis(200),
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(100),
            batch_max: 256,
            waiting_max: 20_000,
            claim_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(5),
            allow_eviction: false,
        }
    }
}
