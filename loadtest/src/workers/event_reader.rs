//! A group of our own on `order-events`: closes the rows of released tickets and notes every transition.

use super::{Floor, ORDER_EVENTS};
use crate::buyers::buyer_index;
use crate::evidence::{EventSeen, TicketId};
use hashbrown::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::client::ClientError;
use tidegate_client::wire::{Message, OrderEvent, PutGroup, ReceiveRequest, StartFrom, TicketStatus};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BATCH_MAX: u32 = 256;
const WAIT_MS: u64 = 300;
const LEASE_MS: u64 = 10_000;
const FAILED_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct EventReader {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EventReader {
    /// Creates the group and starts reading. Call before the sale opens.
    pub(crate) async fn start(floor: Arc<Floor>, start: StartFrom) -> Result<Self, ClientError> {
        let group = format!("closer-{}", floor.sale);
        let settings = PutGroup { start: Some(start), ..PutGroup::default() };
        floor.client.put_group(ORDER_EVENTS, &group, &settings).await?;
        let (end, ending) = watch::channel(false);
        let task = tokio::spawn(read_all(floor, group, ending));
        Ok(Self { end, task })
    }

    /// Ends after the receive under way, within `bound`.
    pub(crate) async fn end(self, bound: Duration) {
        self.end.send_replace(true);
        let _ = tokio::time::timeout(bound, self.task).await;
    }
}

async fn read_all(floor: Arc<Floor>, group: String, ending: watch::Receiver<bool>) {
    let request = ReceiveRequest {
        consumer: Some("loadtest".to_owned()),
        max: BATCH_MAX,
        wait_ms: WAIT_MS,
        lease_ms: LEASE_MS,
        ..ReceiveRequest::default()
    };
    let mut known: HashSet<(TicketId, u32, TicketStatus)> = HashSet::new();
    while !*ending.borrow() {
        let messages = match floor.client.receive(ORDER_EVENTS, &group, &request).await {
            Ok(messages) => messages,
            Err(error) => {
                tracing::debug!(%error, "receive of events failed");
                tokio::time::sleep(FAILED_PAUSE).await;
                continue;
            }
        };
        let mut receipts = Vec::with_capacity(messages.len());
        for message in messages {
            if let Some(event) = floor.read_event(&message)
                && known.insert((event.ticket, event.version, event.to))
            {
                if event.to.is_released() && !event.refund_required {
                    floor.database.close(event.ticket);
                }
                floor.events.lock().push(event);
            }
            receipts.push(message.receipt.into_owned());
        }
        if !receipts.is_empty() {
            // An ack that fails brings the events again; they are noted once.
            let _ = floor.client.ack(ORDER_EVENTS, &group, &receipts).await;
        }
    }
}

impl Floor {
    /// `None` for events of other sales.
    fn read_event(&self, message: &Message<'_>) -> Option<EventSeen> {
        let event: OrderEvent<'_> = match serde_json::from_str(message.body.get()) {
            Ok(event) => event,
            Err(error) => {
                self.saw.lock().unreadable.push(format!("event: {error}"));
                return None;
            }
        };
        if event.sale != self.sale {
            return None;
        }
        Some(EventSeen {
            ticket: TicketId::parse(&event.ticket)?,
            buyer: buyer_index(&event.buyer),
            quantity: event.quantity,
            version: event.version,
            from: event.from,
            to: event.to,
            at_ms: event.at_ms,
            refund_required: event.refund_required,
        })
    }
}
