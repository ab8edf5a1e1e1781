//! The worker runner against a small gateway: concurrency, leases, acks, stop, outages.
#![allow(clippy::unwrap_used)]

mod support;

use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::gateway::{FakeGateway, Lost};
use support::{Reply, Server, within};
use tidegate_client::wire::ProblemType;
use tidegate_client::{Client, ClientError, LossDetector, Retry, RetryPolicy, Worker, WorkerSummary};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

const GROUP: &str = "t/g";

/// Short, yet far longer than a busy machine keeps a task waiting.
const LEASE: Duration = Duration::from_millis(1_500);

fn client(server: &Server) -> Client {
    let retry = RetryPolicy {
        attempts_max: 3,
        delay_base: Duration::from_millis(1),
        delay_max: Duration::from_millis(5),
        total_max: Duration::from_secs(10),
    };
    Client::builder(&server.url).retry(retry).build().unwrap()
}

fn worker(server: &Server) -> Worker {
    Worker::new(client(server), "t", "g")
        .wait(Duration::from_millis(500))
        .away_delay_max(Duration::from_millis(20))
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<WorkerSummary, ClientError>>,
}

impl Running {
    async fn stop(mut self) -> WorkerSummary {
        self.stop.take().unwrap().send(()).unwrap();
        within("stop", self.task).await.unwrap().unwrap()
    }
}

fn run<H, F>(worker: Worker, handler: H) -> Running
where
    H: Fn(tidegate_client::wire::Message<'static>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Retry>> + Send + 'static,
{
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(worker.run(handler, async {
        let _gone = stopped.await;
    }));
    Running { stop: Some(stop), task }
}

#[tokio::test]
async fn every_message_is_handled_and_acked_and_none_is_lost() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    for number in 0..100 {
        gateway.push(GROUP, "", json!(number));
    }
    let detector = Arc::new(Mutex::new(LossDetector::default()));
    let observing = Arc::clone(&detector);
    let handled = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&handled);
    let worker =
        worker(&server).concurrency(8).on_delivery(move |_, message| observing.lock().observe(message));
    let running = run(worker, move |message| {
        *seen.lock().entry(message.body.get().to_owned()).or_insert(0) += 1;
        async { Ok(()) }
    });
    gateway.until("all settled", |gateway| gateway.unsettled(GROUP) == 0).await;
    let summary = running.stop().await;
    assert_eq!((summary.received, summary.acked, summary.redelivered), (100, 100, 0));
    assert_eq!(handled.lock().len(), 100);
    assert!(handled.lock().values().all(|times| *times == 1));
    assert_eq!(detector.lock().seen(), 100);
    assert!(server.seen_on("/ack").len() < 100, "acks are batched");
}

#[tokio::test]
async fn no_more_handlers_than_allowed_run_and_no_more_messages_are_leased() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    for number in 0..30 {
        gateway.push(GROUP, "", json!(number));
    }
    let (running_now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let steps = Arc::new(Semaphore::new(0));
    let (now, peak, step) = (Arc::clone(&running_now), Arc::clone(&most), Arc::clone(&steps));
    let running = run(worker(&server).concurrency(5), move |_| {
        let (now, peak, step) = (Arc::clone(&now), Arc::clone(&peak), Arc::clone(&step));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            step.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    within("as many run as allowed", async {
        while running_now.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nobody finishes yet, and 25 messages wait: a sixth handler would come now.
    let sixth = async {
        while running_now.load(Ordering::SeqCst) <= 5 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), sixth).await.is_err());
    assert_eq!(gateway.leased(GROUP), 5);
    steps.add_permits(30);
    gateway.until("all settled", |gateway| gateway.unsettled(GROUP) == 0).await;
    running.stop().await;
    assert_eq!(most.load(Ordering::SeqCst), 5);
    let asked = server.seen_on("/receive").iter().map(|request| request.body["max"].as_u64().unwrap()).max();
    assert_eq!(asked, Some(5));
}

#[tokio::test]
async fn lease_is_extended_while_the_handler_runs_and_the_newest_receipt_acks() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let finish = Arc::new(Notify::new());
    let finishing = Arc::clone(&finish);
    let running = run(worker(&server).lease(LEASE), move |_| {
        let finish = Arc::clone(&finishing);
        async move {
            finish.notified().await;
            Ok(())
        }
    });
    // Four thirds: past the first lease, so only extensions can have kept it.
    gateway.until("four extensions", |_| server.seen_on("/extend").len() >= 4).await;
    finish.notify_one();
    gateway.until("settled", |gateway| gateway.unsettled(GROUP) == 0).await;
    let summary = running.stop().await;
    assert_eq!(gateway.attempts(GROUP), [1]);
    assert_eq!((summary.acked, summary.refused, summary.leases_lost), (1, 0, 0));
    assert!(summary.leases_extended >= 4, "{summary:?}");
}

#[tokio::test]
async fn verdict_waits_for_the_extension_under_way() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let gate = gateway.gate("/extend");
    let finish = Arc::new(Notify::new());
    let finishing = Arc::clone(&finish);
    let running = run(worker(&server).lease(LEASE), move |_| {
        let finish = Arc::clone(&finishing);
        async move {
            finish.notified().await;
            Ok(())
        }
    });
    within("an extension under way", async {
        while server.seen_on("/extend").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The handler ends while the gateway has not answered; an ack under the old receipt would be refused.
    finish.notify_one();
    gate.notify_one();
    gateway.until("settled", |gateway| gateway.unsettled(GROUP) == 0).await;
    let summary = running.stop().await;
    assert_eq!((summary.acked, summary.refused), (1, 0));
}

#[tokio::test]
async fn lost_lease_is_not_acked_and_the_message_comes_again() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let first_done = Arc::new(Notify::new());
    let (finish, handled) = (Arc::clone(&first_done), Arc::new(AtomicUsize::new(0)));
    let times = Arc::clone(&handled);
    let running = run(worker(&server).lease(LEASE), move |message| {
        let finish = Arc::clone(&finish);
        times.fetch_add(1, Ordering::SeqCst);
        async move {
            if message.attempt == 1 {
                finish.notified().await;
            }
            Ok(())
        }
    });
    gateway.until("leased", |gateway| gateway.leased(GROUP) == 1).await;
    gateway.end_leases(GROUP);
    gateway.until("second delivery acked", |gateway| gateway.unsettled(GROUP) == 0).await;
    within("the first handler's extension is refused", async {
        while server.seen_on("/extend").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    first_done.notify_one();
    let summary = running.stop().await;
    assert_eq!(handled.load(Ordering::SeqCst), 2);
    assert_eq!((summary.acked, summary.redelivered), (1, 1));
    assert_eq!(summary.leases_lost + summary.refused, 1, "{summary:?}");
}

#[tokio::test]
async fn retry_gives_the_message_back_with_its_delay_and_panics_do_too() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!("again"));
    gateway.push(GROUP, "", json!("panic"));
    let running = run(worker(&server), |message| async move {
        match (message.attempt, message.body.get()) {
            (1, "\"again\"") => Err(Retry::after_ms(30, "not yet")),
            (1, _) => panic!("handler panics on purpose"),
            _ => Ok(()),
        }
    });
    gateway.until("all settled", |gateway| gateway.unsettled(GROUP) == 0).await;
    let summary = running.stop().await;
    assert_eq!((summary.acked, summary.nacked, summary.redelivered), (2, 2, 2));
    let delays: Vec<_> =
        server.seen_on("/nack").iter().map(|request| request.body["delay_ms"].clone()).collect();
    assert!(delays.contains(&json!(30)) && delays.contains(&json!(null)), "{delays:?}");
}

#[tokio::test]
async fn stop_finishes_what_runs_and_receives_nothing_more() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let (started, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (starting, finishing) = (Arc::clone(&started), Arc::clone(&finish));
    let mut running = run(worker(&server).concurrency(4), move |_| {
        let finish = Arc::clone(&finishing);
        starting.notify_one();
        async move {
            finish.notified().await;
            Ok(())
        }
    });
    within("handler starts", started.notified()).await;
    running.stop.take().unwrap().send(()).unwrap();
    tokio::task::yield_now().await;
    assert!(!running.task.is_finished(), "waits for the handler");
    finish.notify_one();
    let summary = within("stop", running.task).await.unwrap().unwrap();
    assert_eq!((summary.acked, summary.nacked), (1, 0));
    gateway.push(GROUP, "", json!(2));
    assert_eq!(gateway.attempts(GROUP), [1, 0]);
}

#[tokio::test]
async fn stop_gives_back_at_once_what_does_not_finish_within_its_bound() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let started = Arc::new(Notify::new());
    let starting = Arc::clone(&started);
    let running = run(worker(&server).stop_within(Duration::from_millis(50)), move |_| {
        starting.notify_one();
        std::future::pending()
    });
    within("handler starts", started.notified()).await;
    let summary = running.stop().await;
    assert_eq!((summary.acked, summary.nacked), (0, 1));
    assert_eq!(server.seen_on("/nack")[0].body["delay_ms"], json!(0));
    assert_eq!(gateway.leased(GROUP), 0);
}

#[tokio::test]
async fn messages_on_their_way_when_the_stop_comes_are_given_back_at_once() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    gateway.push(GROUP, "", json!(1));
    let gate = gateway.gate("/receive");
    let handled = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&handled);
    let mut running = run(worker(&server), move |_| {
        times.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    });
    within("a receive under way", async {
        while server.seen_on("/receive").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    running.stop.take().unwrap().send(()).unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), &mut running.task).await;
    assert!(early.is_err(), "the stop waits for the receive under way");
    gate.notify_one();
    let summary = within("stop", running.task).await.unwrap().unwrap();
    assert_eq!((summary.received, summary.nacked, handled.load(Ordering::SeqCst)), (1, 1, 0));
    assert_eq!(gateway.leased(GROUP), 0);
}

#[tokio::test]
async fn outage_is_waited_out_and_lost_answers_do_not_lose_messages() {
    let gateway = FakeGateway::default();
    let server = gateway.serve().await;
    for number in 0..20 {
        gateway.push(GROUP, "", json!(number));
    }
    gateway.lose("/receive", 8, Lost::Request);
    gateway.lose("/receive", 1, Lost::Answer);
    gateway.lose("/ack", 2, Lost::Answer);
    let running = run(worker(&server).lease(LEASE).concurrency(4), |_| async { Ok(()) });
    gateway.until("all settled", |gateway| gateway.unsettled(GROUP) == 0).await;
    let summary = running.stop().await;
    assert!(summary.receives_failed >= 1, "{summary:?}");
    assert_eq!(summary.acked, 20, "a repeated ack is an ack: {summary:?}");
}

#[tokio::test]
async fn gateway_that_answers_empty_at_once_is_not_spun_on() {
    let server = Server::start(|_| async { Reply::Json(200, json!({"messages": []})) }).await;
    let running = run(worker(&server), |_| async { Ok(()) });
    let started = tokio::time::Instant::now();
    within("five receives", async {
        while server.seen().len() < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(started.elapsed() >= Duration::from_millis(180), "{:?}", started.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn refusal_that_waiting_does_not_mend_ends_the_worker() {
    let server = Server::start(|_| async { Reply::problem(401, "unauthenticated") }).await;
    let running = run(worker(&server), |_| async { Ok(()) });
    let error = within("end", running.task).await.unwrap().unwrap_err();
    assert_eq!(error.problem_type(), Some(ProblemType::Unauthenticated));
}
