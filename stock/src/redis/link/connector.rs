//! From a place to a connection that has passed its check.

use super::handshake::{Wanted, handshake};
use super::lineage::Lineage;
use super::sentinel::Sentinels;
use super::slots::{SlotMap, ask_slots};
use super::stream::{self, Stream};
use crate::redis::options::{Address, RedisOptions, Topology};
use redis::AsyncConnectionConfig;
use redis::RedisConnectionInfo;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// This address.
    Node(Address),
    /// The master that the Sentinels name now.
    SentinelMaster,
}

/// A stream whose server was checked: the only way to one.
pub(super) struct Checked {
    pub(super) stream: Stream,
    pub(super) lineage: Lineage,
    pub(super) address: Address,
}

/// Opens connections. Every wait is bounded by `connect_timeout`.
pub(super) struct Connector {
    pub(super) options: Arc<RedisOptions>,
    sentinels: Option<Sentinels>,
}

impl Connector {
    pub(super) fn new(options: Arc<RedisOptions>) -> Self {
        let sentinels = match &options.topology {
            Topology::Sentinel { .. } => Some(Sentinels::default()),
            _ => None,
        };
        Self { options, sentinels }
    }

    /// Connects, logs in, checks. The error says where, why, and what to do.
    pub(super) async fn open(&self, place: &Place) -> Result<Checked, String> {
        let limit = self.options.connect_timeout;
        let opened = match (place, &self.sentinels) {
            (Place::SentinelMaster, Some(sentinels)) => timeout(limit, sentinels.open_master(self)).await,
            (Place::SentinelMaster, None) => return Err("no Sentinels are configured".into()),
            (Place::Node(address), _) => timeout(limit, self.open_node(address, Wanted::Master)).await,
        };
        opened.unwrap_or_else(|_| {
            let place = match place {
                Place::Node(address) => format!("Redis at {address}"),
                Place::SentinelMaster => "the master behind the Sentinels".to_owned(),
            };
            let tls = self.options.tls.as_ref().map_or("", |_| ", and that this port is for TLS");
            let help = format!("check that it runs and is reachable{tls}");
            Err(format!("{place} did not answer within {limit:?} (connect_timeout); {help}"))
        })
    }

    /// As `open`, one address, without the bound.
    pub(super) async fn open_node(&self, address: &Address, wanted: Wanted) -> Result<Checked, String> {
        let opened = async {
            let mut stream = stream::connect(address, self.options.tls.as_ref()).await?;
            let lineage = handshake(&mut stream, &self.options, wanted).await?;
            Ok(Checked { stream, lineage, address: address.clone() })
        };
        opened.await.map_err(|why: String| format!("Redis at {address} cannot be used: {why}"))
    }

    /// Who owns which slot, asked of the nodes in turn.
    pub(super) async fn slots(&self, nodes: &[Address]) -> Result<SlotMap, String> {
        // Each its share, so that one that swallows packets does not use up the whole time.
        let share = self.options.connect_timeout / (nodes.len().max(1) as u32);
        let mut why = String::from("no node of the Cluster is known");
        for node in nodes {
            let asked = async {
                let mut checked = self.open_node(node, Wanted::AnyRole).await?;
                ask_slots(&mut checked).await
            };
            match timeout(share, asked).await {
                Ok(Ok(map)) => return Ok(map),
                Ok(Err(error)) => why = error,
                Err(_) => why = format!("Redis at {node} did not answer within {share:?}"),
            }
        }
        Err(format!("the Cluster's slots are not known: {why}"))
    }
}

/// A checked connection on which calls run side by side.
pub(super) struct Connection {
    redis: MultiplexedConnection,
    driver: JoinHandle<()>,
    pub(super) lineage: Lineage,
    pub(super) address: Address,
    pub(super) checked_at: Instant,
}

impl Connection {
    pub(super) async fn open(connector: &Connector, place: &Place) -> Result<Self, String> {
        let Checked { stream, lineage, address } = connector.open(place).await?;
        let checked_at = Instant::now();
        // Logged in and checked already: told nothing, the crate sends nothing of its own.
        let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (redis, driver) = MultiplexedConnection::new_with_config(&nothing, stream, config)
            .await
            .map_err(|e| format!("Redis at {address} cannot be used: {e}"))?;
        Ok(Self { redis, driver: tokio::spawn(driver), lineage, address, checked_at })
    }

    /// False: lost, and whatever is sent now would go nowhere.
    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    /// A handle to send on.
    pub(super) fn handle(&self) -> MultiplexedConnection {
        self.redis.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
