//! A service behind a route of the gateway, and clients who ask it for more than it stands.
//!
//! ```text
//! upstream.rs  the service: counts what comes, and goes down for good when that is too much
//! clients.rs   open-loop requests, and what each was answered
//! ```

mod clients;
mod upstream;

pub(crate) use clients::Clients;
pub(crate) use upstream::Upstream;

/// Path of the route at the gateway.
pub(crate) const PATH: &str = "/fragile/";
