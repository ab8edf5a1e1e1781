//! Sockets: binding, accepting, serving connections, draining them.
//!
//! ```text
//! bind.rs         one SO_REUSEPORT listener a core, after a probe that finds a second process
//! connection.rs   accepting, counting, answering
//! serving.rs      one connection: HTTP/1.1 or HTTP/2 cleartext, until it ends or the gateway drains
//! asleep.rs       … while nothing is asked on it: a socket, and what came of the next head
//! activity.rs     … what it is doing
//! watched.rs      … of which its stream tells
//! watchdog.rs     closes connections that are idle, or slow to send a request's head or to take an answer
//! ```

mod activity;
mod asleep;
mod bind;
mod connection;
mod serving;
mod watchdog;
mod watched;

pub(crate) use bind::BACKLOG;
pub use bind::{BindError, Sockets};
pub use connection::{Side, accept};
pub use watchdog::Watchdog;
