//! What a service behind the gateway saw, and what those who asked for it were told.

use crate::scenario::Proxy;

#[derive(Debug, Clone, Default)]
pub(crate) struct UpstreamSaw {
    /// When each request was there with its whole head, in order.
    pub(crate) arrivals_us: Vec<u64>,
    /// When it was asked too much, if it was.
    pub(crate) collapsed_us: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ClientsSaw {
    /// Requests that left.
    pub(crate) offered: u64,
    /// Answered by the service, and by nobody else.
    pub(crate) served: u64,
    /// 429 with `Retry-After`.
    pub(crate) refused: u64,
    /// Anything else, for people; the first few.
    pub(crate) others: Vec<String>,
    pub(crate) others_count: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct ProxySaw {
    pub(crate) settings: Proxy,
    pub(crate) upstream: UpstreamSaw,
    pub(crate) clients: ClientsSaw,
}
