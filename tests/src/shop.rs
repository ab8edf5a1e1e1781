//! Sales, orders, transitions and audits in a word each, over both listeners of one gateway.

use crate::{Http, Reply, eventually};
use serde_json::{Value, json};

/// One gateway as its buyers, its workers and its operator use it.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Buyers' listener.
    pub public: Http,
    /// Workers' and operators' listener.
    pub inner: Http,
}

/// A sale to be put up.
#[derive(Debug, Clone)]
pub struct Sale(Value);

impl Sale {
    /// So many units, open to buyers who take one each.
    pub fn of(stock: u64) -> Self {
        Self(json!({ "item": "thing", "stock": stock }))
    }

    /// Any member of `PUT /v1/sales/{sale}`.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0[member] = value.into();
        self
    }
}

impl Shop {
    /// Over these listeners.
    pub fn new(public: Http, inner: Http) -> Self {
        Self { public, inner }
    }

    /// Creates the sale and opens it.
    pub async fn open(&self, sale: &str, settings: &Sale) {
        self.put(sale, settings).await;
        self.inner.post(&format!("/v1/sales/{sale}/open"), &[], &json!({})).await.expect(200);
    }

    /// Creates the sale.
    pub async fn put(&self, sale: &str, settings: &Sale) {
        self.inner
            .send("PUT", &format!("/v1/sales/{sale}"), &[], settings.0.to_string().as_bytes())
            .await
            .expect(201);
    }

    /// Closes the sale.
    pub async fn close(&self, sale: &str) {
        self.inner.post(&format!("/v1/sales/{sale}/close"), &[], &json!({})).await.expect(200);
    }

    /// Waits until the sale is in that state, as buyers see it.
    pub async fn until_state(&self, sale: &str, state: &str) {
        eventually(&format!("{sale} is {state}"), || async {
            let reply = self.public.get(&format!("/v1/sales/{sale}"), &[]).await;
            (reply.status == 200 && reply.str("state") == state).then_some(())
        })
        .await;
    }

    /// The buyer's tickets, oldest first; `None` when they cannot be told now.
    pub async fn tickets_of(&self, sale: &str, buyer: &str) -> Option<Vec<Value>> {
        let reply = self.public.get(&format!("/v1/sales/{sale}/tickets"), &[("x-user-id", buyer)]).await;
        (reply.status == 200).then(|| reply.json["tickets"].as_array().unwrap().clone())
    }

    /// Waits until an order is answered 202: what was 503 or not answered is repeated with the same key.
    pub async fn insist(&self, sale: &str, buyer: &str, key: &str) -> String {
        eventually(&format!("{buyer} is answered"), || async {
            let headers = [("x-user-id", buyer), ("idempotency-key", key)];
            let path = format!("/v1/sales/{sale}/orders");
            let reply = self.public.try_send("POST", &path, &headers, b"").await.ok()?;
            if reply.status == 202 {
                return Some(reply.str("ticket").to_owned());
            }
            assert_eq!(reply.status, 503, "{}", reply.text);
            None
        })
        .await
    }

    /// One unit under an idempotency key.
    pub async fn order(&self, sale: &str, buyer: &str, key: &str) -> Reply {
        let headers = [("x-user-id", buyer), ("idempotency-key", key)];
        self.public.send("POST", &format!("/v1/sales/{sale}/orders"), &headers, b"").await
    }

    /// One unit; the id of the ticket that must come.
    pub async fn win(&self, sale: &str, buyer: &str) -> String {
        self.order(sale, buyer, "k").await.expect(202).str("ticket").to_owned()
    }

    /// The ticket as its buyer sees it.
    pub async fn ticket(&self, buyer: &str, ticket: &str) -> Reply {
        self.public.get(&format!("/v1/tickets/{ticket}"), &[("x-user-id", buyer)]).await
    }

    /// Waits until the ticket is in that status.
    pub async fn until(&self, buyer: &str, ticket: &str, status: &str) -> Reply {
        eventually(&format!("ticket is {status}"), || async {
            let reply = self.ticket(buyer, ticket).await;
            if reply.status == 503 {
                return None;
            }
            let reply = reply.expect(200);
            (reply.str("status") == status).then_some(reply)
        })
        .await
    }

    /// `created`, `paid`, `cancelled` or `rejected`, with its one member.
    pub async fn transition(&self, ticket: &str, verb: &str, value: &str) -> Reply {
        let member = match verb {
            "created" => "order_id",
            "paid" => "payment_id",
            _ => "reason",
        };
        self.inner.post(&format!("/v1/tickets/{ticket}/{verb}"), &[], &json!({ member: value })).await
    }

    /// Messages leased to a group, none when there is none within `wait_ms`.
    pub async fn receive(&self, topic: &str, group: &str, max: u64, wait_ms: u64) -> Vec<Value> {
        let asked = json!({ "max": max, "wait_ms": wait_ms });
        let path = format!("/v1/topics/{topic}/groups/{group}/receive");
        let reply = self.inner.post(&path, &[], &asked).await.expect(200);
        reply.json["messages"].as_array().unwrap().clone()
    }

    /// Orders leased to the order workers.
    pub async fn orders(&self, max: u64, wait_ms: u64) -> Vec<Value> {
        self.receive("orders", "order-workers", max, wait_ms).await
    }

    /// Acknowledges messages; panics unless each is taken.
    pub async fn ack(&self, topic: &str, group: &str, messages: &[Value]) {
        let receipts: Vec<&Value> = messages.iter().map(|message| &message["receipt"]).collect();
        let path = format!("/v1/topics/{topic}/groups/{group}/ack");
        let reply = self.inner.post(&path, &[], &json!({ "receipts": receipts })).await.expect(200);
        for result in reply.json["results"].as_array().unwrap() {
            assert_eq!(result["ok"], true, "{result}");
        }
    }

    /// Plays an order worker until nothing comes for a moment: every order is created and acknowledged.
    pub async fn work_off(&self) -> Vec<String> {
        let mut created = Vec::new();
        loop {
            let orders = self.orders(32, 200).await;
            if orders.is_empty() {
                return created;
            }
            for order in &orders {
                let ticket = order["body"]["ticket"].as_str().unwrap();
                let reply = self.transition(ticket, "created", &format!("row-{ticket}")).await;
                assert!(matches!(reply.status, 200 | 409), "{}", reply.text);
                if reply.status == 200 {
                    created.push(ticket.to_owned());
                }
            }
            self.ack("orders", "order-workers", &orders).await;
        }
    }

    /// The sale's audit; panics unless it holds.
    pub async fn audit(&self, sale: &str) -> Reply {
        let reply = self.inner.get(&format!("/v1/sales/{sale}/audit"), &[]).await.expect(200);
        assert_eq!(reply.json["holds"], true, "{}", reply.text);
        let sum = reply.number("available") + reply.number("held") + reply.number("sold");
        assert_eq!(sum, reply.number("initial") + reply.number("restocked"), "{}", reply.text);
        reply
    }
}
