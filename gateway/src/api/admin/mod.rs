//! The admin API: sales, audit, figures, dead letters, health, and a page for people.
//!
//! ```text
//! sales.rs         create, change, open, close, restock
//! audit.rs         the counters against a recount of the tickets
//! figures.rs       topics and groups; the rates are in `rates.rs`
//! rates.rs         messages a second, of late
//! dead_letters.rs  what no worker could deal with, and its second chance
//! blacklist.rs     who is banned; the task that keeps the list
//! recovery.rs      a paused sale goes on without a gateway; orders beyond the stock
//! reload.rs        the configuration read again
//! cache.rs         kept answers of proxy routes are forgotten
//! health.rs        alive, ready, which gateways there are
//! dashboard.rs     one page that shows sales and topics
//! openapi.rs       the interface, for programs
//! ```

mod audit;
mod blacklist;
mod cache;
mod dashboard;
mod dead_letters;
mod figures;
mod health;
mod openapi;
mod rates;
mod recovery;
mod reload;
mod sales;

pub(super) use audit::{audit_all, audit_sale};
pub(super) use blacklist::{lift_ban, list_bans, put_ban};
pub(super) use cache::forget_cache;
pub(super) use dashboard::dashboard;
pub(super) use dead_letters::{dead_letters, redrive};
pub(super) use figures::list_topics;
pub(super) use health::{gateways, healthz, readyz};
pub(super) use openapi::openapi;
pub(super) use recovery::{excess, forget, recovery, release_excess, resume};
pub(super) use reload::reload;
pub(super) use sales::{Switch, get_sale, list_sales, put_sale, restock, switch_sale};

pub(crate) use audit::audit_object;
pub(crate) use blacklist::run_blacklist;
pub use rates::Rates;
pub(crate) use rates::run_rates;
