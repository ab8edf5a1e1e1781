//! Payments: each created order is paid after a delay, or never, by seed.

use super::Floor;
use crate::evidence::{PaymentSeen, TicketId};
use crate::seeded::Stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tidegate_client::client::{Client, Transitioned};
use tidegate_client::wire::TicketStatus;

/// Rounds of repeats before a payment counts as unanswered.
const ROUNDS_MAX: u32 = 3;

#[derive(Clone)]
pub(super) struct Payments {
    floor: Arc<Floor>,
    open: Arc<AtomicU64>,
}

impl Payments {
    pub(super) fn new(floor: Arc<Floor>) -> Self {
        Self { floor, open: Arc::default() }
    }

    /// Payments planned or under way.
    pub(super) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Decides by seed whether and when the buyer pays.
    pub(super) fn plan(&self, ticket: TicketId, buyer: Option<u32>, quantity: u32) {
        let settings = &self.floor.settings;
        let index = u64::from(buyer.unwrap_or(u32::MAX));
        if self.floor.seed.chance(Stream::NeverPays, index, settings.never_pay_share) {
            return;
        }
        let [from_ms, to_ms] = settings.pay_after_ms;
        let share = self.floor.seed.unit(Stream::PayDelay, index);
        let delay =
            Duration::from_micros(from_ms * 1_000 + ((to_ms - from_ms) as f64 * 1_000.0 * share) as u64);
        let payments = self.clone();
        payments.open.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            payments.pay(ticket, buyer, quantity).await;
            payments.open.fetch_sub(1, Relaxed);
        });
    }

    async fn pay(&self, ticket: TicketId, buyer: Option<u32>, quantity: u32) {
        let call =
            |client: Client| async move { client.paid(ticket.as_str(), &format!("payment-{ticket}")).await };
        for _ in 0..ROUNDS_MAX {
            let accepted = match self.floor.roster.anywhere(self.floor.route(buyer) + 1, call).await {
                Ok(Transitioned::Done(now)) => now.status == TicketStatus::Paid,
                Ok(Transitioned::Refused(_)) => false,
                Err(error) => {
                    tracing::debug!(%error, %ticket, "payment without an answer");
                    continue;
                }
            };
            if accepted {
                self.floor.database.pay(ticket);
                self.floor.figures.add_paid(1);
            }
            self.floor.saw.lock().payments.push(PaymentSeen { ticket, quantity, accepted });
            return;
        }
        self.floor.saw.lock().payments_unknown += 1;
    }
}
