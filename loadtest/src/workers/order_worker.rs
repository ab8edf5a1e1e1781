//! One order worker: pending row, `created`, confirmed row, ack. Every delivery and every ack is noted.

use super::payments::Payments;
use super::{Floor, ORDER_WORKERS, ORDERS, Phase};
use crate::buyers::buyer_index;
use crate::clock::Micros;
use crate::evidence::{AckSeen, CreatedSeen, Delivery, TicketId};
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::client::Transitioned;
use tidegate_client::wire::{Message, OrderBody, ReceiveRequest};
use tokio::sync::{Semaphore, mpsc, watch};

/// A receive with nothing to give comes back after this, so that a worker told to stand stands soon.
const WAIT_MS: u64 = 300;
/// Acks in one request, at most.
const ACKS_MAX: usize = 64;
/// A message of another sale comes back to its own workers after this.
const FOREIGN_DELAY_MS: u64 = 500;
/// Pause after a receive that failed in spite of the client's retries.
const FAILED_PAUSE: Duration = Duration::from_millis(100);
/// Unreadable messages noted; the rest is only not acked.
const UNREADABLE_MAX: usize = 5;

pub(super) struct OrderWorker {
    pub(super) floor: Arc<Floor>,
    pub(super) payments: Payments,
    pub(super) name: String,
}

/// A handled delivery, ready to be acked.
struct Handled {
    delivery: usize,
    receipt: String,
}

impl OrderWorker {
    /// Works until told to end; what is in hand then is finished first.
    pub(super) async fn run(self, mut phase: watch::Receiver<Phase>) {
        let (handled, to_ack) = mpsc::channel(ACKS_MAX);
        let acks = tokio::spawn(ack_all(Arc::clone(&self.floor), to_ack));
        let concurrency = self.floor.settings.concurrency;
        let slots = Arc::new(Semaphore::new(concurrency as usize));
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Work => self.receive(&slots, &handled).await,
                Phase::Stand | Phase::End => {
                    // All slots free: nothing is in hand.
                    let idle = slots.acquire_many(concurrency).await;
                    if now == Phase::End {
                        break;
                    }
                    self.floor.figures.stand();
                    let changed = phase.changed().await;
                    self.floor.figures.walk();
                    drop(idle);
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
        drop(handled);
        let _ = acks.await;
    }

    async fn receive(&self, slots: &Arc<Semaphore>, handled: &mpsc::Sender<Handled>) {
        let Ok(first) = Arc::clone(slots).acquire_owned().await else { return };
        let free = 1 + slots.available_permits() as u32;
        let request = ReceiveRequest {
            consumer: Some(self.name.clone()),
            max: free,
            wait_ms: WAIT_MS,
            lease_ms: self.floor.settings.lease_ms,
            ..ReceiveRequest::default()
        };
        let asked_us = self.floor.clock.now_us();
        let messages = match self.floor.client.receive(ORDERS, ORDER_WORKERS, &request).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::debug!(%error, "receive failed");
                tokio::time::sleep(FAILED_PAUSE).await;
                return;
            }
        };
        let received_us = self.floor.clock.now_us();
        let mut slot = Some(first);
        for message in messages {
            let Some(order) = self.note(&message, asked_us, received_us).await else { continue };
            // The first message uses the slot taken before asking; the others' were free then and still are.
            let permit = match slot.take() {
                Some(permit) => Ok(permit),
                None => Arc::clone(slots).acquire_owned().await,
            };
            let (floor, payments, handled) =
                (Arc::clone(&self.floor), self.payments.clone(), handled.clone());
            tokio::spawn(async move {
                let receipt = message.receipt.into_owned();
                if floor.handle(&order, &payments).await {
                    let _ = handled.send(Handled { delivery: order.delivery, receipt }).await;
                }
                drop(permit);
            });
        }
    }

    /// Notes a delivery; `None` when it is not one to be handled.
    async fn note(&self, message: &Message<'_>, asked_us: Micros, received_us: Micros) -> Option<Order> {
        let body: Result<OrderBody<'_>, _> = serde_json::from_str(message.body.get());
        let body = match body {
            Ok(body) if body.sale == self.floor.sale => body,
            Ok(_) => {
                self.floor.saw.lock().foreign += 1;
                let receipt = [message.receipt.clone().into_owned()];
                // If this fails the lease ends by itself.
                let _ = self.floor.client.nack(ORDERS, ORDER_WORKERS, &receipt, Some(FOREIGN_DELAY_MS)).await;
                return None;
            }
            Err(error) => {
                self.unreadable(&error.to_string());
                return None;
            }
        };
        let Some(ticket) = TicketId::parse(&body.ticket) else {
            self.unreadable(&format!("`{}` is no ticket", body.ticket));
            return None;
        };
        self.floor.figures.add_received(1);
        if message.attempt > 1 {
            self.floor.figures.add_redelivered(1);
        }
        let buyer = buyer_index(&body.buyer);
        let mut saw = self.floor.saw.lock();
        saw.deliveries.push(Delivery {
            ticket,
            buyer,
            quantity: body.quantity,
            queue: message.queue,
            offset: message.offset,
            deadline_ms: body.deadline_ms,
            asked_us,
            received_us,
            ack: AckSeen::Unknown,
        });
        Some(Order { delivery: saw.deliveries.len() - 1, ticket, buyer, quantity: body.quantity })
    }

    fn unreadable(&self, what: &str) {
        let mut saw = self.floor.saw.lock();
        if saw.unreadable.len() < UNREADABLE_MAX {
            saw.unreadable.push(what.to_owned());
        }
    }
}

/// An order in hand.
struct Order {
    /// Index among the noted deliveries.
    delivery: usize,
    ticket: TicketId,
    buyer: Option<u32>,
    quantity: u32,
}

impl Floor {
    /// True when the message is dealt with and may be acked.
    async fn handle(&self, order: &Order, payments: &Payments) -> bool {
        let ticket = order.ticket;
        if self.settings.processing_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.settings.processing_ms)).await;
        }
        self.database.insert_pending(ticket, order.buyer, order.quantity);
        let open = match self.client.created(ticket.as_str(), &order_id(ticket)).await {
            // A repeat finds the ticket where it stands by now.
            Ok(Transitioned::Done(now)) => !now.status.is_released(),
            Ok(Transitioned::Refused(_)) => false,
            Err(error) => {
                tracing::debug!(%error, %ticket, "`created` failed; the message comes again");
                return false;
            }
        };
        if !open {
            self.saw.lock().closed += 1;
            self.database.close(ticket);
            return true;
        }
        let at_us = self.clock.now_us();
        if self.database.confirm(ticket) {
            self.saw.lock().created.push(CreatedSeen { ticket, at_us });
            self.figures.add_created(1);
            payments.plan(ticket, order.buyer, order.quantity);
        }
        true
    }
}

fn order_id(ticket: TicketId) -> String {
    format!("order-{ticket}")
}

/// Acks what was handled, many in one request, until every handler is gone.
async fn ack_all(floor: Arc<Floor>, mut to_ack: mpsc::Receiver<Handled>) {
    let mut batch = Vec::with_capacity(ACKS_MAX);
    while to_ack.recv_many(&mut batch, ACKS_MAX).await > 0 {
        let (deliveries, receipts): (Vec<usize>, Vec<String>) =
            batch.drain(..).map(|handled| (handled.delivery, handled.receipt)).unzip();
        let Ok(results) = floor.client.ack(ORDERS, ORDER_WORKERS, &receipts).await else { continue };
        let at_us = floor.clock.now_us();
        let mut saw = floor.saw.lock();
        for (delivery, result) in deliveries.into_iter().zip(results) {
            saw.deliveries[delivery].ack = if result.ok { AckSeen::Ok(at_us) } else { AckSeen::Refused };
            floor.figures.add_acked(u64::from(result.ok));
        }
    }
}
