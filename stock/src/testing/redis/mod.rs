//! Redis processes of a test's own, on free ports of 127.0.0.1, ended when dropped.
//!
//! ```text
//! process.rs     processes, ports, waiting
//! server.rs      one server
//! sentinels.rs   Sentinels that watch a master
//! cluster.rs     a Cluster of masters
//! proxy.rs       sees every command, swaps the Redis behind it
//! ```
//!
//! Everything here panics when it cannot do what it is asked: a test without its server has failed.

mod cluster;
mod process;
mod proxy;
mod sentinels;
mod server;

pub use cluster::Cluster;
pub use process::until;
pub use proxy::{Seen, SwapProxy};
pub use sentinels::Sentinels;
pub use server::{RedisServer, Setup, TlsFiles};
