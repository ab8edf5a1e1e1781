//! Sockets: binding, accepting, serving connections, draining them.
//!
//! ```text
//! bind.rs         one SO_REUSEPORT listener a core, after a probe that finds a second process
//! connection.rs   accepting, counting, answering
//! serving.rs      one connection: HTTP/1.1 or HTTP/2 cleartext, until it ends or the gateway drains; asleep when quiet
//! watchdog.rs     closes connections that are idle, or slow to send a request's head
//! ```

mod bind;
mod connection;
mod serving;
mod watchdog;

pub use bind::{BindError, Sockets};
pub use connection::{Side, accept};
pub use watchdog::{InFlight, Watchdog};
