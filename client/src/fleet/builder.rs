//! Addresses, client settings and bounds of a fleet.

use super::{Discovery, Fleet};
use crate::client::{BuildError, Client, ClientBuilder};
use std::time::Duration;

/// Sets up a [`Fleet`].
#[derive(Debug, Clone)]
pub struct FleetBuilder {
    addresses: Vec<String>,
    client: ClientBuilder,
    every: Duration,
    probe_within: Duration,
}

impl FleetBuilder {
    pub(super) fn new<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(|address| address.as_ref().to_owned()).collect(),
            client: Client::builder(""),
            every: Duration::from_secs(5),
            probe_within: Duration::from_secs(2),
        }
    }

    /// Token, time-outs and retries of the clients, the same for every gateway.
    #[must_use]
    pub fn client(mut self, set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        self.client = set(self.client);
        self
    }

    /// How often the list is asked for, with a jitter of a fifth; 5 s by default. A gateway that joins is noticed
    /// within this and two probes.
    #[must_use]
    pub fn refresh_every(mut self, interval: Duration) -> Self {
        self.every = interval.max(Duration::from_millis(10));
        self
    }

    /// How long one gateway may take to answer with its list; 2 s by default.
    #[must_use]
    pub fn probe_within(mut self, bound: Duration) -> Self {
        self.probe_within = bound;
        self
    }

    /// Checks addresses and token. Connects to nothing yet. An address given twice counts once.
    pub fn build(self) -> Result<Fleet, BuildError> {
        let mut given: Vec<Client> = Vec::new();
        for address in &self.addresses {
            let client = self.client.clone().at(address).build()?;
            if given.iter().all(|known| known.base_url() != client.base_url()) {
                given.push(client);
            }
        }
        if given.is_empty() {
            return Err(BuildError::NoAddress);
        }
        let discovery = Discovery { client: self.client, every: self.every, probe_within: self.probe_within };
        Ok(Fleet::new(given, Some(discovery)))
    }
}
