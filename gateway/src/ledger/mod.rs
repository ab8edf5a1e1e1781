//! The one door to the ledger, in this process or in Redis: the same questions, the same answers. The embedded ledger
//! answers without waiting; none of its calls yields.
//!
//! ```text
//! door.rs    what may be asked, answered by the one or the other
//! error.rs   why there is no answer
//! redis/     this gateway's share of a ledger in Redis
//! ```

mod door;
mod error;
pub mod redis;

pub use error::{LedgerError, SaleFailure};

use crate::pipeline::Journal;
use redis::Shared;
use std::sync::Arc;
use tidegate_stock::{Ledger, SaleView};

/// Who keeps the stock.
pub enum Stock {
    /// This process, alone.
    Embedded(Box<Ledger<Journal>>),
    /// Redis, for several gateways.
    Redis(Arc<Shared>),
}

impl Stock {
    /// The ledger of this process.
    pub fn embedded(&self) -> Option<&Ledger<Journal>> {
        match self {
            Self::Embedded(ledger) => Some(ledger),
            Self::Redis(_) => None,
        }
    }

    /// This gateway's share of a ledger in Redis.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        match self {
            Self::Embedded(_) => None,
            Self::Redis(shared) => Some(shared),
        }
    }

    /// Tickets that the log must keep room for; with Redis, an upper bound as of the last look.
    pub fn live_tickets(&self) -> u64 {
        match self {
            Self::Embedded(ledger) => ledger.live_tickets(),
            Self::Redis(shared) => {
                shared.sales().iter().filter_map(|sale| sale.meta()).map(|meta| meta.stock.held).sum()
            }
        }
    }

    /// All sales, for figures; with Redis as of the last look, at most a second ago.
    pub fn sales_seen(&self) -> Vec<SaleView> {
        match self {
            Self::Embedded(ledger) => ledger.sales(),
            Self::Redis(shared) => {
                let sales = shared.sales();
                sales.iter().filter_map(|sale| sale.meta()?.view(&sale.keys.sale)).collect()
            }
        }
    }
}
