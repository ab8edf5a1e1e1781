//! The order worker's protocol over SQLite and a small gateway: deaths between any two steps, races with releases.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use support::gateway::{EVENTS, FakeGateway, Lost, ORDERS};
use support::{Server, within};
use tempfile::TempDir;
use tidegate_client::orders::{OrderStore, OrderSummary, RowState};
use tidegate_client::sqlite::{DbOptions, OrderDb, OrderRecord, Synchronous};
use tidegate_client::wire::{OrderBody, Ticket, parse_raw};
use tidegate_client::{Client, ClientError, OrderWorker, RetryPolicy};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

struct Shop {
    gateway: FakeGateway,
    server: Server,
    _folder: TempDir,
    path: PathBuf,
}

struct Working {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<OrderSummary, ClientError>>,
}

impl Working {
    async fn stop(self) -> OrderSummary {
        self.stop.send(()).unwrap();
        within("stop", self.task).await.unwrap().unwrap()
    }

    /// As kill -9: nothing of it runs any more, nothing is settled.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

impl Shop {
    async fn open() -> Self {
        let gateway = FakeGateway::default();
        let server = gateway.serve().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.sqlite");
        Self { gateway, server, _folder: folder, path }
    }

    fn db(&self) -> Arc<OrderDb> {
        let options = DbOptions { synchronous: Synchronous::Normal, ..DbOptions::default() };
        Arc::new(OrderDb::open(&self.path, options).unwrap())
    }

    fn worker(&self) -> OrderWorker<OrderDb> {
        let retry = RetryPolicy {
            attempts_max: 3,
            delay_base: Duration::from_millis(1),
            delay_max: Duration::from_millis(5),
            total_max: Duration::from_secs(10),
        };
        let client = Client::builder(&self.server.url).retry(retry).build().unwrap();
        OrderWorker::new(client, self.db())
            .concurrency(8)
            .lease(Duration::from_millis(1_500))
            .wait(Duration::from_millis(500))
            .away_delay_max(Duration::from_millis(20))
    }

    fn start(&self) -> Working {
        Self::start_worker(self.worker())
    }

    fn start_worker(worker: OrderWorker<OrderDb>) -> Working {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(worker.run(async {
            let _gone = stopped.await;
        }));
        Working { stop, task }
    }

    /// A row as a worker leaves it that died right after its commit.
    async fn leave_pending(&self, ticket: &str) {
        let order = OrderBody {
            ticket: ticket.into(),
            sale: "s".into(),
            item: "i".into(),
            buyer: "b".into(),
            quantity: 1,
            won_at_ms: 1,
            deadline_ms: 9,
            pay_window_ms: 9,
            attributes: std::borrow::Cow::Borrowed(parse_raw("{}").unwrap()),
        };
        assert_eq!(self.db().insert_pending(&order).await.unwrap().state, RowState::Pending);
    }

    fn rows(&self) -> Vec<OrderRecord> {
        OrderDb::read_all(&self.path).unwrap()
    }

    fn row(&self, ticket: &str) -> OrderRecord {
        self.rows().into_iter().find(|row| row.ticket == ticket).unwrap()
    }

    async fn until_state(&self, ticket: &str, state: RowState) {
        within(&format!("{ticket} is {state}"), async {
            while self.rows().iter().all(|row| row.ticket != ticket || row.state != state) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn until_settled(&self, group: &str) {
        self.gateway.until("messages settled", |gateway| gateway.unsettled(group) == 0).await;
    }
}

#[tokio::test]
async fn winners_become_confirmed_rows_and_are_told_on() {
    let shop = Shop::open().await;
    for number in 0..50 {
        shop.gateway.win(&format!("T{number:02}"));
    }
    let (tell, mut told) = mpsc::channel::<Ticket<'static>>(4);
    let working = Shop::start_worker(shop.worker().confirmed(tell));
    for _ in 0..50 {
        let ticket = within("a confirmed ticket", told.recv()).await.unwrap();
        assert_eq!(ticket.order_id.as_deref(), Some(format!("order-{}", ticket.ticket).as_str()));
    }
    shop.until_settled(ORDERS).await;
    let summary = working.stop().await;
    assert_eq!((summary.rows.confirmed, summary.orders.acked), (50, 50));
    assert_eq!(summary.rows.recovered, 0, "rows under way are not left over");
    assert_eq!(shop.server.seen_on("/created").len(), 50);
    assert_eq!(shop.rows().iter().filter(|row| row.state == RowState::Confirmed).count(), 50);
}

/// A consumer that fails must not swallow the message: it comes again until it is settled.
#[tokio::test]
async fn fm14_failing_worker_swallows_no_order() {
    let shop = Shop::open().await;
    shop.gateway.win("T1");
    // `created` fails longer than the client retries: the handler gives the message back.
    shop.gateway.lose("/created", 7, Lost::Request);
    let working = shop.start();
    shop.until_settled(ORDERS).await;
    let summary = working.stop().await;
    assert!(summary.orders.nacked >= 1 && summary.orders.redelivered >= 1, "{summary:?}");
    assert_eq!(shop.row("T1").state, RowState::Confirmed);
    assert_eq!(shop.gateway.ticket("T1").status, "awaiting_payment");
}

/// The order was dropped and resold meanwhile: the row must not stay.
#[tokio::test]
async fn fm45_restart_closes_the_row_whose_ticket_was_dropped() {
    let shop = Shop::open().await;
    shop.leave_pending("T1").await;
    // Dropped at its deadline; the event is not there yet, so only the repeated `created` can tell.
    shop.gateway.set_ticket("T1", "dropped", 2, None);
    let worker = shop.worker();
    let watch = worker.watch();
    let working = Shop::start_worker(worker);
    within("the row is recovered", async {
        while watch.summary().rows.recovered == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(shop.row("T1").state, RowState::Closed);
    let summary = working.stop().await;
    assert_eq!((summary.rows.closed, summary.rows.confirmed), (1, 0));
    assert_eq!(shop.server.seen_on("/T1/created").len(), 1);
}

/// The order is still wanted: the row becomes an order.
#[tokio::test]
async fn fm45_restart_repeats_created_and_confirms_the_row() {
    let shop = Shop::open().await;
    shop.leave_pending("T1").await;
    shop.gateway.set_ticket("T1", "queued", 1, None);
    let working = shop.start();
    shop.until_state("T1", RowState::Confirmed).await;
    working.stop().await;
    assert_eq!(shop.gateway.ticket("T1").order_id.as_deref(), Some("order-T1"));
}

/// The worker dies in earnest while `created` is under way, then the deadline drops the order.
#[tokio::test]
async fn fm45_worker_killed_before_created_arrives_leaves_no_order() {
    let shop = Shop::open().await;
    shop.gateway.win("T1");
    let gate = shop.gateway.gate("/created");
    let working = shop.start();
    shop.until_state("T1", RowState::Pending).await;
    working.kill().await;
    drop(gate);
    shop.gateway.ungate("/created");
    shop.gateway.transit("T1", "dropped");
    let working = shop.start();
    shop.until_state("T1", RowState::Closed).await;
    shop.until_settled(ORDERS).await;
    shop.until_settled(EVENTS).await;
    working.stop().await;
    assert_eq!(shop.row("T1").state, RowState::Closed);
}

/// It dies between the gateway's answer and its own second write.
#[tokio::test]
async fn worker_killed_after_created_confirms_on_restart() {
    let shop = Shop::open().await;
    shop.leave_pending("T1").await;
    shop.gateway.set_ticket("T1", "awaiting_payment", 2, Some("order-T1"));
    let working = shop.start();
    shop.until_state("T1", RowState::Confirmed).await;
    working.stop().await;
}

/// As before, but the pay timer was faster than the restart: a repeat is answered 200, with an expired ticket.
#[tokio::test]
async fn repeat_answered_with_a_released_ticket_closes_the_row() {
    let shop = Shop::open().await;
    shop.leave_pending("T1").await;
    shop.gateway.set_ticket("T1", "expired", 3, Some("order-T1"));
    let working = shop.start();
    shop.until_state("T1", RowState::Closed).await;
    let summary = working.stop().await;
    assert_eq!(summary.rows.confirmed, 0);
}

#[tokio::test]
async fn lost_answer_to_created_is_repeated_and_confirms_once() {
    let shop = Shop::open().await;
    shop.gateway.win("T1");
    shop.gateway.lose("/created", 1, Lost::Answer);
    let working = shop.start();
    shop.until_settled(ORDERS).await;
    let summary = working.stop().await;
    assert_eq!(summary.rows.confirmed, 1);
    assert_eq!(shop.gateway.ticket("T1").version, 2);
}

#[tokio::test]
async fn release_event_closes_a_confirmed_row() {
    let shop = Shop::open().await;
    shop.gateway.win("T1");
    let working = shop.start();
    shop.until_state("T1", RowState::Confirmed).await;
    shop.gateway.transit("T1", "expired");
    shop.until_state("T1", RowState::Closed).await;
    shop.until_settled(EVENTS).await;
    working.stop().await;
    assert_eq!(shop.row("T1").version, 3);
}

#[tokio::test]
async fn release_event_before_the_order_message_closes_the_order_too() {
    let shop = Shop::open().await;
    shop.gateway.set_ticket("T1", "queued", 1, None);
    shop.gateway.transit("T1", "dropped");
    let working = shop.start();
    shop.until_state("T1", RowState::Closed).await;
    // The order message comes late, as after a redelivery that was under way.
    shop.gateway.win("T1");
    shop.gateway.set_ticket("T1", "dropped", 2, None);
    shop.until_settled(ORDERS).await;
    working.stop().await;
    assert_eq!(shop.row("T1").state, RowState::Closed);
    assert!(shop.server.seen_on("/T1/created").is_empty(), "the closed row already says all");
}

#[tokio::test]
async fn release_event_while_created_is_under_way_is_not_overwritten() {
    let shop = Shop::open().await;
    shop.gateway.win("T1");
    let gate = shop.gateway.gate("/created");
    let working = shop.start();
    shop.until_state("T1", RowState::Pending).await;
    // Another path brought the ticket to its end and the event overtakes the answer.
    shop.gateway.transit("T1", "awaiting_payment");
    shop.gateway.transit("T1", "expired");
    shop.gateway.set_ticket("T1", "awaiting_payment", 2, Some("order-T1"));
    shop.until_state("T1", RowState::Closed).await;
    // The late answer still shows the ticket as payable.
    gate.notify_one();
    shop.until_settled(ORDERS).await;
    let summary = working.stop().await;
    assert_eq!(shop.row("T1").state, RowState::Closed);
    assert_eq!(summary.rows.confirmed, 0);
}

#[tokio::test]
async fn paid_event_marks_the_row_and_a_released_one_is_told_once_more_in_vain() {
    let shop = Shop::open().await;
    shop.gateway.win("T1");
    let working = shop.start();
    shop.until_state("T1", RowState::Confirmed).await;
    shop.gateway.transit("T1", "paid");
    shop.until_state("T1", RowState::Paid).await;
    working.stop().await;
}

#[tokio::test]
async fn two_workers_on_one_file_and_one_group_make_each_order_once() {
    let shop = Shop::open().await;
    for number in 0..60 {
        shop.gateway.win(&format!("T{number:02}"));
    }
    let (one, two) = (shop.start(), shop.start());
    shop.until_settled(ORDERS).await;
    one.stop().await;
    two.stop().await;
    let rows = shop.rows();
    assert_eq!(rows.len(), 60);
    assert!(rows.iter().all(|row| row.state == RowState::Confirmed && row.version == 2));
}

#[tokio::test]
async fn ticket_unknown_to_the_gateway_stays_pending_and_holds_nothing_up() {
    let shop = Shop::open().await;
    shop.leave_pending("GONE").await;
    shop.leave_pending("T1").await;
    shop.gateway.set_ticket("T1", "queued", 1, None);
    let working = shop.start();
    shop.until_state("T1", RowState::Confirmed).await;
    working.stop().await;
    assert_eq!(shop.row("GONE").state, RowState::Pending);
}
