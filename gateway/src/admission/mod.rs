//! The gates between the socket and the ledger, one file each. Their order is in `api/orders.rs`.
//!
//! ```text
//! sale_gate.rs       gates 1 and 2: known, open, not sold out
//! identity/          gate 3: who is it
//! client_address.rs  from where a request comes, behind proxies too
//! blacklist/         gate 4: who is banned
//! quota/             gate 5: quotas of single clients
//! pass/              gate 6: purchase passes
//! wait/              gate 8: the projected wait
//! tokens/            gate 9: the token queue, fair between sales
//! winners.rs         who has won: lets a winner's retry pass
//! ```

pub mod blacklist;
mod client_address;
mod identity;
pub mod pass;
mod quota;
mod sale_gate;
pub(crate) mod tokens;
pub mod wait;
mod winners;

pub use client_address::client_address;
pub(crate) use identity::run_key_reload;
pub use identity::{
    Identity, JwtCounts, JwtGate, KeyError, KeySource, Keys, TOKEN_BYTES_MAX, Unidentified, bearer,
};
pub(crate) use quota::network_of;
pub use quota::{ClientQuota, Exceeded, Left, Newcomers, QuotaKind, Quotas, Within};
pub use sale_gate::{Rules, SaleGate, SaleGates};
pub use tokens::{NoToken, TokenQueue, TokenRate, TokenSettings};
pub use winners::Winners;
