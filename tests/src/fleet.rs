//! Several gateways that sell one stock in a Redis.

use crate::{Server, Settings, Shop, eventually};
use std::time::Duration;
use tidegate_stock::testing::redis::RedisServer;

/// How the gateways of a fleet are set up. Short bounds, so that a test sees what comes after them.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// `[ledger.redis]`: keys after `ledger.redis.`, values in TOML.
    pub redis: Vec<(String, String)>,
    /// Other keys and values.
    pub other: Vec<(String, String)>,
}

/// Gateways as child processes. Dropping it kills them.
#[derive(Debug)]
pub struct Fleet {
    /// The gateways, each with a data folder of its own.
    pub gateways: Vec<Server>,
}

impl FleetSettings {
    /// A call may take 200 ms, notes are claimed after 600 ms, a gateway is dead after 1.5 s.
    pub fn new() -> Self {
        let none = Self { redis: Vec::new(), other: Vec::new() };
        none.redis("call_timeout_ms", "200").redis("claim_after_ms", "600").redis("dead_after_ms", "1500")
    }

    /// A key of `[ledger.redis]` and its value in TOML; the last word counts.
    #[must_use]
    pub fn redis(mut self, key: &str, toml: &str) -> Self {
        self.redis.push((key.to_owned(), toml.to_owned()));
        self
    }

    /// Any other key and its value in TOML; the last word counts.
    #[must_use]
    pub fn other(mut self, key: &str, toml: &str) -> Self {
        self.other.push((key.to_owned(), toml.to_owned()));
        self
    }

    /// Where Redis is.
    #[must_use]
    pub fn at(self, port: u16) -> Self {
        self.redis("url", &format!("\"redis://127.0.0.1:{port}\""))
    }

    /// Settings of one gateway.
    pub fn gateway(&self) -> Settings {
        let mut settings = Settings::new().set_text("ledger.kind", "redis");
        for (key, value) in &self.redis {
            settings = settings.value(&format!("ledger.redis.{key}"), value);
        }
        for (key, value) in &self.other {
            settings = settings.value(key, value);
        }
        settings
    }
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// Two gateways at a Redis of their own, which keeps nothing on disk.
    pub async fn two() -> (RedisServer, Self) {
        let redis = RedisServer::start();
        let fleet = Self::start(&redis, 2).await;
        (redis, fleet)
    }

    /// So many gateways at this Redis; all can sell when this returns.
    pub async fn start(redis: &RedisServer, count: usize) -> Self {
        Self::start_with(&vec![FleetSettings::new().at(redis.port()); count]).await
    }

    /// One gateway for each of these settings; all can sell when this returns.
    pub async fn start_with(settings: &[FleetSettings]) -> Self {
        let mut gateways: Vec<Server> =
            settings.iter().map(|settings| Server::launch_with(settings.gateway())).collect();
        for gateway in &mut gateways {
            gateway.until_ready().await;
        }
        Self { gateways }
    }

    /// What one gateway is to its clients.
    pub fn shop(&self, index: usize) -> Shop {
        self.gateways[index].shop.clone()
    }

    /// What all gateways are to their clients.
    pub fn shops(&self) -> Vec<Shop> {
        self.gateways.iter().map(|gateway| gateway.shop.clone()).collect()
    }

    /// Creates the sale on the first gateway and opens it; all sell it when this returns.
    pub async fn open(&self, sale: &str, settings: &crate::Sale) {
        self.shop(0).open(sale, settings).await;
        self.until_open(sale).await;
    }

    /// Waits until every gateway sells.
    pub async fn until_open(&self, sale: &str) {
        for shop in self.shops() {
            shop.until_state(sale, "open").await;
        }
    }

    /// Waits until no gateway sells: all units are gone.
    pub async fn until_sold_out(&self, sale: &str) {
        for shop in self.shops() {
            shop.until_state(sale, "sold_out").await;
        }
    }

    /// One more unit is sold by each gateway, as soon as it can: buyers `PREFIX-0`, `PREFIX-1`, ….
    pub async fn sells_again(&self, sale: &str, prefix: &str) {
        for (index, shop) in self.shops().iter().enumerate() {
            shop.insist(sale, &format!("{prefix}-{index}"), "k").await;
        }
    }

    /// Waits until the first gateway says that the sale's recovery lacks nothing but this gateway's log.
    pub async fn until_waits_for(&self, sale: &str, gateway: &str) {
        let path = format!("/v1/sales/{sale}/recovery");
        eventually(&format!("{sale} waits for {gateway} alone"), || async {
            let reply = self.gateways[0].shop.inner.get(&path, &[]).await;
            (reply.status == 200 && reply.json["missing"] == serde_json::json!([gateway])).then_some(())
        })
        .await;
    }

    /// Waits until the audits of all gateways hold and tell the same, in words and numbers; panics when they do not
    /// come to agree.
    pub async fn audit(&self, sale: &str) -> crate::Reply {
        let shops = self.shops();
        eventually("the gateways' audits agree", || async {
            let first = shops[0].audit(sale).await;
            for shop in &shops[1..] {
                if shop.audit(sale).await.json != first.json {
                    return None;
                }
            }
            Some(first)
        })
        .await
    }
}

/// How long a gateway may be silent before its tickets are adopted, with [`FleetSettings::new`].
pub const DEAD_AFTER: Duration = Duration::from_millis(1_500);
