//! A group of our own on `order-events`: closes the rows of released tickets and notes every transition.

use super::{Floor, ORDER_EVENTS};
use crate::buyers::buyer_index;
use crate::evidence::{EventSeen, TicketId};
use crate::gateway::Member;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::client::{Client, ClientError};
use tidegate_client::wire::{Message, OrderEvent, PutGroup, ReceiveRequest, StartFrom, TicketStatus};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

const BATCH_MAX: u32 = 256;
const WAIT_MS: u64 = 300;
const LEASE_MS: u64 = 10_000;
const FAILED_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct EventReader {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl EventReader {
    /// Creates the group at every gateway and starts reading from all of them. Call before the sale opens.
    pub(crate) async fn start(floor: Arc<Floor>, start: StartFrom) -> Result<Self, ClientError> {
        let group = format!("closer-{}", floor.sale);
        let (end, ending) = watch::channel(false);
        for member in floor.roster.members().iter() {
            create(member, &group, start).await?;
        }
        let task = tokio::spawn(read_everywhere(floor, group, ending));
        Ok(Self { end, task })
    }

    /// Ends after the receives under way, within `bound`.
    pub(crate) async fn end(mut self, bound: Duration) {
        self.end.send_replace(true);
        if tokio::time::timeout(bound, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

async fn create(member: &Member, group: &str, start: StartFrom) -> Result<(), ClientError> {
    let settings = PutGroup { start: Some(start), ..PutGroup::default() };
    let call = |client: Client| {
        let (group, settings) = (group.to_owned(), settings.clone());
        async move { client.put_group(ORDER_EVENTS, &group, &settings).await }
    };
    member.insist(call).await
}

/// Events that were noted: the record of one transition may stand in two logs.
type Known = Arc<Mutex<HashSet<(TicketId, u32, TicketStatus, bool)>>>;

/// One reader for each gateway, those that come later included.
async fn read_everywhere(floor: Arc<Floor>, group: String, mut ending: watch::Receiver<bool>) {
    let known = Known::default();
    let mut list = floor.roster.watch();
    let mut numbers = HashSet::new();
    let mut readers = JoinSet::new();
    while !*ending.borrow_and_update() {
        let members = list.borrow_and_update().clone();
        for member in members.iter().filter(|member| numbers.insert(member.number)) {
            let (floor, member) = (Arc::clone(&floor), Arc::clone(member));
            let (group, ending, known) = (group.clone(), ending.clone(), Arc::clone(&known));
            readers.spawn(read_all(floor, member, group, ending, known));
        }
        tokio::select! {
            _ = ending.changed() => {}
            _ = list.changed() => {}
        }
    }
    while readers.join_next().await.is_some() {}
}

async fn read_all(
    floor: Arc<Floor>,
    member: Arc<Member>,
    group: String,
    ending: watch::Receiver<bool>,
    known: Known,
) {
    // At a gateway that came later; the others have the group.
    let _ = create(&member, &group, StartFrom::First).await;
    let request = ReceiveRequest {
        consumer: Some("loadtest".to_owned()),
        max: BATCH_MAX,
        wait_ms: WAIT_MS,
        lease_ms: LEASE_MS,
        ..ReceiveRequest::default()
    };
    while !*ending.borrow() && !member.is_retired() {
        let messages = match member.client.receive(ORDER_EVENTS, &group, &request).await {
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
                && known.lock().insert((event.ticket, event.version, event.to, event.refund_required))
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
            let _ = member.client.ack(ORDER_EVENTS, &group, &receipts).await;
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
