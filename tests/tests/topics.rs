//! Producers, transactions, ordered groups and broadcasts by the client library, against a real gateway that is killed
//! on the way.
#![allow(clippy::unwrap_used)]

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate_client::wire::{
    Ack, ChecksRequest, ProblemType, PublishMessage, PutGroup, ReceiveRequest, Resolution, StartFrom,
};
use tidegate_client::{Client, Producer, Retry, RetryPolicy, TransactionProducer, Worker};
use tidegate_tests::{Server, Settings, eventually, within};
use tokio::sync::oneshot;

fn client(server: &Server) -> Client {
    Client::new(&server.settings.inner_url()).unwrap()
}

fn message(body: u64) -> PublishMessage<'static> {
    PublishMessage::json(&body).unwrap()
}

/// Receives and acks until so many messages came; their bodies, in order.
async fn drain(client: &Client, topic: &str, group: &str, count: usize) -> Vec<u64> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let request = ReceiveRequest { max: 100, wait_ms: 5_000, ..ReceiveRequest::default() };
        let messages = client.receive(topic, group, &request).await.unwrap();
        assert!(!messages.is_empty(), "{} of {count} came", bodies.len());
        let receipts: Vec<String> = messages.iter().map(|message| message.receipt.to_string()).collect();
        client.ack(topic, group, &receipts).await.unwrap();
        bodies.extend(messages.iter().map(|message| message.body.get().parse::<u64>().unwrap()));
    }
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbered_batches_are_there_once_through_crashes_and_restarts_of_both_sides() {
    const BATCHES: u64 = 120;
    let mut server = Server::start().await;
    let api = client(&server);
    let sent = Arc::new(AtomicU64::new(0));
    let sending = tokio::spawn({
        let (api, sent) = (api.clone(), sent.clone());
        async move {
            let mut producer = Producer::new(&api, "t", "till-7", 1).ack(Ack::Disk);
            for number in 0..BATCHES {
                let batch = vec![message(2 * number), message(2 * number + 1)];
                producer.send(batch).await.unwrap();
                sent.store(number + 1, Ordering::SeqCst);
                if number % 40 == 39 {
                    // The producer itself starts again, with what it has kept.
                    let next = producer.next_sequence().await;
                    producer = Producer::new(&api, "t", "till-7", next).ack(Ack::Disk);
                }
            }
            producer
        }
    });
    for crash in 1..=3 {
        eventually("it sends", || async { (sent.load(Ordering::SeqCst) >= crash * 25).then_some(()) }).await;
        server.kill().await;
        server.restart().await;
    }
    let producer = within("all are sent", sending).await.unwrap();
    let mut bodies = drain(&api, "t", "g", 2 * BATCHES as usize).await;
    bodies.sort_unstable();
    assert_eq!(bodies, (0..2 * BATCHES).collect::<Vec<_>>(), "each once");
    let none = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::default() };
    assert!(api.receive("t", "g", &none).await.unwrap().is_empty());
    // What became of a number can be asked later; what is too old to tell is said to be.
    let again = producer.send_as(BATCHES, vec![message(2 * BATCHES - 2), message(2 * BATCHES - 1)]);
    assert_eq!(again.await.unwrap().results.len(), 2);
    let other = producer.send_as(BATCHES, vec![message(7), message(8)]).await.unwrap_err();
    assert_eq!((other.sequence, other.source.problem_type()), (BATCHES, Some(ProblemType::SequenceMismatch)));
    let old = producer.send_as(1, vec![message(0), message(1)]).await.unwrap_err();
    assert_eq!(old.source.problem_type(), Some(ProblemType::SequenceTooOld));
    assert_eq!(producer.next_sequence().await, BATCHES + 1);
}

#[tokio::test]
async fn transactions_outlive_a_crash_and_stay_what_they_were_resolved_to() {
    let mut server = Server::start().await;
    let api = client(&server);
    let mut open = Vec::new();
    for body in 0..3 {
        open.push(api.begin_transaction("t", "tills", message(body)).await.unwrap());
    }
    api.resolve_transaction(&open[0], Resolution::Commit).await.unwrap();
    api.resolve_transaction(&open[1], Resolution::Rollback).await.unwrap();
    server.kill().await;
    server.restart().await;
    for (transaction, other, first) in [
        (&open[0], Resolution::Rollback, Resolution::Commit),
        (&open[1], Resolution::Commit, Resolution::Rollback),
    ] {
        let refused = api.resolve_transaction(transaction, other).await.unwrap_err();
        assert_eq!(refused.problem_type(), Some(ProblemType::AlreadyResolved));
        assert_eq!(api.resolve_transaction(transaction, first).await.unwrap().resolution, first);
    }
    // The third is still open, and can be committed now.
    let committed = api.resolve_transaction(&open[2], Resolution::Commit).await.unwrap();
    assert!(committed.message.is_some());
    let mut bodies = drain(&api, "t", "g", 2).await;
    bodies.sort_unstable();
    assert_eq!(bodies, [0, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transactions_of_a_producer_that_is_gone_are_answered_by_another_of_its_group() {
    let settings = Settings::new().set("queue.check_first_ms", 200).set("queue.check_every_ms", 200);
    let mut server = Server::start_with(settings).await;
    let api = client(&server);
    // What the producer's own database would hold: transactions whose work was done.
    let done: Arc<Mutex<Vec<String>>> = Arc::default();
    let producer = TransactionProducer::new(api.clone(), "tills");
    let sent = producer.send(&api, "t", message(1), |_| async { Resolution::Commit }).await.unwrap();
    assert!(sent.message.is_some());
    let none = producer.send(&api, "t", message(2), |_| async { Resolution::Rollback }).await.unwrap();
    assert!(none.message.is_none());
    // One that dies after its work, one that dies before.
    let worked = api.begin_transaction("t", "tills", message(3)).await.unwrap();
    done.lock().push(worked);
    api.begin_transaction("t", "tills", message(4)).await.unwrap();
    drop(producer);
    server.kill().await;
    server.restart().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let second = TransactionProducer::new(api.clone(), "tills");
    let answering = tokio::spawn({
        let done = done.clone();
        async move {
            let check = move |check: tidegate_client::wire::TransactionCheck<'static>| {
                let committed = done.lock().iter().any(|transaction| **transaction == *check.transaction);
                async move { if committed { Resolution::Commit } else { Resolution::Rollback } }
            };
            second.answer_checks(check, async { stopped.await.unwrap_or(()) }).await
        }
    });
    let mut bodies = drain(&api, "t", "g", 2).await;
    bodies.sort_unstable();
    assert_eq!(bodies, [1, 3]);
    // Nothing is left to be asked for.
    eventually("all are resolved", || async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = ChecksRequest { wait_ms: 0, ..ChecksRequest::default() };
        api.transaction_checks("tills", &now).await.unwrap().is_empty().then_some(())
    })
    .await;
    stop.send(()).unwrap();
    let summary = within("it stops", answering).await.unwrap().unwrap();
    assert!(summary.asked >= 2 && summary.resolved >= 2, "{summary:?}");
    let none = ReceiveRequest { wait_ms: 0, ..ReceiveRequest::default() };
    assert!(api.receive("t", "g", &none).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_workers_get_each_key_in_order_through_retries() {
    const KEYS: u64 = 4;
    const EACH: u64 = 25;
    let server = Server::start().await;
    let api = client(&server);
    let seen: Arc<Mutex<BTreeMap<u64, Vec<u64>>>> = Arc::default();
    let count = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (seen, count, mut stopped) = (seen.clone(), count.clone(), stopped.clone());
        let settings = PutGroup { retry_delays_ms: Some(vec![1]), ..PutGroup::default() };
        let worker = Worker::new(api.clone(), "t", "g").ordered().group_settings(settings).concurrency(8);
        workers.push(tokio::spawn(worker.run(
            move |message| {
                let (seen, count) = (seen.clone(), count.clone());
                async move {
                    let body: u64 = message.body.get().parse()?;
                    tokio::time::sleep(Duration::from_millis(body % 3)).await;
                    if message.attempt == 1 && body.is_multiple_of(7) {
                        return Err(Retry::backoff("once more"));
                    }
                    seen.lock().entry(body % KEYS).or_default().push(body / KEYS);
                    count.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            },
            async move { _ = stopped.wait_for(|stop| *stop).await },
        )));
    }
    eventually("the group is there", || async { api.offsets("t", "g").await.ok() }).await;
    for number in 0..EACH {
        let batch = (0..KEYS).map(|key| PublishMessage {
            ordering_key: Some(format!("key-{key}").into()),
            ..message(number * KEYS + key)
        });
        let request =
            tidegate_client::wire::PublishRequest { messages: batch.collect(), ..Default::default() };
        api.publish("t", &request).await.unwrap();
    }
    eventually("all are handled", || async { (count.load(Ordering::SeqCst) >= KEYS * EACH).then_some(()) })
        .await;
    stop.send_replace(true);
    for worker in workers {
        within("a worker stops", worker).await.unwrap().unwrap();
    }
    for (key, numbers) in &*seen.lock() {
        assert_eq!(*numbers, (0..EACH).collect::<Vec<_>>(), "of key {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_worker_of_a_broadcast_gets_every_message_and_goes_on_where_it_stopped() {
    let mut server = Server::start().await;
    let api = client(&server);
    let publish = async |bodies: std::ops::Range<u64>| {
        let messages = bodies.map(message).collect();
        let request = tidegate_client::wire::PublishRequest { messages, ..Default::default() };
        api.publish("prices", &request).await.unwrap();
    };
    // A worker that stops once it has handled so many.
    let run = async |consumer: &str, count: usize| -> Vec<u64> {
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        let done = seen.clone();
        let handled = seen.clone();
        let settings = PutGroup { start: Some(StartFrom::First), ..PutGroup::default() };
        let worker = Worker::new(api.clone(), "prices", "tills").group_settings(settings).broadcast(consumer);
        let until = async move {
            eventually("it has seen all", || async { (done.lock().len() >= count).then_some(()) }).await;
        };
        let handler = move |message: tidegate_client::wire::Message<'static>| {
            let handled = handled.clone();
            async move {
                handled.lock().push(message.body.get().parse()?);
                Ok::<(), Retry>(())
            }
        };
        worker.run(handler, until).await.unwrap();
        let mut seen = seen.lock().clone();
        seen.sort_unstable();
        seen
    };
    publish(0..10).await;
    assert_eq!(run("till-1", 10).await, (0..10).collect::<Vec<_>>());
    assert_eq!(run("till-2", 10).await, (0..10).collect::<Vec<_>>());
    // Acknowledgements are written down within `ack_sync_ms`; a proper end writes them all.
    assert!(server.stop().await.success());
    server.restart().await;
    publish(10..15).await;
    assert_eq!(run("till-1", 5).await, (10..15).collect::<Vec<_>>());
    assert_eq!(run("till-3", 15).await, (0..15).collect::<Vec<_>>());
    api.delete_group("prices", "tills%till-1").await.unwrap();
    assert_eq!(run("till-1", 15).await, (0..15).collect::<Vec<_>>(), "it begins anew");
    api.delete_group("prices", "tills").await.unwrap();
    let gone = Client::builder(api.base_url()).retry(RetryPolicy::none()).build().unwrap();
    let refused = gone.delete_group("prices", "tills").await.unwrap_err();
    assert_eq!(refused.problem_type(), Some(ProblemType::GroupNotFound));
}
