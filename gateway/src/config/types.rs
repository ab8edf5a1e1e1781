//! The settings as the rest of the gateway uses them: parsed, in range, consistent. How they are read and what
//! they default to is in `sections.rs`; `config/tidegate.toml` tells operators about each.

use crate::admission::TokenSettings;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tidegate_queue::{Durability, Policies, QueueOptions};
use tidegate_stock::SaleSpec;
use tidegate_stock::redis::{Address, RedisOptions, Topology};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[data]`
    pub data: Data,
    /// `[ledger]`
    pub ledger: LedgerKind,
    /// `[identity]`
    pub identity: Identity,
    /// `[admission.tokens]`
    pub tokens: TokenSettings,
    /// `[admission.quota]`
    pub quota: Quota,
    /// `[admission.blacklist]`
    pub blacklist: super::Blacklist,
    /// `[admission.pass]`
    pub pass: super::PassSettings,
    /// `[admission.policy]`
    pub policy: super::PolicySettings,
    /// `[admission.wait]`
    pub wait: crate::admission::wait::WaitSettings,
    /// `[queue]`
    pub queue: QueueSettings,
    /// `[inner]`: `None` when the inner listener asks for no token (loopback only).
    pub inner_tokens: Option<InnerTokens>,
    /// `[log]`
    pub log: LogSettings,
    /// `[[sale]]`, created at start when they do not exist yet.
    pub sales: Vec<SaleAtStart>,
    /// `[cache]`
    pub cache: super::CacheSettings,
    /// `[[proxy]]`
    pub proxy: Vec<super::ProxyRoute>,
    /// Where all this came from.
    pub(crate) origin: super::origin::Origin,
}

/// Listeners and the bounds on what they accept.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Buyers.
    pub public: SocketAddr,
    /// Order workers, operators, Prometheus.
    pub inner: SocketAddr,
    /// Base URL of the public listener as others are told it, without a last `/`; `None`: the scheme and the
    /// address that is bound (see [`Listen::advertised`]).
    pub advertise_public: Option<String>,
    /// The same of the inner listener.
    pub advertise_inner: Option<String>,
    /// Threads with a listener each, at least 1 (the `0` of the file is resolved to one per core).
    pub threads: usize,
    /// Open connections on each listener; more are closed at once.
    pub connections_max: usize,
    /// From accept (or the end of the request before) to the end of a request's head.
    pub header_timeout_ms: u64,
    /// A connection without a request in flight is closed after.
    pub idle_timeout_ms: u64,
    /// Head of a request, in bytes.
    pub header_bytes_max: usize,
    /// Body of a public request, in bytes.
    pub body_bytes_max: usize,
    /// Body of an inner request (batches of messages), in bytes.
    pub inner_body_bytes_max: usize,
    /// Open connections of one client on the public listener, trusted proxies aside; 0: any number.
    pub connections_per_ip_max: usize,
    /// Load balancers whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<ipnet::IpNet>,
    /// `[listen.tls]`; `None`: the public listener speaks plain HTTP.
    pub tls: Option<super::TlsSettings>,
    /// Graceful shutdown ends connections that are still busy after.
    pub drain_ms: u64,
}

/// The data folder and how it is written.
#[derive(Debug, Clone)]
pub struct Data {
    /// Data folder; locked while the gateway runs.
    pub dir: PathBuf,
    /// Group commit, or an interval.
    pub flush: Durability,
    /// One CommitLog segment, in bytes.
    pub segment_bytes: u64,
    /// Accepted and unwritten, in bytes, at most.
    pub pending_bytes_max: u64,
    /// Growth of the log between two snapshots, of the ledger and of the queue, in bytes.
    pub snapshot_bytes: u64,
    /// What nothing holds is deleted when it is older; [`u64::MAX`]: never.
    pub retention_ms: u64,
}

/// Where the ledger lives.
#[derive(Debug, Clone)]
pub enum LedgerKind {
    /// In this process, folded from the log.
    Embedded,
    /// In Redis, shared by several gateways.
    Redis(Arc<RedisOptions>),
}

/// How buyers prove who they are.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// For demos: the header is believed whoever sends it, and without it the client's address is the buyer.
    Anonymous {
        /// Lower case header name.
        header: http::HeaderName,
        /// Whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<ipnet::IpNet>,
    },
    /// A proxy in front has authenticated the buyer and says so in a header.
    Header {
        /// Lower case header name.
        header: http::HeaderName,
        /// Whose header and `X-Forwarded-For` are believed.
        trusted_proxies: Vec<ipnet::IpNet>,
    },
    /// `Authorization: Bearer` with a JWT whose `sub` is the buyer.
    Jwt {
        /// The check.
        jwt: Box<Jwt>,
        /// Whose `X-Forwarded-For` is believed.
        trusted_proxies: Vec<ipnet::IpNet>,
    },
}

/// How a JWT is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    /// Where the keys are, and the one algorithm that is accepted.
    pub source: crate::admission::KeySource,
    /// As they were read.
    pub keys: crate::admission::Keys,
    /// Required `iss`.
    pub issuer: Option<String>,
    /// Required `aud`.
    pub audience: Option<String>,
    /// Clock difference granted to `exp` and `nbf`, in seconds.
    pub leeway_s: u64,
    /// Verified tokens remembered, at most; 0: none.
    pub cache_max: usize,
}

/// Quotas of single clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// By buyer; `None` is off.
    pub buyer: Option<ClientQuota>,
    /// By client address; `None` is off.
    pub ip: Option<ClientQuota>,
    /// Buyers never seen at an address; `None` is off.
    pub newcomers: Option<Newcomers>,
    /// Networks without any quota by address, which are never banned either.
    pub exempt: Vec<ipnet::IpNet>,
    /// Clients tracked at most (buyers and addresses each).
    pub clients_max: usize,
}

/// How many strangers one address may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomers {
    /// At once, at least 1.
    pub burst: u32,
    /// As many again over this time, in ms.
    pub window_ms: u64,
    /// Further ones are asked to come back after, in ms.
    pub wait_ms: u64,
}

/// Quota of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientQuota {
    /// Requests a second, at least 1.
    pub per_s: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// Defaults of topics and groups.
#[derive(Debug, Clone)]
pub struct QueueSettings {
    /// Queues of a topic that is created on first use.
    pub topic_queues: u32,
    /// Lease of a receive that does not say.
    pub lease_ms: u64,
    /// Deliveries before a message is a dead letter.
    pub attempts_max: u32,
    /// Delay before attempt 2, 3 …; the last one repeats.
    pub retry_delays_ms: Vec<u64>,
    /// Acknowledgements are checkpointed at least this often.
    pub ack_sync_ms: u64,
    /// A transaction that nobody has resolved is checked first after this time, in ms.
    pub check_first_ms: u64,
    /// And again each time after this, in ms.
    pub check_every_ms: u64,
    /// After so many checks it is rolled back.
    pub checks_max: u32,
    /// Delayed messages that are pending, at most; those of the gateway itself are not counted.
    pub delayed_max: usize,
    /// What a message of delay level 1, 2 … waits.
    pub delay_levels_ms: [u64; 18],
    /// A group that is idle for so long no longer keeps the log.
    pub group_expiry_ms: u64,
    /// Long-polling receives at once over all groups; more are refused.
    pub waiting_receives_max: usize,
}

/// Bearer tokens of the inner listener.
#[derive(Debug, Clone)]
pub struct InnerTokens {
    /// Scope `worker`.
    pub worker: Secret,
    /// Scope `admin`, which includes `worker`.
    pub admin: Secret,
}

/// What the process writes to standard error.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Filter in `tracing` syntax, such as `info` or `tidegate=debug,info`.
    pub level: String,
    /// Whether anything that writes to the log may name buyers.
    pub buyers: bool,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A sale of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleAtStart {
    /// Id.
    pub sale: String,
    /// As in `PUT /v1/sales/{sale}`.
    pub spec: SaleSpec,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps it.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text itself: for what signs with it.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Compares in a time that does not tell how much of a guess was right.
    pub fn matches(&self, guess: &[u8]) -> bool {
        // Their hashes: neither a part of the secret nor its length shows in the time.
        Sha256::digest(self.0.as_bytes()).ct_eq(&Sha256::digest(guess)).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl LogSettings {
    /// The filter. The gateway's own lines never name a buyer; libraries that it is made of tell all that they read when
    /// they are asked for every detail, so unless `buyers` is set they are not.
    pub fn filter(&self) -> String {
        if self.buyers {
            return self.level.clone();
        }
        let quiet = ["h2", "hyper", "hyper_util", "rustls", "tokio_rustls", "redis", "mio", "want"];
        quiet.iter().fold(self.level.clone(), |filter, library| format!("{filter},{library}=info"))
    }
}

impl Listen {
    /// Scheme of the public listener.
    pub fn public_scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The base URL that others are told of a listener: what the configuration says, else the bound address.
    pub fn advertised(configured: Option<&str>, scheme: &str, bound: SocketAddr) -> String {
        configured.map_or_else(|| format!("{scheme}://{bound}"), str::to_owned)
    }
}

impl fmt::Display for LedgerKind {
    /// In one line, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(options) = self else { return f.write_str("embedded") };
        let join =
            |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match &options.topology {
            Topology::Single(address) => write!(f, "Redis {address}")?,
            Topology::Sentinel { sentinels, master, .. } => {
                write!(f, "Redis master {master} of Sentinels {}", join(sentinels))?;
            }
            Topology::Cluster(nodes) => write!(f, "Redis Cluster {}", join(nodes))?,
        }
        let tls = if options.tls.is_some() { " with TLS" } else { "" };
        write!(f, "{tls}, keys {}*", options.prefix)
    }
}

impl Config {
    /// How long the queue waits for things, and keeps them.
    pub fn policies(&self) -> Policies {
        Policies {
            check_first_ms: self.queue.check_first_ms,
            check_every_ms: self.queue.check_every_ms,
            checks_max: self.queue.checks_max,
            retention_ms: self.data.retention_ms,
            group_expiry_ms: self.queue.group_expiry_ms,
            snapshot_every_bytes: self.data.snapshot_bytes,
            // Nothing is deleted that the ledger has not released.
            owner_holds: true,
            delayed_max: self.queue.delayed_max,
            delay_levels_ms: self.queue.delay_levels_ms,
            ..Policies::default()
        }
    }

    /// Options of the queue over this data folder.
    pub fn queue_options(&self) -> QueueOptions {
        QueueOptions {
            dir: self.data.dir.clone(),
            flush: self.data.flush,
            segment_bytes: self.data.segment_bytes,
            pending_bytes_max: self.data.pending_bytes_max,
            topic_queues: self.queue.topic_queues,
            ack_sync_ms: self.queue.ack_sync_ms,
            attempts_max: self.queue.attempts_max,
            retry_delays_ms: self.queue.retry_delays_ms.clone(),
            timer_thread: true,
            ..QueueOptions::new(&self.data.dir)
        }
    }
}

impl Identity {
    /// Whose `X-Forwarded-For` is believed.
    pub fn trusted_proxies(&self) -> &[ipnet::IpNet] {
        match self {
            Self::Anonymous { trusted_proxies, .. }
            | Self::Header { trusted_proxies, .. }
            | Self::Jwt { trusted_proxies, .. } => trusted_proxies,
        }
    }
}
