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
const PAGE: usize = 1_000;

/// Rows kept in memory; more of them are read once these are settled.
const LOT_MAX: usize = 50_000;

/// What became of one row.
enum Recovered {
    Settled,
    /// No gateway has ever heard of the ticket; the row stays pending, which is no order.
    Unknown,
}

impl<S: OrderStore> Protocol<S> {
    /// Rows that are pending now, up to [`LOT_MAX`], by ticket from `after` on; waits for the store as long as it
    /// takes. Listed before the first new order is taken: what is pending later is in good hands.
    ///
    /// Cancel safe: reads only.
    pub(super) async fn left_over(&self, mut after: String) -> Vec<OrderRow> {
        let mut away = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut rows = Vec::new();
        loop {
            match self.store.pending(&after, PAGE).await {
                Ok(page) => {
                    away.reset();
                    let Some(last) = page.last() else { return rows };
                    after.clone_from(&last.ticket);
                    rows.extend(page);
                    if rows.len() >= LOT_MAX {
                        return rows;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "order store does not answer; recovery waits");
                    tokio::time::sleep(away.next_delay(Duration::from_millis(50))).await;
                }
            }
        }
    }

    /// Settles rows that were left over, at most `concurrency` at once, waiting for the gateway as long as it
    /// takes. `Err` only when it refuses in a way that waiting does not mend.
    ///
    /// Cancel safety: rows not settled stay pending, for the next start.
    pub(super) async fn recover(
        self: Arc<Self>,
        mut lot: Vec<OrderRow>,
        concurrency: usize,
    ) -> Result<(), ClientError> {
        loop {
            let more_after =
                if lot.len() >= LOT_MAX { lot.last().map(|row| row.ticket.clone()) } else { None };
            let mut settling = JoinSet::new();
            for row in lot {
                if settling.len() >= concurrency {
                    self.count(settling.join_next().await)?;
                }
                let protocol = Arc::clone(&self);
                settling.spawn(async move { protocol.recover_row(row).await });
            }
            while let Some(joined) = settling.join_next().await {
                self.count(Some(joined))?;
            }
            let Some(after) = more_after else { return Ok(()) };
            lot = self.left_over(after).await;
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
            match self.settle(&row, &self.fleet).await {
                Ok(_state) => return Ok(Recovered::Settled),
                Err(Unsettled::Client(error))
                    if error.problem_type() == Some(ProblemType::TicketNotFound) =>
                {
                    tracing::warn!(ticket = %row.ticket, "pending row of a ticket that no gateway knows");
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
