//! The process that is killed: appends, delays, transacts, numbers, receives and acknowledges at once, and writes
//! what it was told to standard error, each line in one write.

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::*;

pub(crate) const ACK_SYNC_MS: u64 = 50;
const TOPIC: &str = "orders";
const GROUP: &str = "workers";
const PRODUCERS: &str = "payments";
/// Above the longest pause between lease and acknowledgement, below the length of a long round.
const LEASE_MS: u64 = 400;
const DELAY_MAX_MS: u64 = 1_200;

pub(crate) fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a process is started to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) round: u64,
    /// The highest number that a numbered append was acknowledged with.
    pub(crate) sequence: u64,
    /// No new work: deliver what is owed, then end.
    pub(crate) drain: bool,
    pub(crate) seed: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) retention_ms: u64,
    pub(crate) snapshots: bool,
}

impl Work {
    pub(crate) fn keeping_all() -> Self {
        Self {
            round: 0,
            sequence: 0,
            drain: false,
            seed: 0,
            segment_bytes: 64 << 10,
            retention_ms: u64::MAX,
            snapshots: false,
        }
    }

    /// One snapshot after the other.
    pub(crate) fn snapshots() -> Self {
        Self { segment_bytes: 16 << 10, snapshots: true, ..Self::keeping_all() }
    }

    /// What nothing holds is deleted at once.
    pub(crate) fn deletions() -> Self {
        Self { segment_bytes: 4 << 10, snapshots: true, retention_ms: 1, ..Self::keeping_all() }
    }

    pub(crate) fn keeps_all(&self) -> bool {
        self.retention_ms == u64::MAX
    }

    pub(crate) fn tell(&self, dir: &Path, command: &mut Command) {
        command.env("WORK_DIR", dir);
        for (name, value) in self.numbers() {
            command.env(name, value.to_string());
        }
    }

    fn numbers(&self) -> [(&'static str, u64); 7] {
        [
            ("WORK_ROUND", self.round),
            ("WORK_SEQUENCE", self.sequence),
            ("WORK_DRAIN", u64::from(self.drain)),
            ("WORK_SEED", self.seed),
            ("WORK_SEGMENT", self.segment_bytes),
            ("WORK_RETENTION", self.retention_ms),
            ("WORK_SNAPSHOTS", u64::from(self.snapshots)),
        ]
    }

    fn told() -> Self {
        let number = |name| number(name, 0);
        Self {
            round: number("WORK_ROUND"),
            sequence: number("WORK_SEQUENCE"),
            drain: number("WORK_DRAIN") == 1,
            seed: number("WORK_SEED"),
            segment_bytes: number("WORK_SEGMENT"),
            retention_ms: number("WORK_RETENTION"),
            snapshots: number("WORK_SNAPSHOTS") == 1,
        }
    }
}

#[derive(Clone)]
struct Process {
    queue: Queue,
    clock: Arc<SystemClock>,
    pipe: Arc<File>,
    work: Work,
    /// All that was owed is delivered.
    over: Arc<AtomicBool>,
}

pub(crate) fn run() {
    let work = Work::told();
    let dir = PathBuf::from(env::var_os("WORK_DIR").expect("the folder is told"));
    let clock = Arc::new(SystemClock::new());
    let options = QueueOptions {
        segment_bytes: work.segment_bytes,
        topic_queues: 4,
        ack_sync_ms: ACK_SYNC_MS,
        attempts_max: u32::MAX,
        retry_delays_ms: vec![0],
        ..QueueOptions::new(&dir)
    };
    let policies = Policies {
        check_first_ms: 200,
        check_every_ms: 200,
        checks_max: 1_000,
        retention_ms: work.retention_ms,
        ..Policies::default()
    };
    let storage = Arc::new(DiskStorage::new(&dir).unwrap());
    let queue = Queue::open_with(options, policies, storage, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let pipe = Arc::new(File::from(std::io::stderr().as_fd().try_clone_to_owned().unwrap()));
    let over = Arc::new(AtomicBool::new(false));
    let process = Process { queue, clock, pipe, work, over };
    process.say(format_args!("begins {}", process.queue.start()));
    process.say("up");
    let mut jobs: Vec<fn(&Process, &mut Random)> = vec![consume, consume, decide_checks];
    if !work.drain {
        jobs.extend([append, delay, transact, send_numbered, checkpoint] as [fn(&Process, &mut Random); 5]);
        if work.snapshots {
            jobs.push(snapshot);
        }
        if !work.keeps_all() {
            jobs.push(delete);
        }
    }
    let threads: Vec<_> = (1u64..)
        .zip(jobs)
        .map(|(n, job)| {
            let (process, mut random) = (process.clone(), Random(work.seed ^ n << 48));
            std::thread::spawn(move || job(&process, &mut random))
        })
        .collect();
    if work.drain {
        let owes = || {
            let group = process.queue.group_counts(TOPIC, GROUP);
            process.queue.delayed() > 0
                || process.queue.open_transactions() > 0
                || group.is_none_or(|counts| counts.backlog > 0)
        };
        let mut quiet = 0;
        while quiet < 20 {
            quiet = if owes() { 0 } else { quiet + 1 };
            pause_ms(10);
        }
        process.over.store(true, Ordering::SeqCst);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    process.queue.close().unwrap();
    process.say("drained");
}

impl Process {
    fn say(&self, what: impl std::fmt::Display) {
        (&*self.pipe).write_all(format!("@{what}\n").as_bytes()).expect("the books are read");
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn id(&self, thread: char, n: u64) -> String {
        format!("{}{thread}{n}", self.work.round)
    }

    fn wait(&self, end: Position) {
        self.queue.wait_durable(end).expect("the disk is healthy");
    }
}

/// With small segments the next one may still be on its way.
fn until_taken<T>(mut call: impl FnMut() -> Result<T, AppendError>) -> T {
    loop {
        match call() {
            Err(AppendError::Busy) => std::thread::yield_now(),
            other => return other.expect("the log accepts"),
        }
    }
}

/// Nobody wakes it: this is no event to wait for, but the pace of the work.
fn pause_ms(ms: u64) {
    std::thread::park_timeout(Duration::from_millis(ms));
}

fn body(id: &str, random: &mut Random) -> Vec<u8> {
    let mut body = format!("{id} ").into_bytes();
    body.resize(body.len() + random.below(900) as usize, b'.');
    body
}

fn message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { topic: TOPIC, body, ..NewMessage::default() }
}

fn append(process: &Process, random: &mut Random) {
    for n in 0.. {
        let ids: Vec<_> = (0..=random.below(3)).map(|i| process.id('a', n * 4 + i)).collect();
        let bodies: Vec<_> = ids.iter().map(|id| body(id, random)).collect();
        let batch: Vec<_> = bodies.iter().map(|body| message(body)).collect();
        let appended = until_taken(|| process.queue.append(&batch, Space::New));
        process.wait(appended.end);
        for id in &ids {
            process.say(format_args!("appended {id}"));
        }
    }
}

fn delay(process: &Process, random: &mut Random) {
    for n in 0.. {
        let id = process.id('d', n);
        let body = body(&id, random);
        let at_ms = process.clock.now_ms() + 1 + random.below(DELAY_MAX_MS);
        let delayed = NewMessage { deliver_at_ms: Some(at_ms), ..message(&body) };
        // Before it is appended: of one that comes early although nobody was told of it, this is known too.
        process.say(format_args!("due {id} {at_ms}"));
        let appended = until_taken(|| process.queue.append(&[delayed], Space::New));
        process.wait(appended.end);
        process.say(format_args!("appended {id}"));
        pause_ms(random.below(4));
    }
}

fn transact(process: &Process, random: &mut Random) {
    for n in 0.. {
        let id = process.id('t', n);
        let body = body(&id, random);
        let half = until_taken(|| match process.queue.begin(PRODUCERS, &message(&body)) {
            Err(TransactionError::Append(error)) => Err(error),
            other => Ok(other.expect("it begins")),
        });
        process.wait(half.end);
        process.say(format_args!("begun {id}"));
        match random.below(5) {
            // The check asks for it.
            0 => {}
            choice => decide(process, half.first, &id, choice > 2),
        }
        pause_ms(random.below(4));
    }
}

fn decide(process: &Process, half: Position, id: &str, commit: bool) {
    let appended = loop {
        let decided = if commit { process.queue.commit(half) } else { process.queue.roll_back(half) };
        match decided {
            Err(TransactionError::Append(AppendError::Busy)) => std::thread::yield_now(),
            // The check was quicker.
            Err(TransactionError::Decided(_)) => return,
            other => break other.expect("it is decided"),
        }
    };
    process.wait(appended.end);
    process.say(format_args!("{} {id}", if commit { "committed" } else { "undone" }));
}

fn decide_checks(process: &Process, random: &mut Random) {
    while !process.over() {
        for check in process.queue.take_checks(PRODUCERS, 16, None) {
            let body = String::from_utf8_lossy(&check.message.body).into_owned();
            let id = body.split(' ').next().unwrap();
            decide(process, check.id, id, random.below(2) == 0);
        }
        pause_ms(5);
    }
}

/// Repeats the last three numbers that were acknowledged, then goes on.
fn send_numbered(process: &Process, random: &mut Random) {
    for sequence in process.work.sequence.saturating_sub(2).max(1).. {
        let id = format!("n{sequence}");
        let body = body(&id, random);
        let producer = Producer { id: "till", sequence };
        let once = until_taken(|| match process.queue.append_once(producer, &[message(&body)], Space::New) {
            Err(ProducerError::Append(error)) => Err(error),
            other => Ok(other.expect("it is numbered")),
        });
        assert!(
            once.repeated || sequence > process.work.sequence,
            "{sequence} was acknowledged and is forgotten"
        );
        process.wait(once.appended.end);
        process.say(format_args!("numbered {sequence}"));
        process.say(format_args!("appended {id}"));
    }
}

fn consume(process: &Process, random: &mut Random) {
    let request = ReceiveRequest { topic: TOPIC, group: GROUP, max: 8, lease_ms: LEASE_MS, tags: &[] };
    while !process.over() {
        let mut slot = None;
        let received =
            process.queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut slot, &request);
        let Poll::Ready(found) = received else {
            pause_ms(1);
            continue;
        };
        let now_ms = process.clock.now_ms();
        for delivery in found.expect("the request is valid") {
            let body = String::from_utf8_lossy(&delivery.message.body);
            let (id, attempt) = (body.split(' ').next().unwrap().to_owned(), delivery.attempt);
            let (queue, offset) = (delivery.message.queue, delivery.message.offset);
            process.say(format_args!("got {id} {queue} {offset} {now_ms} {attempt}"));
            // Some leases run out.
            if !process.work.drain && random.below(20) == 0 {
                continue;
            }
            if process.queue.ack(TOPIC, GROUP, &[delivery.receipt])[0].is_ok() {
                process.say(format_args!("acked {id} {attempt}"));
            }
        }
    }
}

/// Nearly all the time: most kills are during one.
fn snapshot(process: &Process, random: &mut Random) {
    loop {
        process.queue.snapshot().expect("the disk is healthy");
        pause_ms(random.below(3));
    }
}

fn delete(process: &Process, random: &mut Random) {
    loop {
        let deleted = process.queue.delete_unheld().expect("the disk is healthy");
        process.say(format_args!("deleted {deleted}"));
        pause_ms(random.below(3));
    }
}

fn checkpoint(process: &Process, random: &mut Random) {
    loop {
        process.say("checkpointing");
        process.queue.checkpoint().expect("the disk is healthy");
        process.say("checkpointed");
        pause_ms(20 + random.below(60));
    }
}
