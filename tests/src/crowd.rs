//! Buyers and workers under way against one sale, and what they were told: what must still hold after a crash.

use crate::{Shop, eventually, within};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::task::JoinHandle;

const BUYERS: usize = 6;
const WORKERS: usize = 2;
/// Pause of one who was answered 503.
const REFUSED: std::time::Duration = std::time::Duration::from_millis(5);

/// What came with a 2xx, over all crashes of a test.
#[derive(Debug, Default)]
pub struct Told {
    /// Buyer by ticket.
    tickets: Mutex<HashMap<String, String>>,
    created: Mutex<HashSet<String>>,
    paid: Mutex<HashSet<String>>,
}

impl Told {
    /// Tickets told so far.
    pub fn tickets(&self) -> usize {
        self.tickets.lock().len()
    }

    /// Orders created, orders paid.
    pub fn created_and_paid(&self) -> (usize, usize) {
        (self.created.lock().len(), self.paid.lock().len())
    }

    /// What was told so far; it does not grow.
    pub fn so_far(&self) -> Self {
        // A ticket is told before what became of it: taken in the other order, none is told of that is not there.
        let paid = self.paid.lock().clone();
        let created = self.created.lock().clone();
        let tickets = self.tickets.lock().clone();
        Self { tickets: Mutex::new(tickets), created: Mutex::new(created), paid: Mutex::new(paid) }
    }

    /// Waits until so many tickets were told.
    pub async fn until_tickets(&self, count: usize) {
        eventually("enough tickets are told", || async { (self.tickets() >= count).then_some(()) }).await;
    }

    /// Every ticket that was told is there for its buyer and for the same key, no transition that was told is
    /// undone, and the audit holds. Buyers used the key `k`.
    pub async fn assert_kept(&self, shop: &Shop, sale: &str) {
        let tickets = self.tickets.lock().clone();
        let (created, paid) = (self.created.lock().clone(), self.paid.lock().clone());
        for (ticket, buyer) in &tickets {
            let reply = shop.ticket(buyer, ticket).await;
            assert_eq!(reply.status, 200, "ticket {ticket} was answered and is lost: {}", reply.text);
            assert_eq!(shop.order(sale, buyer, "k").await.expect(202).str("ticket"), ticket);
            let status = reply.str("status").to_owned();
            if paid.contains(ticket) {
                assert_eq!(status, "paid", "{ticket}");
            } else if created.contains(ticket) {
                assert!(matches!(&*status, "awaiting_payment" | "paid"), "{ticket}: {status}");
            }
        }
        let audit = shop.audit(sale).await;
        assert!(audit.number("held") + audit.number("sold") >= tickets.len() as u64, "{}", audit.text);
        assert!(audit.number("sold") >= paid.len() as u64, "{}", audit.text);
    }
}

/// Tasks that order, create and pay until they are told to stop or the gateway is gone.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Sets buyers and workers going. `round` keeps the buyers of different crowds apart.
    pub fn gather(shop: &Shop, told: &Arc<Told>, sale: &str, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for _ in 0..BUYERS {
            let (shop, told, stop, next) = (shop.clone(), told.clone(), stop.clone(), next.clone());
            let path = format!("/v1/sales/{sale}/orders");
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let buyer = format!("b{round}-{}", next.fetch_add(1, Ordering::SeqCst));
                    let headers = [("x-user-id", &*buyer), ("idempotency-key", "k")];
                    let Ok(reply) = shop.public.try_send("POST", &path, &headers, b"").await else { return };
                    match reply.status {
                        202 => _ = told.tickets.lock().insert(reply.str("ticket").to_owned(), buyer),
                        _ => tokio::time::sleep(REFUSED).await,
                    }
                }
            }));
        }
        for _ in 0..WORKERS {
            let (shop, told, stop) = (shop.clone(), told.clone(), stop.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) && work_once(&shop, &told).await.is_some() {}
            }));
        }
        Self { stop, tasks }
    }

    /// Tells them to stop and waits for it.
    pub async fn disperse(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            within("a client sees the end", task).await.unwrap();
        }
    }
}

/// Receives, creates, pays every other order, acknowledges; `None` once the gateway is gone.
async fn work_once(shop: &Shop, told: &Told) -> Option<()> {
    let post = async |path: &str, body: Value| {
        shop.inner.try_send("POST", path, &[], body.to_string().as_bytes()).await.ok()
    };
    let asked = json!({ "max": 8, "wait_ms": 50, "lease_ms": 1_000 });
    let reply = post("/v1/topics/orders/groups/order-workers/receive", asked).await?;
    if reply.status == 503 {
        // Not now: a worker tries again.
        tokio::time::sleep(REFUSED).await;
        return Some(());
    }
    for message in reply.json["messages"].as_array()? {
        let ticket = message["body"]["ticket"].as_str()?;
        let created = post(&format!("/v1/tickets/{ticket}/created"), json!({ "order_id": ticket })).await?;
        if created.status == 200 {
            told.created.lock().insert(ticket.to_owned());
            if ticket.bytes().last().is_some_and(|byte| byte % 2 == 0) {
                let paid =
                    post(&format!("/v1/tickets/{ticket}/paid"), json!({ "payment_id": ticket })).await?;
                if paid.status == 200 {
                    told.paid.lock().insert(ticket.to_owned());
                }
            }
        }
        post("/v1/topics/orders/groups/order-workers/ack", json!({ "receipts": [message["receipt"]] }))
            .await?;
    }
    Some(())
}
