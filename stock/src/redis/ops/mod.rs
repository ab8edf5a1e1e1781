//! The ledger's operations, each one script or command: typed on both sides, nothing decided here.
//!
//! ```text
//! batch.rs       notes cleared and reservations made, many in a call
//! transition.rs  tickets move, many in a call
//! sale.rs        sales: put, switch, restock, look, list, feed of wins, audit
//! read.rs        tickets as they stand, by id, by buyer, by key; resolving lost answers; may it be delivered
//! sweep.rs       claiming notes that nobody cleared, adopting the tickets of a gateway that is gone
//! recover.rs     pause, re-apply, resume
//! fleet.rs       processes of gateways, heartbeats and membership
//! news.rs        what all gateways are told
//! bans.rs        who is banned: the gate's, not the ledger's
//! ```

mod bans;
mod batch;
mod fleet;
mod news;
mod read;
mod recover;
mod sale;
mod sweep;
mod transition;

pub use bans::Bans;
pub use batch::{Batch, BatchReply, ReserveCall, Reserved};
pub use fleet::{Beat, Fleet, Forgot, Heard, Newest, Proposal, Seen};
pub use news::News;
pub use read::{ByKey, Delivers, Told};
pub use recover::{Excused, Reapply, Recovery, RecoveryId, Resumed};
pub use sale::{Restocked, SaleMeta, SaleRecorded, Win};
pub use sweep::{Adopted, Claimed, Swept};
pub use transition::{Moved, TransitionCall};

use super::keys::{FleetKeys, SaleKeys, news_channel};
use super::link::{CallError, Lineage, Link, Script};
use super::options::RedisOptions;
use super::reply::{BadReply, Reply};
use redis::Value;
use std::sync::Arc;

/// Under what a caller believes a sale to stand. Redis refuses whoever is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// Server it was activated under; nothing is sent to another one.
    pub lineage: Lineage,
    /// Generation.
    pub generation: u64,
    /// Version of the spec.
    pub version: u64,
}

/// Why an operation did nothing, or may have.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpError {
    /// The call itself.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer.
    #[error(transparent)]
    Reply(#[from] BadReply),
    /// The sale is paused until its ledger is whole again. Nothing was done.
    #[error("the sale is paused until every gateway has brought in its log")]
    Paused,
    /// Generation or spec have moved on: look again, then repeat. Nothing was done.
    #[error("the sale has changed; look again")]
    Stale,
    /// Redis does not know the sale. Nothing was done.
    #[error("Redis does not know the sale")]
    NoSale,
}

impl OpError {
    /// Whether the operation may have run, or may still run.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Call(CallError::Unknown(_) | CallError::Unreplicated(_)) | Self::Reply(_))
    }
}

/// Defines a script with the common part before it.
macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: std::sync::LazyLock<crate::redis::link::Script> = std::sync::LazyLock::new(|| {
            crate::redis::link::Script::new(
                $file,
                concat!(
                    include_str!("../../../../lua/stock/common.lua"),
                    include_str!(concat!("../../../../lua/stock/", $file, ".lua"))
                ),
            )
        });
    };
}
use script;

/// All operations, over the connections of one thread. Cheap to clone.
///
/// Cancel safety: a call that is dropped may have run; its outcome is unknown.
#[derive(Clone)]
pub struct Ops {
    pub(super) link: Link,
    pub(super) options: Arc<RedisOptions>,
    pub(super) channel: Arc<str>,
    pub(super) fleet: Arc<FleetKeys>,
    /// Gateway on whose behalf they are.
    pub(super) gateway: Arc<str>,
    /// What reads are meant for.
    expected: Option<Fence>,
}

impl Ops {
    /// On behalf of a gateway.
    pub fn new(link: Link, options: Arc<RedisOptions>, gateway: &str) -> Self {
        let channel = Arc::from(news_channel(&options.prefix));
        let fleet = Arc::new(FleetKeys::new(&options.prefix));
        Self { link, options, channel, fleet, gateway: Arc::from(gateway), expected: None }
    }

    /// The same, reading tickets and the feed of wins of this server and generation only: another one may lack what was
    /// answered before.
    #[must_use]
    pub fn under(&self, fence: Fence) -> Self {
        Self { expected: Some(fence), ..self.clone() }
    }

    /// A read, under what [`Self::under`] said; `args` follow the generation.
    async fn read_script(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Value, CallError> {
        let generation =
            self.expected.as_ref().map_or_else(String::new, |fence| fence.generation.to_string());
        let mut all: Vec<&[u8]> = Vec::with_capacity(1 + args.len());
        all.push(generation.as_bytes());
        all.extend(args);
        self.run(script, self.expected.as_ref().map(|fence| &fence.lineage), keys, &all).await
    }

    /// Keys of a sale.
    pub fn keys(&self, sale: &str) -> SaleKeys {
        SaleKeys::new(&self.options.prefix, sale)
    }

    /// Server behind a sale, as of the check of this thread's connection to it, which may be hours old.
    pub async fn lineage(&self, keys: &SaleKeys) -> Result<Lineage, CallError> {
        self.link.lineage(keys.meta()).await
    }

    /// Server behind a sale now, or up to a second ago: for deciding whether a sale is whole.
    pub async fn lineage_fresh(&self, keys: &SaleKeys) -> Result<Lineage, CallError> {
        self.link.lineage_fresh(keys.meta()).await
    }

    async fn run(
        &self,
        script: &Script,
        expected: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        self.link.script(script, expected, keys, args).await
    }

    async fn run_replicated(
        &self,
        script: &Script,
        expected: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        self.link.script_replicated(script, expected, keys, args).await
    }
}

/// The status that stands first in most answers.
fn status(reply: Reply<'_>) -> Result<(), OpError> {
    match reply.text()? {
        "ok" => Ok(()),
        "paused" => Err(OpError::Paused),
        "gen" | "spec" => Err(OpError::Stale),
        "nosale" => Err(OpError::NoSale),
        _ => Err(reply.bad("a status").into()),
    }
}
