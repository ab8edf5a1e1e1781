//! Address, token, time-outs and bounds of a client.

use super::transport::Transport;
use super::{BuildError, Client, RetryPolicy};
use http::HeaderValue;
use http::uri::{Authority, Scheme, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;

/// Sets up a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    base_url: String,
    token: Option<String>,
    connect_timeout: Duration,
    request_timeout: Duration,
    idle_max: usize,
    response_bytes_max: usize,
    retry: RetryPolicy,
}

impl ClientBuilder {
    pub(super) fn new(base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            token: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            idle_max: 64,
            response_bytes_max: 16 << 20,
            retry: RetryPolicy::default(),
        }
    }

    /// The same settings for another gateway.
    pub(crate) fn at(mut self, base_url: &str) -> Self {
        base_url.clone_into(&mut self.base_url);
        self
    }

    /// Bearer token with scope `worker` or `admin`; none by default.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long a connection may take to come about; 2 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one attempt may take until its answer is whole; 10 s by default. A long poll's own wait comes
    /// on top.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Idle connections kept; 64 by default.
    #[must_use]
    pub fn idle_max(mut self, connections: usize) -> Self {
        self.idle_max = connections;
        self
    }

    /// Longest answer taken; 16 MiB by default. A longer one is [`super::ClientError::TooLarge`].
    #[must_use]
    pub fn response_bytes_max(mut self, bytes: usize) -> Self {
        self.response_bytes_max = bytes;
        self
    }

    /// Bounds on retries.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Checks address and token. Connects to nothing yet.
    pub fn build(self) -> Result<Client, BuildError> {
        let authority = authority(&self.base_url).ok_or(BuildError::BaseUrl(self.base_url))?;
        let authorization = match &self.token {
            None => None,
            Some(token) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BuildError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.connect_timeout));
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(self.idle_max)
            .build(connector);
        Ok(Client {
            shared: Arc::new(Transport {
                http,
                base_url: base_url(&authority),
                authority,
                authorization,
                request_timeout: self.request_timeout,
                response_bytes_max: self.response_bytes_max,
                retry: self.retry,
            }),
        })
    }
}

/// How [`Client::base_url`] spells an address; `None` where no client can be built for it.
pub(crate) fn normal_url(address: &str) -> Option<String> {
    authority(address).map(|authority| base_url(&authority))
}

fn base_url(authority: &Authority) -> String {
    format!("http://{}", authority.as_str().to_ascii_lowercase())
}

fn authority(address: &str) -> Option<Authority> {
    let uri: Uri = address.parse().ok()?;
    let bare = uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/") && uri.query().is_none();
    uri.authority().filter(|_| bare).cloned()
}
