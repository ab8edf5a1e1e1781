//! A gateway in this process, over a disk of the test's choosing.

use crate::{Http, Settings, Shop, eventually};
use std::sync::Arc;
use tidegate::Gateway;
use tidegate::config::Config;
use tidegate_queue::storage::Storage;
use tidegate_queue::{Clock, SystemClock};

/// A running gateway. Dropping it without [`InProcess::shutdown`] leaves its threads running until the test ends.
pub struct InProcess {
    /// Its two listeners.
    pub shop: Shop,
    /// The gateway.
    pub gateway: Gateway,
}

impl InProcess {
    /// Starts over `storage` with the system clock; ready when this returns.
    pub async fn start(settings: &Settings, storage: Arc<dyn Storage>) -> Self {
        Self::start_at(settings, storage, Arc::new(SystemClock::new())).await
    }

    /// Starts over `storage` with this clock; ready when this returns.
    pub async fn start_at(settings: &Settings, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        let config = Config::load(Some(&settings.write()), std::iter::empty())
            .unwrap_or_else(|problems| panic!("{problems:?}"));
        let gateway = tokio::task::spawn_blocking(move || Gateway::start(config, storage, clock).unwrap());
        let gateway = gateway.await.unwrap();
        let shop = Shop::new(Http::new(&settings.public_url()), Http::new(&settings.inner_url()));
        eventually("the gateway is ready", || async {
            (shop.inner.get("/readyz", &[]).await.status == 200).then_some(())
        })
        .await;
        Self { shop, gateway }
    }

    /// Stops it, as SIGTERM would. An error says that the log could not be closed.
    pub async fn shutdown(self) -> Result<(), tidegate_queue::AppendError> {
        tokio::task::spawn_blocking(move || self.gateway.shutdown()).await.unwrap()
    }
}
