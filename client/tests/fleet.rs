//! Several gateways: found from one address, received from fairly, gone on without when one is away.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used)]

mod support;

use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use support::gateway::{EVENTS, FakeGateway, Lost, ORDERS};
use support::{BOUND, Reply, Server, within};
use tidegate_client::orders::RowState;
use tidegate_client::sqlite::{DbOptions, OrderDb, Synchronous};
use tidegate_client::wire::{ProblemType, TicketStatus};
use tidegate_client::{
    Client, ClientError, Fleet, FleetBuilder, LossDetector, Member, OrderWorker, Retry, RetryPolicy,
    Transitioned, Worker, WorkerSummary,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const GROUP: &str = "t/g";

fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts_max: 3,
        delay_base: Duration::from_millis(1),
        delay_max: Duration::from_millis(5),
        total_max: Duration::from_secs(10),
    }
}

fn fleet_of(urls: &[&str]) -> FleetBuilder {
    Fleet::builder(urls).client(|client| client.retry(quick())).refresh_every(Duration::from_millis(30))
}

fn fleet(urls: &[&str]) -> Fleet {
    fleet_of(urls).build().unwrap()
}

fn worker(fleet: &Fleet) -> Worker {
    Worker::new(fleet.clone(), "t", "g")
        .wait(Duration::from_millis(500))
        .away_delay_max(Duration::from_millis(20))
}

/// Gateways of one fleet, with their servers, all with a heartbeat.
async fn gateways<const N: usize>() -> [(FakeGateway, Server); N] {
    let first = FakeGateway::of_fleet("g0");
    let mut all = Vec::new();
    for number in 0..N {
        let gateway = first.beside(&format!("g{number}"));
        let server = gateway.serve().await;
        gateway.join(&server.url);
        all.push((gateway, server));
    }
    all.try_into().unwrap_or_else(|_| unreachable!())
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<WorkerSummary, ClientError>>,
}

impl Running {
    async fn stop(self) -> WorkerSummary {
        self.stop.send(()).unwrap();
        within("stop", self.task).await.unwrap().unwrap()
    }
}

fn run<H, F>(worker: Worker, handler: H) -> Running
where
    H: Fn(tidegate_client::wire::Message<'static>, Member) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Retry>> + Send + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(worker.run_from(handler, async {
        let _gone = stopped.await;
    }));
    Running { stop, task }
}

async fn settled(gateway: &FakeGateway) {
    gateway.until("all settled", |gateway| gateway.unsettled(GROUP) == 0).await;
}

async fn until_members(fleet: &Fleet, count: usize) {
    let mut following = fleet.follow().await;
    within("so many members", async {
        while following.members().len() != count {
            following.changed().await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_address_leads_to_all_and_acks_go_where_the_message_came_from() {
    let [(a, a_server), (b, b_server), (c, c_server)] = gateways().await;
    for (gateway, messages) in [(&a, 30), (&b, 20), (&c, 10)] {
        for number in 0..messages {
            gateway.push(GROUP, "", json!(number));
        }
    }
    let fleet = fleet(&[&a_server.url]);
    let detectors: Arc<Mutex<std::collections::BTreeMap<String, LossDetector>>> = Arc::default();
    let observing = Arc::clone(&detectors);
    let worker = worker(&fleet).on_delivery(move |gateway, message| {
        observing.lock().entry(gateway.name().to_owned()).or_default().observe(message);
    });
    let running = run(worker, |_, _| async { Ok(()) });
    for gateway in [&a, &b, &c] {
        settled(gateway).await;
    }
    assert_eq!(fleet.members().len(), 3);
    let summary = running.stop().await;
    assert_eq!((summary.received, summary.acked, summary.refused, summary.redelivered), (60, 60, 0, 0));
    let seen: Vec<_> = detectors.lock().iter().map(|(name, seen)| (name.clone(), seen.seen())).collect();
    assert_eq!(seen, [("g0".to_owned(), 30), ("g1".to_owned(), 20), ("g2".to_owned(), 10)]);
    for (server, messages) in [(&a_server, 30), (&b_server, 20), (&c_server, 10)] {
        let acks = server.seen_on("/ack");
        let receipts: usize =
            acks.iter().map(|request| request.body["receipts"].as_array().unwrap().len()).sum();
        assert_eq!(receipts, messages);
    }
}

#[tokio::test]
async fn short_backlog_is_done_long_before_a_long_one() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    for number in 0..2_000 {
        a.push(GROUP, "", json!(number));
    }
    for number in 0..20 {
        b.push(GROUP, "", json!(number));
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let handled = Arc::clone(&order);
    let running = run(worker(&fleet(&[&a_server.url, &b_server.url])).concurrency(4), move |_, from| {
        handled.lock().push(from.id().to_owned());
        async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }
    });
    settled(&b).await;
    running.stop().await;
    let order = order.lock();
    let last = order.iter().rposition(|id| id == "g1").unwrap();
    // Turn by turn it would be 40; leave it room for a busy machine, far from the 2,000 of a queue behind the other.
    assert!(last < 200, "the last of 20 was number {last} of {}", order.len());
    assert!(a.unsettled(GROUP) > 0);
}

/// The one handler must not wait for a gateway that has nothing, or that hangs.
#[tokio::test]
async fn idle_and_hanging_gateways_hold_up_nobody() {
    let [(_idle, idle_server), (busy, busy_server)] = gateways().await;
    let hanging = Server::start(|_| async { Reply::Hang }).await;
    for number in 0..50 {
        busy.push(GROUP, "", json!(number));
    }
    let fleet = fleet_of(&[&hanging.url, &idle_server.url, &busy_server.url])
        .probe_within(Duration::from_millis(200))
        .build()
        .unwrap();
    let worker = worker(&fleet).concurrency(1).wait(BOUND);
    let running = run(worker, |_, _| async { Ok(()) });
    settled(&busy).await;
    assert!(!hanging.seen_on("/receive").is_empty() && !idle_server.seen_on("/receive").is_empty());
    assert_eq!(running.stop().await.acked, 50);
}

/// What it delivers piles up unsettled: that is bounded, and the handlers are free for the others.
#[tokio::test]
async fn gateway_that_takes_no_acks_holds_up_nobody_and_is_not_drained() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    b.gate("/ack");
    for number in 0..200 {
        a.push(GROUP, "", json!(number));
        b.push(GROUP, "", json!(number));
    }
    let worker = worker(&fleet(&[&a_server.url, &b_server.url])).concurrency(4);
    let running = run(worker.stop_within(Duration::ZERO), |_, _| async { Ok(()) });
    settled(&a).await;
    b.until("its acks wait", |_| !b_server.seen_on("/ack").is_empty()).await;
    // Four in the call, four that wait for the next one, four whose handlers have just ended.
    assert!((1..=12).contains(&b.leased(GROUP)), "{}", b.leased(GROUP));
    b.ungate("/ack");
    running.task.abort();
}

#[tokio::test]
async fn dead_gateway_is_given_up_and_taken_up_again_when_it_returns() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    let fleet = fleet(&[&a_server.url]);
    let running = run(worker(&fleet), |_, _| async { Ok(()) });
    for gateway in [&a, &b] {
        gateway.push(GROUP, "", json!(1));
        settled(gateway).await;
    }
    let b_url = b_server.url.clone();
    drop(b_server);
    b.leave();
    until_members(&fleet, 1).await;
    a.push(GROUP, "", json!(2));
    settled(&a).await;
    let returned = b.serve_at(&b_url).await;
    b.join(&b_url);
    b.push(GROUP, "", json!(2));
    settled(&b).await;
    assert_eq!(fleet.members().len(), 2);
    assert_eq!(running.stop().await.acked, 4);
    drop(returned);
}

#[tokio::test]
async fn gateway_that_was_given_is_tried_on_and_on() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    let b_url = b_server.url.clone();
    drop(b_server);
    b.leave();
    let running = run(worker(&fleet(&[&a_server.url, &b_url])), |_, _| async { Ok(()) });
    a.push(GROUP, "", json!(1));
    settled(&a).await;
    let _returned = b.serve_at(&b_url).await;
    b.push(GROUP, "", json!(1));
    settled(&b).await;
    running.stop().await;
}

#[tokio::test]
async fn gateway_that_joins_is_received_from() {
    let [(a, a_server)] = gateways().await;
    let fleet = fleet(&[&a_server.url]);
    let running = run(worker(&fleet), |_, _| async { Ok(()) });
    a.push(GROUP, "", json!(1));
    settled(&a).await;
    let b = a.beside("g1");
    let b_server = b.serve().await;
    b.push(GROUP, "", json!(1));
    b.join(&b_server.url);
    settled(&b).await;
    assert_eq!(running.stop().await.acked, 2);
}

/// With the last address given dead, the ones that were found carry on, and find further ones.
#[tokio::test]
async fn fleet_outlives_the_address_it_was_found_from() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    let fleet = fleet(&[&a_server.url]);
    let running = run(worker(&fleet), |_, _| async { Ok(()) });
    until_members(&fleet, 2).await;
    drop(a_server);
    a.leave();
    let c = b.beside("g2");
    let c_server = c.serve().await;
    c.join(&c_server.url);
    for gateway in [&b, &c] {
        gateway.push(GROUP, "", json!(1));
        settled(gateway).await;
    }
    running.stop().await;
    drop(b_server);
}

#[tokio::test]
async fn nonsense_in_the_list_does_no_harm() {
    let [(a, a_server)] = gateways().await;
    let other = Server::start(|_| async { Reply::Raw(200, Vec::new(), "<html>".into()) }).await;
    let hanging = Server::start(|_| async { Reply::Hang }).await;
    let closed = Server::start(|_| async { Reply::Drop }).await.url.clone();
    for (number, url) in
        ["", "no url", "https://10.0.0.1:1", "http://", &other.url, &hanging.url, &closed].iter().enumerate()
    {
        a.beside(&format!("n{number}")).join(url);
    }
    let fleet = fleet_of(&[&a_server.url]).probe_within(Duration::from_millis(200)).build().unwrap();
    let running = run(worker(&fleet), |_, _| async { Ok(()) });
    for number in 0..50 {
        a.push(GROUP, "", json!(number));
    }
    settled(&a).await;
    until_members(&fleet, 1).await;
    assert_eq!(running.stop().await.acked, 50);
    for server in [&other, &hanging] {
        assert!(server.seen().iter().all(|request| request.path == "/v1/gateways"));
        assert!(!server.seen().is_empty());
    }
}

#[tokio::test]
async fn gateway_without_a_list_is_received_from_all_the_same() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let running = run(worker(&fleet(&[&server.url])), |_, _| async { Ok(()) });
    settled(&gateway).await;
    assert_eq!(running.stop().await.acked, 1);
}

#[tokio::test]
async fn gateway_under_two_addresses_is_received_from_once() {
    let [(a, a_server)] = gateways().await;
    let port = a_server.url.rsplit(':').next().unwrap();
    let running = run(worker(&fleet(&[&format!("http://localhost:{port}")])), |_, _| async { Ok(()) });
    for number in 0..20 {
        a.push(GROUP, "", json!(number));
        settled(&a).await;
    }
    running.stop().await;
    let hosts: std::collections::BTreeSet<_> =
        a_server.seen_on("/receive").iter().map(|request| request.headers["host"].clone()).collect();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), [format!("127.0.0.1:{port}").as_str()]);
}

#[tokio::test]
async fn client_alone_asks_for_no_others() {
    let [(a, a_server), _b] = gateways().await;
    a.push(GROUP, "", json!(1));
    let client = Client::builder(&a_server.url).retry(quick()).build().unwrap();
    let running = run(worker(&client.into()), |_, _| async { Ok(()) });
    settled(&a).await;
    running.stop().await;
    assert!(a_server.seen_on("/gateways").is_empty());
}

#[tokio::test]
async fn worker_ends_only_when_every_gateway_refuses() {
    let refusing = || Server::start(|_| async { Reply::problem(401, "unauthenticated") });
    let [(a, a_server)] = gateways().await;
    let refuses = refusing().await;
    let running = run(worker(&fleet(&[&refuses.url, &a_server.url])), |_, _| async { Ok(()) });
    within("the refusing one is tried again", async {
        while refuses.seen_on("/receive").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    a.push(GROUP, "", json!(1));
    settled(&a).await;
    assert_eq!(running.stop().await.acked, 1);

    let others = [refusing().await, refusing().await];
    let running = run(worker(&fleet(&[&others[0].url, &others[1].url])), |_, _| async { Ok(()) });
    let error = within("end", running.task).await.unwrap().unwrap_err();
    assert_eq!(error.problem_type(), Some(ProblemType::Unauthenticated));
}

/// Messages that wait for a handler behind those of another gateway keep their leases.
#[tokio::test]
async fn waiting_messages_keep_their_leases_and_are_given_back_at_the_stop() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    let lease = Duration::from_millis(1_500);
    let worker = worker(&fleet(&[&a_server.url, &b_server.url])).concurrency(1).lease(lease).wait(BOUND);
    let (go, gone) = tokio::sync::watch::channel(false);
    let running = run(worker.stop_within(Duration::from_secs(5)), move |_, _| {
        let mut gone = gone.clone();
        async move {
            let _open = gone.wait_for(|gone| *gone).await;
            Ok(())
        }
    });
    within("both gateways are polled", async {
        while a_server.seen_on("/receive").is_empty() || b_server.seen_on("/receive").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    a.push(GROUP, "", json!(1));
    a.until("one runs", |a| a.leased(GROUP) == 1).await;
    b.push(GROUP, "", json!(1));
    b.until("the other waits, past its first lease", |_| b_server.seen_on("/extend").len() >= 4).await;
    assert_eq!((b.attempts(GROUP), b.leased(GROUP)), (vec![1], 1));
    running.stop.send(()).unwrap();
    b.until("the one that waits is given back at once", |b| b.leased(GROUP) == 0).await;
    assert_eq!(a.leased(GROUP), 1, "the one that runs may finish");
    go.send_replace(true);
    let summary = within("stop", running.task).await.unwrap().unwrap();
    assert_eq!((summary.acked, summary.nacked), (1, 1));
}

#[tokio::test]
async fn transition_goes_to_another_gateway_when_one_is_unreachable_or_hangs() {
    let [(a, a_server), (_b, b_server)] = gateways().await;
    let patience = RetryPolicy { total_max: Duration::from_millis(300), ..quick() };
    let fleet = Fleet::builder([&a_server.url, &b_server.url])
        .client(|client| client.retry(patience))
        .refresh_every(Duration::from_millis(30))
        .build()
        .unwrap();
    until_members(&fleet, 2).await;
    let on_a = fleet.preferring(&fleet.members().iter().find(|member| member.id() == "g0").unwrap().clone());
    let done = |outcome| match outcome {
        Ok(Transitioned::Done(ticket)) => ticket.status,
        other => panic!("{other:?}"),
    };

    a.set_ticket("T1", "queued", 1, None);
    assert_eq!(done(on_a.created("T1", "o1").await), TicketStatus::AwaitingPayment);
    assert!(b_server.seen_on("/created").is_empty(), "the preferred one is asked first, and suffices");

    // The answer is lost after the effect: the other one is asked, and answers as the first would have.
    a.set_ticket("T2", "queued", 1, None);
    a.lose("/T2/created", 3, Lost::Answer);
    assert_eq!(done(on_a.created("T2", "o2").await), TicketStatus::AwaitingPayment);
    assert_eq!((a.ticket("T2").version, b_server.seen_on("/T2/created").len()), (2, 1));

    a.set_ticket("T3", "queued", 1, None);
    a.gate("/T3/created");
    assert_eq!(done(within("created", on_a.created("T3", "o3")).await), TicketStatus::AwaitingPayment);

    drop(a_server);
    a.set_ticket("T4", "awaiting_payment", 2, Some("o4"));
    assert_eq!(done(on_a.paid("T4", "p4").await), TicketStatus::Paid);
}

#[tokio::test]
async fn gateway_that_did_not_answer_is_asked_last_from_then_on() {
    let [(a, a_server), (_b, b_server)] = gateways().await;
    // Nobody follows, so no refresh finds that it answers again.
    let fleet = fleet(&[&a_server.url, &b_server.url]);
    let on_a = fleet.preferring(&fleet.members()[0].clone());
    a.lose("/created", 3, Lost::Request);
    for ticket in ["T1", "T2"] {
        a.set_ticket(ticket, "queued", 1, None);
        assert!(matches!(on_a.created(ticket, "o").await, Ok(Transitioned::Done(_))));
    }
    assert_eq!((a_server.seen_on("/T1/created").len(), a_server.seen_on("/T2/created").len()), (3, 0));
    assert!(!fleet.members()[0].answers());
}

#[tokio::test]
async fn busy_gateway_is_waited_for_as_it_asks_within_the_bound_then_another_is_asked() {
    let busy = Server::start(|request| async move {
        if request.path == "/v1/gateways" {
            return Reply::problem(404, "not-found");
        }
        let body = json!({"type": "ledger-unavailable", "title": "t", "status": 503});
        Reply::problem_with(503, body, &[("retry-after", "1")])
    })
    .await;
    let [(b, b_server)] = gateways().await;
    b.set_ticket("T", "queued", 1, None);
    let outcome = within("created", fleet(&[&busy.url, &b_server.url]).created("T", "o")).await;
    assert!(matches!(outcome, Ok(Transitioned::Done(_))), "{outcome:?}");
    // At once, and after one and two seconds of the three.
    assert!((2..=3).contains(&busy.seen_on("/created").len()), "{}", busy.seen_on("/created").len());
}

#[tokio::test]
async fn unknown_ticket_is_told_only_when_everybody_says_so() {
    let [(a, a_server), (_b, b_server)] = gateways().await;
    // A gateway with a ledger of its own.
    let lone = FakeGateway::of_fleet("lone");
    let lone_server = lone.serve().await;
    lone.set_ticket("T", "queued", 1, None);
    let outcome = fleet(&[&a_server.url, &lone_server.url]).created("T", "o").await;
    assert!(matches!(outcome, Ok(Transitioned::Done(_))), "{outcome:?}");

    let error = fleet(&[&a_server.url, &b_server.url]).created("T", "o").await.unwrap_err();
    assert_eq!(error.problem_type(), Some(ProblemType::TicketNotFound));

    drop(b_server);
    for urls in [[&a_server.url, "http://127.0.0.1:1"], ["http://127.0.0.1:1", &a_server.url]] {
        let error = fleet(&urls).created("T", "o").await.unwrap_err();
        assert!(error.is_unreachable(), "{error}");
    }
    drop(a);
}

#[tokio::test]
async fn refused_transition_is_not_asked_again_elsewhere() {
    let [(a, a_server), (_b, b_server)] = gateways().await;
    a.set_ticket("T", "expired", 3, None);
    let outcome = fleet(&[&a_server.url, &b_server.url]).paid("T", "p").await.unwrap();
    assert!(matches!(outcome, Transitioned::Refused(refusal) if refusal.refund_required));
    assert_eq!(a_server.seen_on("/paid").len() + b_server.seen_on("/paid").len(), 1);
}

/// A gateway delivers and dies; `created` and the events come by way of the other one, some of them twice.
#[tokio::test]
async fn order_worker_goes_on_when_the_delivering_gateway_dies_and_sees_records_twice() {
    let [(a, a_server), (b, b_server)] = gateways().await;
    let folder = tempfile::tempdir().unwrap();
    let options = DbOptions { synchronous: Synchronous::Normal, ..DbOptions::default() };
    let db = Arc::new(OrderDb::open(folder.path().join("orders.sqlite"), options).unwrap());
    let worker = OrderWorker::new(fleet(&[&b_server.url]), Arc::clone(&db))
        .lease(Duration::from_millis(1_500))
        .wait(Duration::from_millis(500))
        .away_delay_max(Duration::from_millis(20));
    let watch = worker.watch();
    let (stop, stopped) = oneshot::channel();
    let working = tokio::spawn(worker.run(async {
        let _gone = stopped.await;
    }));
    let until = async |what: &str, state: RowState| {
        within(what, async {
            loop {
                let rows = OrderDb::read_all(folder.path().join("orders.sqlite")).unwrap();
                if rows.first().is_some_and(|row| row.state == state) {
                    assert_eq!(rows.len(), 1);
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    let gate = a.gate("/created");
    a.win("T1");
    until("the row is written", RowState::Pending).await;
    // It dies with `created` on its way, and its order is adopted.
    drop((a_server, gate));
    a.leave();
    until("the other one confirms", RowState::Confirmed).await;
    assert_eq!(b_server.seen_on("/T1/created").len(), 1);
    b.push(
        ORDERS,
        "s",
        json!({"ticket": "T1", "sale": "s", "item": "i", "buyer": "b", "quantity": 1, "won_at_ms": 1,
            "deadline_ms": 9, "pay_window_ms": 9, "attributes": {}}),
    );
    b.transit("T1", "expired");
    until("the row is closed", RowState::Closed).await;
    // The same event stands in the other one's log, and that one comes back.
    a.set_ticket("T1", "awaiting_payment", 2, Some("order-T1"));
    a.transit("T1", "expired");
    a.set_ticket("T1", "expired", 3, Some("order-T1"));
    let back = a.serve().await;
    a.join(&back.url);
    for gateway in [&a, &b] {
        gateway.until("events settled", |gateway| gateway.unsettled(EVENTS) == 0).await;
    }
    within("orders settled", async {
        a.ungate("/created");
        while a.unsettled(ORDERS) + b.unsettled(ORDERS) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    stop.send(()).unwrap();
    within("stop", working).await.unwrap().unwrap();
    assert_eq!(watch.summary().events.acked, 2);
    until("the row stays closed", RowState::Closed).await;
}
