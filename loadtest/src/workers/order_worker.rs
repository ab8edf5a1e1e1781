//! One order worker: pending row, `created`, confirmed row, ack. Every delivery and every ack is noted.

use super::payments::Payments;
use super::{Floor, ORDER_WORKERS, ORDERS, Phase};
use crate::buyers::buyer_index;
use crate::clock::Micros;
use crate::evidence::{AckSeen, CreatedSeen, Delivery, TicketId, Work};
use crate::gateway::Member;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tidegate_client::client::{Client, Transitioned};
use tidegate_client::wire::{Message, OrderBody, ReceiveRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// A receive with nothing to give comes back after this, so that a worker told to stand stands soon.
const WAIT_MS: u64 = 300;
/// Acks in one request, at most.
const ACKS_MAX: usize = 64;
/// A message of another sale comes back to its own workers after this.
const FOREIGN_DELAY_MS: u64 = 500;
/// Pause after a receive that failed.
const FAILED_PAUSE: Duration = Duration::from_millis(100);
/// Unreadable messages noted; the rest is only not acked.
const UNREADABLE_MAX: usize = 5;

pub(super) struct OrderWorker {
    pub(super) floor: Arc<Floor>,
    pub(super) payments: Payments,
    pub(super) name: String,
    /// Orders that it has at a time, in hand or in stock.
    pub(super) slots: Arc<Semaphore>,
    /// Orders that it handles at a time.
    pub(super) hands: Semaphore,
    /// It is to die as soon as it has committed a row, and before it reports it.
    pub(super) dying: AtomicBool,
    /// Rows committed and not reported, of a worker that is dying.
    pub(super) orphans: Mutex<Vec<TicketId>>,
}

/// A handled delivery, ready to be acked.
struct Handled {
    delivery: usize,
    receipt: String,
}

impl OrderWorker {
    /// Takes over what is left pending, then works until told to end; what is in hand then is finished first.
    /// Dropped, it dies where it stands.
    pub(super) async fn run(self: Arc<Self>, mut phase: watch::Receiver<Phase>) {
        self.take_over().await;
        let mut list = self.floor.roster.watch();
        let mut known = HashSet::new();
        let mut receivers = JoinSet::new();
        loop {
            let members = list.borrow_and_update().clone();
            for member in members.iter().filter(|member| known.insert(member.number)) {
                receivers.spawn(Arc::clone(&self).serve(Arc::clone(member), phase.clone()));
            }
            let now = *phase.borrow_and_update();
            match now {
                Phase::Work => {
                    tokio::select! {
                        changed = phase.changed() => if changed.is_err() { break },
                        _ = list.changed() => {}
                    }
                }
                Phase::Stand => {
                    // All slots free: nothing is in hand.
                    let idle = self.slots.acquire_many(self.floor.settings.in_hand()).await;
                    self.floor.figures.stand();
                    let changed = phase.changed().await;
                    self.floor.figures.walk();
                    drop(idle);
                    if changed.is_err() {
                        break;
                    }
                }
                Phase::End => break,
            }
        }
        while receivers.join_next().await.is_some() {}
    }

    /// As the protocol wants it of a worker that starts: `created` again for every row that is still pending, before
    /// the first new order is taken.
    async fn take_over(&self) {
        for row in self.floor.database.pending() {
            let order =
                Order { delivery: None, ticket: row.ticket, buyer: row.buyer, quantity: row.quantity };
            self.floor.report(&order, &self.payments).await;
        }
    }

    /// Receives from one gateway, until told to end or until it is off the list.
    async fn serve(self: Arc<Self>, member: Arc<Member>, mut phase: watch::Receiver<Phase>) {
        let (handled, to_ack) = mpsc::channel(ACKS_MAX);
        let mut hands = JoinSet::new();
        hands.spawn(ack_all(Arc::clone(&self.floor), Arc::clone(&member), to_ack));
        while !member.is_retired() {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Work => self.receive(&member, &mut hands, &handled).await,
                Phase::Stand => {
                    if phase.changed().await.is_err() {
                        break;
                    }
                }
                Phase::End => break,
            }
            while hands.try_join_next().is_some() {}
        }
        drop(handled);
        while hands.join_next().await.is_some() {}
    }

    /// Its share of the free slots, so that a gateway which has nothing to give does not keep all of them waiting.
    async fn slots(&self) -> Option<OwnedSemaphorePermit> {
        let gateways = self.floor.roster.members().len().max(1) as u32;
        let share = self.floor.settings.in_hand().div_ceil(gateways);
        let mut slots = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let more = (self.slots.available_permits() as u32).min(share - 1);
        if more > 0
            && let Ok(more) = Arc::clone(&self.slots).try_acquire_many_owned(more)
        {
            slots.merge(more);
        }
        Some(slots)
    }

    async fn receive(
        self: &Arc<Self>,
        member: &Member,
        hands: &mut JoinSet<()>,
        handled: &mpsc::Sender<Handled>,
    ) {
        let Some(mut slots) = self.slots().await else { return };
        let request = ReceiveRequest {
            consumer: Some(self.name.clone()),
            max: slots.num_permits() as u32,
            wait_ms: WAIT_MS,
            lease_ms: self.floor.settings.lease_ms,
            ..ReceiveRequest::default()
        };
        let asked_us = self.floor.clock.now_us();
        let messages = match member.client.receive(ORDERS, ORDER_WORKERS, &request).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::debug!(%error, "receive failed");
                drop(slots);
                tokio::time::sleep(FAILED_PAUSE).await;
                return;
            }
        };
        let received_us = self.floor.clock.now_us();
        for message in messages {
            let Some(order) = self.note(member, &message, asked_us, received_us).await else { continue };
            let permit = slots.split(1);
            let (worker, handled) = (Arc::clone(self), handled.clone());
            hands.spawn(async move {
                let receipt = message.receipt.into_owned();
                if worker.handle(&order).await
                    && let Some(delivery) = order.delivery
                {
                    let _ = handled.send(Handled { delivery, receipt }).await;
                }
                drop(permit);
            });
        }
    }

    /// Notes a delivery; `None` when it is not one to be handled.
    async fn note(
        &self,
        member: &Member,
        message: &Message<'_>,
        asked_us: Micros,
        received_us: Micros,
    ) -> Option<Order> {
        let body: Result<OrderBody<'_>, _> = serde_json::from_str(message.body.get());
        let body = match body {
            Ok(body) if body.sale == self.floor.sale => body,
            Ok(_) => {
                self.floor.saw.lock().foreign += 1;
                let receipt = [message.receipt.clone().into_owned()];
                // If this fails the lease ends by itself.
                let _ = member.client.nack(ORDERS, ORDER_WORKERS, &receipt, Some(FOREIGN_DELAY_MS)).await;
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
            gateway: member.number,
            queue: message.queue,
            offset: message.offset,
            deadline_ms: body.deadline_ms,
            asked_us,
            received_us,
            ack: AckSeen::Unknown,
        });
        let delivery = Some(saw.deliveries.len() - 1);
        Some(Order { delivery, ticket, buyer, quantity: body.quantity })
    }

    /// True when the message is dealt with and may be acked.
    async fn handle(&self, order: &Order) -> bool {
        let Ok(_hand) = self.hands.acquire().await else { return false };
        let from_us = self.floor.clock.now_us();
        let done = self.process(order, from_us).await;
        let work = Work { from_us, to_us: self.floor.clock.now_us() };
        self.floor.saw.lock().work.push(work);
        done
    }

    async fn process(&self, order: &Order, from_us: Micros) -> bool {
        if self.floor.settings.processing_ms > 0 {
            let takes = self.floor.processing(order.delivery.unwrap_or_default() as u64, from_us);
            tokio::time::sleep(takes).await;
        }
        let inserted = self.floor.database.insert_pending(order.ticket, order.buyer, order.quantity);
        if self.dying.load(Relaxed) {
            if inserted {
                self.orphans.lock().push(order.ticket);
            }
            // Until the worker is dropped.
            std::future::pending::<()>().await;
        }
        self.floor.report(order, &self.payments).await
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
    /// Index among the noted deliveries; none when it was found pending.
    delivery: Option<usize>,
    ticket: TicketId,
    buyer: Option<u32>,
    quantity: u32,
}

impl Floor {
    /// Reports a pending row, at any gateway, and writes down what is answered. True when that is settled.
    async fn report(&self, order: &Order, payments: &Payments) -> bool {
        let ticket = order.ticket;
        let call = |client: Client| async move { client.created(ticket.as_str(), &order_id(ticket)).await };
        let open = match self.roster.anywhere(self.route(order.buyer), call).await {
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

/// Acks what was handled at the gateway that delivered it, many in one request, until every handler is gone.
async fn ack_all(floor: Arc<Floor>, member: Arc<Member>, mut to_ack: mpsc::Receiver<Handled>) {
    let mut batch = Vec::with_capacity(ACKS_MAX);
    while to_ack.recv_many(&mut batch, ACKS_MAX).await > 0 {
        let (deliveries, receipts): (Vec<usize>, Vec<String>) =
            batch.drain(..).map(|handled| (handled.delivery, handled.receipt)).unzip();
        let receipts = Arc::new(receipts);
        let call = |client: Client| {
            let receipts = Arc::clone(&receipts);
            async move { client.ack(ORDERS, ORDER_WORKERS, &receipts).await }
        };
        let Ok(results) = member.insist(call).await else { continue };
        let at_us = floor.clock.now_us();
        let mut saw = floor.saw.lock();
        for (delivery, result) in deliveries.into_iter().zip(results) {
            saw.deliveries[delivery].ack = if result.ok { AckSeen::Ok(at_us) } else { AckSeen::Refused };
            floor.figures.add_acked(u64::from(result.ok));
        }
    }
}
