//! The ledger in Redis: one stock for several gateways.
//!
//! ```text
//! options.rs   how Redis is reached, and the bounds on every wait for it
//! ```

pub mod options;

pub use options::{Address, Password, RedisOptions, Tls, Topology};
