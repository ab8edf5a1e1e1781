//! The whole queue on a damaged data folder: log, index, snapshot, acknowledgements and catalog. Whatever the edits, what
//! is delivered was sent, at its place; and a start that worked works again.

use super::recovery::{EDITS_MAX, Files, Input, edit, read, write};
use crate::storage::DiskStorage;
use crate::{
    Clock, ManualClock, Message, NewMessage, OpenError, Queue, QueueChoice, QueueOptions, ReceiveRequest,
    Space,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

const NOW_MS: u64 = 1_700_000_000_000;
const TOPIC: &str = "t";

type Sent = BTreeMap<(u32, u64), Vec<u8>>;

/// `dir` is a folder of the caller's, on a quick disk; everything in it is replaced.
pub fn folder(bytes: &[u8], dir: &Path) {
    let (files, sent) = base(dir);
    let mut files = files.clone();
    let mut input = Input(bytes);
    for _ in 0..EDITS_MAX {
        if input.0.is_empty() {
            break;
        }
        edit(&mut files, &mut input);
    }
    write(dir, &files);
    let clock = Arc::new(ManualClock::new(NOW_MS + 1_000));
    let Ok(queue) = open(dir, &clock) else { return };
    let first = delivered(&queue, "first", sent);
    drop(queue);
    let queue = open(dir, &clock).expect("what was opened opens again");
    assert_eq!(delivered(&queue, "second", sent), first, "the second start finds the same");
    let end = queue.stats().iter().map(|topic| u64::from(topic.queues)).sum::<u64>();
    assert!(end <= 8);
    clock.advance(100_000);
    queue.tick();
    let next =
        NewMessage { topic: TOPIC, queue: QueueChoice::Explicit(0), body: b"after", ..NewMessage::default() };
    while queue.append(&[next], Space::New).is_err() {
        std::thread::yield_now();
    }
    queue.close().expect("the disk is healthy");
    drop(queue);
    drop(open(dir, &clock).expect("what was closed opens"));
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Result<Queue, OpenError> {
    let options =
        QueueOptions { segment_bytes: 4_096, topic_queues: 2, timer_thread: false, ..QueueOptions::new(dir) };
    let storage = Arc::new(DiskStorage::new(dir).expect("the folder is there"));
    Queue::open(options, storage, Arc::clone(clock) as Arc<dyn Clock>)
}

fn receive(queue: &Queue, group: &str) -> Vec<Message> {
    let request = ReceiveRequest { topic: TOPIC, group, max: 1_000, lease_ms: 1, tags: &[] };
    match queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut None, &request) {
        Poll::Ready(found) => found.expect("it is valid").into_iter().map(|found| found.message).collect(),
        Poll::Pending => Vec::new(),
    }
}

fn delivered(queue: &Queue, group: &str, sent: &Sent) -> Vec<(u32, u64)> {
    let mut places = Vec::new();
    loop {
        let found = receive(queue, group);
        if found.is_empty() {
            places.sort_unstable();
            return places;
        }
        for message in found {
            let place = (message.queue, message.offset);
            assert_eq!(sent.get(&place).map(Vec::as_slice), Some(&message.body[..]), "{place:?}");
            places.push(place);
        }
    }
}

fn base(near: &Path) -> &'static (Files, Sent) {
    static BASE: OnceLock<(Files, Sent)> = OnceLock::new();
    BASE.get_or_init(|| {
        let dir = near.join("base");
        let _ = fs::remove_dir_all(&dir);
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let mut sent = Sent::new();
        for life in 0..2u8 {
            let queue = open(&dir, &clock).expect("a new folder");
            for n in 0..12u8 {
                let body = vec![life * 16 + n; 20 + usize::from(n) * 40];
                let deliver_at_ms = (n % 5 == 4).then_some(NOW_MS + 50_000);
                let to = QueueChoice::Explicit(u32::from(n % 2));
                let message = NewMessage {
                    topic: TOPIC,
                    queue: to,
                    body: &body,
                    deliver_at_ms,
                    ..NewMessage::default()
                };
                let appended = loop {
                    match queue.append(&[message], Space::New) {
                        Ok(appended) => break appended,
                        Err(_) => std::thread::yield_now(),
                    }
                };
                if deliver_at_ms.is_none() {
                    sent.insert((appended.queue, appended.offset), body);
                }
                queue.wait_durable(appended.end).expect("the disk is healthy");
                queue.wait_dispatched(appended.end);
            }
            let request = ReceiveRequest { topic: TOPIC, group: "old", max: 7, lease_ms: 1_000, tags: &[] };
            let Poll::Ready(Ok(leases)) =
                queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut None, &request)
            else {
                panic!("there is work");
            };
            let receipts: Vec<_> = leases.iter().step_by(2).map(|lease| lease.receipt.clone()).collect();
            queue.ack(TOPIC, "old", &receipts);
            queue.snapshot().expect("the disk is healthy");
            queue.close().expect("the disk is healthy");
        }
        let mut files = Files::new();
        read(&dir, Path::new(""), &mut files);
        let _ = fs::remove_dir_all(&dir);
        (files, sent)
    })
}
