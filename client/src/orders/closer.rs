//! Order events: the row of a ticket that ended is brought to the same end.

use super::protocol::Protocol;
use super::store::{OrderStore, Release};
use crate::Retry;
use crate::wire::{Message, OrderEvent, TicketStatus};

/// The events that matter here; the gateway filters by them.
pub(super) const TAGS: [&str; 6] = ["cancelled", "expired", "rejected", "dropped", "failed", "paid"];

impl<S: OrderStore> Protocol<S> {
    /// Handles one message of topic `order-events`; `Ok` means ack.
    pub(super) async fn event(&self, message: Message<'static>) -> Result<(), Retry> {
        let event: OrderEvent<'_> = serde_json::from_str(message.body.get())?;
        if event.to.is_released() {
            self.close(&Release {
                ticket: &event.ticket,
                sale: &event.sale,
                buyer: &event.buyer,
                quantity: event.quantity,
                version: event.version,
                status: Some(event.to),
                reason: event.reason.as_deref().unwrap_or(event.to.as_str()),
            })
            .await?;
        } else if event.to == TicketStatus::Paid && !event.refund_required {
            let payment_id = event.payment_id.as_deref().unwrap_or_default();
            self.store.paid(&event.ticket, payment_id, event.version).await?;
            self.stats.paid.add(1);
        }
        Ok(())
    }
}
