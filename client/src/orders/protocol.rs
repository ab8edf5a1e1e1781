//! One order: pending row, the ledger's word, the row that follows from it.

use super::store::{OrderRow, OrderStore, Release, RowState};
use super::worker::OrderStats;
use crate::wire::{Message, OrderBody, Ticket, TicketStatus};
use crate::{ClientError, Fleet, Member, Refusal, Retry, Transitioned};
use std::sync::Arc;
use tokio::sync::mpsc;

pub(super) struct Protocol<S> {
    pub(super) fleet: Fleet,
    pub(super) store: Arc<S>,
    pub(super) stats: Arc<OrderStats>,
    pub(super) confirmed: Option<mpsc::Sender<Ticket<'static>>>,
}

/// Why a row is not settled yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsettled<E: std::error::Error> {
    #[error(transparent)]
    Client(ClientError),
    #[error("order store: {0}")]
    Store(E),
}

impl<S: OrderStore> Protocol<S> {
    /// Handles one message of topic `orders`; `Ok` means ack. The gateway that delivered it is told first.
    pub(super) async fn order(&self, message: Message<'static>, from: &Member) -> Result<(), Retry> {
        // An order that does not parse becomes a dead letter in the end, and its ticket `failed`.
        let order: OrderBody<'_> = serde_json::from_str(message.body.get())?;
        let row = self.store.insert_pending(&order).await?;
        match row.state {
            RowState::Pending => {
                self.settle(&row, &self.fleet.preferring(from)).await.map(drop).map_err(Retry::from)
            }
            // Settled before; only the ack was missing.
            RowState::Confirmed | RowState::Paid | RowState::Closed => Ok(()),
        }
    }

    /// Asks the ledger about a pending row and writes down what it says.
    pub(super) async fn settle(
        &self,
        row: &OrderRow,
        fleet: &Fleet,
    ) -> Result<RowState, Unsettled<S::Error>> {
        let state = match fleet.created(&row.ticket, &row.order_id).await.map_err(Unsettled::Client)? {
            Transitioned::Done(ticket) => self.follow(ticket).await,
            Transitioned::Refused(refusal) => self.refused(row, refusal).await,
        }
        .map_err(Unsettled::Store)?;
        Ok(state)
    }

    async fn refused(&self, row: &OrderRow, refusal: Refusal) -> Result<RowState, S::Error> {
        match refusal.ticket {
            // Refused because the ticket is further on, and that with this very order.
            Some(ticket) if ticket.order_id.as_deref() == Some(&row.order_id) => self.follow(ticket).await,
            Some(ticket) => {
                let reason = ticket.reason.as_deref().unwrap_or(&refusal.detail);
                self.close(&Release {
                    ticket: &row.ticket,
                    sale: &ticket.sale,
                    buyer: &ticket.buyer,
                    quantity: ticket.quantity,
                    version: ticket.version,
                    status: Some(ticket.status),
                    reason,
                })
                .await
            }
            None => {
                self.close(&Release {
                    ticket: &row.ticket,
                    sale: "",
                    buyer: "",
                    quantity: 0,
                    version: 0,
                    status: None,
                    reason: &refusal.detail,
                })
                .await
            }
        }
    }

    /// Brings the row to where its ticket stands.
    async fn follow(&self, ticket: Ticket<'static>) -> Result<RowState, S::Error> {
        match ticket.status {
            // `queued` cannot be after `created`; the row then waits as if nothing had been said.
            TicketStatus::Queued => Ok(RowState::Pending),
            TicketStatus::AwaitingPayment => {
                let state = self.store.confirm(&ticket).await?;
                if state == RowState::Confirmed {
                    self.stats.confirmed.add(1);
                    if let Some(confirmed) = &self.confirmed {
                        // Nobody listens any more: the row stands all the same.
                        let _gone = confirmed.send(ticket).await;
                    }
                }
                Ok(state)
            }
            TicketStatus::Paid => {
                let payment_id = ticket.payment_id.as_deref().unwrap_or_default();
                let state = self.store.paid(&ticket.ticket, payment_id, ticket.version).await?;
                self.stats.paid.add(1);
                Ok(state.unwrap_or(RowState::Paid))
            }
            TicketStatus::Cancelled
            | TicketStatus::Expired
            | TicketStatus::Rejected
            | TicketStatus::Dropped
            | TicketStatus::Failed => {
                self.close(&Release {
                    ticket: &ticket.ticket,
                    sale: &ticket.sale,
                    buyer: &ticket.buyer,
                    quantity: ticket.quantity,
                    version: ticket.version,
                    status: Some(ticket.status),
                    reason: ticket.reason.as_deref().unwrap_or(ticket.status.as_str()),
                })
                .await
            }
        }
    }

    pub(super) async fn close(&self, release: &Release<'_>) -> Result<RowState, S::Error> {
        let state = self.store.close(release).await?;
        if state == RowState::Closed {
            self.stats.closed.add(1);
        } else {
            // A ticket has one end; two of them are a fault that the audit must find, not one to paint over.
            tracing::error!(ticket = release.ticket, status = ?release.status, row = %state,
                "a released ticket's row is not closed");
        }
        Ok(state)
    }
}
