//! Sockets: binding, accepting, serving connections, draining them.
//!
//! ```text
//! bind.rs         one SO_REUSEPORT listener a core, after a probe that finds a second process
//! connection.rs   accepting, counting, answering
//! entrance.rs     … who is let in: PROXY protocol, connections of one client, TLS
//! proxy_protocol.rs, seats.rs, tls/, stream.rs   … and its parts
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
mod entrance;
mod proxy_protocol;
mod seats;
mod serving;
mod stream;
pub mod tls;
mod watchdog;
mod watched;

pub(crate) use bind::BACKLOG;
pub use bind::{BindError, Sockets};
pub use connection::{Side, accept};
pub use entrance::Entrance;
pub(crate) use tls::run_certificate_reload;
pub use tls::{Certificate, CertificateError, CertificateFile, CertificateFiles, Tls};
pub use watchdog::Watchdog;
