//! On start: `created` again for every row that is still pending. A worker that died between its commit and its
//! report left such rows.

use super::protocol::{Protocol, Unsettled};
use super::store::{OrderRow, OrderStore};
use crate::ClientError;
use crate::client::Backoff;
use crate::wire::ProblemType;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Rows read at once.
const PAGE: usize = 256;

/// What became of one row.
enum Recovered {
    Settled,
    /// The gateway has never heard of the ticket; the row stays pending, which is no order.
    Unknown,
}

impl<S: OrderStore> Protocol<S> {
    /// Settles the rows that are pending now, at most `concurrency` at once, waiting for the gateway as long as it
    /// takes. `Err` only when it refuses in a way that waiting does not mend.
    ///
    /// Cancel safety: rows not settled stay pending, for the next start.
    pub(super) async fn recover(self: Arc<Self>, concurrency: usize) -> Result<(), ClientError> {
        let mut after = String::new();
        let mut away = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let page = match self.store.pending(&after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "order store does not answer; recovery waits");
                    tokio::time::sleep(away.next_delay(Duration::from_millis(50))).await;
                    continue;
                }
            };
            away.reset();
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.ticket);
            let mut settling = JoinSet::new();
            for row in page {
                if settling.len() >= concurrency {
                    self.count(settling.join_next().await)?;
                }
                let protocol = Arc::clone(&self);
                settling.spawn(async move { protocol.recover_row(row).await });
            }
            while let Some(joined) = settling.join_next().await {
                self.count(Some(joined))?;
            }
        }
    }

    fn count(
        &self,
        joined: Option<Result<Result<Recovered, ClientError>, tokio::task::JoinError>>,
    ) -> Result<(), ClientError> {
        match joined {
            Some(Ok(Ok(Recovered::Settled))) => self.stats.recovered.add(1),
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(error)) => tracing::error!(%error, "a row's recovery panicked; it stays pending"),
            Some(Ok(Ok(Recovered::Unknown))) | None => {}
        }
        Ok(())
    }

    async fn recover_row(&self, row: OrderRow) -> Result<Recovered, ClientError> {
        let mut away = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match self.settle(&row).await {
                Ok(_state) => return Ok(Recovered::Settled),
                Err(Unsettled::Client(error))
                    if error.problem_type() == Some(ProblemType::TicketNotFound) =>
                {
                    tracing::warn!(ticket = %row.ticket, "pending row of a ticket that the gateway does not know");
                    return Ok(Recovered::Unknown);
                }
                Err(Unsettled::Client(error)) if !error.is_transient() => return Err(error),
                Err(error) => {
                    if away.failures() == 0 {
                        tracing::debug!(ticket = %row.ticket, %error, "recovery of a row waits");
                    }
                    tokio::time::sleep(away.next_delay(Duration::from_millis(10))).await;
                }
            }
        }
    }
}
