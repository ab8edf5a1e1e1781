//! `[[proxy]]`: paths that an existing service answers, behind the same gates as an order. `docs/proxy.md` tells how
//! to set one up.
//!
//! A request goes one way: path → route → gates → [`fetch`] → upstream. What the gates judged is what is forwarded: the
//! path has one spelling, and nothing that describes the connection, the client or the buyer is believed from outside.
//! Bodies stream both ways, a piece at a time; nothing is kept of them.
//!
//! ```text
//! path.rs       one spelling of a path; what could be read in two ways is refused
//! routes.rs     which route a path belongs to; what a route keeps over a reload
//! serve.rs      a route's gates, in order
//! headers.rs    what of the head crosses the gateway, either way
//! forwarded.rs  who asked: X-Forwarded-*, Forwarded, Via
//! fetch.rs      a token, a connection, the answer
//! pace.rs       the tokens of a route: so many a second leave, whatever waits
//! upstream.rs   addresses, whose turn it is, who is down
//! pool.rs       connections of one core
//! connect.rs    TCP and TLS
//! upload.rs     body of a request on its way out
//! download.rs   body of an answer on its way back
//! figures.rs    counters of a route
//! ```

mod connect;
mod download;
mod fetch;
mod figures;
mod forwarded;
mod headers;
mod pace;
mod path;
mod pool;
mod routes;
mod serve;
mod upload;
mod upstream;

pub use connect::tls_client;
pub use download::{Cut, Download};
pub use fetch::{Outgoing, fetch};
pub(crate) use figures::encode;
pub use headers::is_framing;
pub use path::{PathFault, canonical};
pub use pool::Pool;
pub use routes::{Route, Routes};
pub use serve::serve;
pub use upload::{Upload, UploadFault};
pub use upstream::Address;
