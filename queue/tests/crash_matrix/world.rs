//! One data folder through many lives of the process, and the checks after each.

use crate::faults::{Life, Trouble};
use crate::model::{Fate, Half, Model, Sent, body, id_of};
use crate::random::Random;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate_queue::storage::FaultyStorage;
use tidegate_queue::*;

const NOW_MS: u64 = 1_700_000_000_000;
const TOPICS: [&str; 2] = ["orders", "events"];
/// The last one is ordered.
const GROUPS: [&str; 3] = ["a", "b", "ordered"];
const ORDERED: usize = 2;
const KEYS: [&str; 3] = ["k0", "k1", "k2"];
const ATTEMPTS_MAX: u32 = 3;
const LEASE_MS: u64 = 1_000;
const PRODUCER: &str = "till 7";
const CHECK_FIRST_MS: u64 = 2_000;
const CHECK_EVERY_MS: u64 = 1_000;
const CHECKS_MAX: u32 = 2;
/// Waits for another thread end with an error after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// What histories came through: a matrix in which nothing happens proves nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) crashes: u64,
    /// Crashes that ended a start.
    pub(crate) in_recovery: u64,
    /// Messages that were accepted, never told durable, and lost.
    pub(crate) lost: u64,
    pub(crate) kept: u64,
    pub(crate) delivered: u64,
    /// Acknowledged, not checkpointed, and delivered again after a crash.
    pub(crate) again: u64,
    pub(crate) reports: u64,
    /// Segments that retention deleted, and messages with them.
    pub(crate) segments: u64,
    pub(crate) deleted: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.in_recovery += other.in_recovery;
        self.lost += other.lost;
        self.kept += other.kept;
        self.delivered += other.delivered;
        self.again += other.again;
        self.reports += other.reports;
        self.segments += other.segments;
        self.deleted += other.deleted;
    }
}

fn once(answer: Result<Once, ProducerError>) -> Result<Once, AppendError> {
    match answer {
        Err(ProducerError::Append(error)) => Err(error),
        other => Ok(other.expect("one producer, and numbers that are near")),
    }
}

pub(crate) struct World {
    _dir: TempDir,
    storage: Arc<FaultyStorage>,
    clock: Arc<ManualClock>,
    options: QueueOptions,
    policies: Policies,
    pub(crate) model: Model,
    random: Random,
    /// Everything below is on disk for good: no crash takes it.
    kept: Position,
    /// Everything below is at least in the page cache: only a loss of power takes it.
    cached: Position,
    /// All messages before this one were looked at in this life.
    scanned: Option<Position>,
    /// Processes that ended before this one.
    ended_before: u64,
    tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shm = std::path::Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        let flush = if random.percent(25) {
            Durability::Async { interval_ms: 1 + random.below(3) }
        } else {
            Durability::Sync
        };
        let options = QueueOptions {
            flush,
            segment_bytes: random.one_of(&[4096, 8192, 16_384]),
            pending_bytes_max: 1 << 20,
            topic_queues: 3,
            attempts_max: ATTEMPTS_MAX,
            retry_delays_ms: vec![500, 2_000],
            timer_thread: false,
            ..QueueOptions::new(dir.path())
        };
        let policies = Policies {
            check_first_ms: CHECK_FIRST_MS,
            check_every_ms: CHECK_EVERY_MS,
            checks_max: CHECKS_MAX,
            retention_ms: if random.percent(80) { random.below(3_000) } else { u64::MAX },
            owner_holds: random.percent(30),
            delayed_max: 1_000,
            carry_after_ms: 60_000,
            ..Policies::default()
        };
        Self {
            policies,
            storage: FaultyStorage::new(dir.path()),
            _dir: dir,
            clock: Arc::new(ManualClock::new(NOW_MS)),
            options,
            model: Model::default(),
            random,
            kept: Position(0),
            cached: Position(0),
            scanned: None,
            ended_before: 0,
            tally: Tally::default(),
        }
    }

    /// One life of the process, from its start to its end by a crash.
    pub(crate) fn live(&mut self, operations: u64) {
        let life = Life::plan(&mut self.random);
        self.live_as(life, operations);
    }

    /// Answers whether something killed it before its end.
    pub(crate) fn live_as(&mut self, life: Life, operations: u64) -> bool {
        if std::env::var_os("TIDEGATE_CRASH_SEED").is_some() {
            eprintln!("{} {:?} {life:?} kept {}", self.tally.crashes, self.options.flush, self.kept);
        }
        let ended_before = self.storage.ended();
        self.ended_before = ended_before;
        if life.early {
            life.arm(&self.storage);
        }
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        match Queue::open_with(self.options.clone(), self.policies.clone(), self.storage.as_storage(), clock)
        {
            Err(error) => {
                let may = life.may_refuse(&self.storage, ended_before);
                assert!(may && !matches!(error, OpenError::Corrupt { .. }), "{life:?}: {error}");
                let killed = self.storage.ended() > ended_before;
                self.tally.in_recovery += 1;
                self.end(None, &life);
                killed
            }
            Ok(queue) => {
                self.look(&queue);
                if !self.model.ordered {
                    for group in GROUPS {
                        // Without its groups a topic keeps nothing.
                        let _ = queue.put_group(TOPICS[0], group, StartFrom::First, None, None);
                    }
                    self.model.ordered = queue.set_ordered(TOPICS[0], GROUPS[ORDERED], true).is_ok();
                }
                if !life.early {
                    life.arm(&self.storage);
                }
                for _ in 0..operations {
                    if self.storage.ended() > ended_before {
                        break;
                    }
                    self.operate(&queue, &life);
                }
                if life.closes && queue.close().is_ok() {
                    self.model.told_durable(queue.durable());
                }
                let killed = self.storage.ended() > ended_before;
                self.end(Some(queue), &life);
                killed
            }
        }
    }

    fn end(&mut self, queue: Option<Queue>, life: &Life) {
        self.storage.kill();
        self.storage.set_quota(None);
        if let Some(queue) = queue {
            self.kept = self.kept.max(queue.synced());
            self.cached = self.cached.max(queue.durable());
        }
        if let Some((seed, mode)) = life.loss {
            self.storage.power_loss(seed, mode);
            self.cached = self.kept;
        }
        self.model.crashed();
        self.tally.crashes += 1;
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// After a start: everything promised is there, once, at its place, and offsets are dense.
    fn look(&mut self, queue: &Queue) {
        self.model.holds(self.cached.max(self.kept));
        self.kept = queue.end();
        self.cached = self.kept;
        self.scanned = None;
        let start = queue.start();
        self.model.begins_at(start);
        let mut there = HashSet::new();
        let mut placed: HashMap<(usize, u32, u64), (u32, Position)> = HashMap::new();
        let mut delivered = HashSet::new();
        let mut ends: HashMap<(usize, u32), u64> = HashMap::new();
        for message in queue.scan(queue.start()) {
            let message = message.expect("what a start has verified can be read");
            self.scanned = Some(message.position);
            let (id, topic) = self.check_content(&message);
            there.insert(id);
            let waits = message.times.deliver_at_ms.is_some_and(|at_ms| at_ms > message.times.born_at_ms);
            if waits {
                continue;
            }
            assert!(delivered.insert(id), "message {id} stands twice in its queue");
            let place = (topic, message.queue);
            let taken = self.model.offsets.get(&place).copied().unwrap_or_default();
            assert!(message.offset >= taken, "offset {} of {place:?} was given out before", message.offset);
            let begins = start > tidegate_queue::log::FIRST_POSITION;
            let end = ends.entry(place).or_insert(if begins { message.offset } else { 0 });
            assert_eq!(message.offset, *end, "offsets of {} {} are dense", message.topic, message.queue);
            *end += 1;
            placed.insert((topic, message.queue, message.offset), (id, message.position));
        }
        for (place, was) in &self.model.seen {
            assert_eq!(placed.get(place), Some(was), "what was seen at {place:?} is there no more");
        }
        self.model.look(&there, start);
        self.model.seen = placed;
        for topic in queue.stats() {
            let known = TOPICS.iter().position(|name| *name == topic.topic).expect("no other topic was made");
            assert!(known > 0 || topic.queues >= self.model.queues_min, "the topic has lost queues");
        }
    }

    fn check_content(&self, message: &Message) -> (u32, usize) {
        let id = id_of(&message.body);
        let sent = self.model.sent.get(id as usize).unwrap_or_else(|| panic!("{id} was never sent"));
        assert_eq!(message.body, body(id, sent.len), "message {id} has another body");
        assert_eq!(message.topic, TOPICS[sent.topic], "message {id} is in another topic");
        assert!(sent.queue.is_none_or(|queue| queue == message.queue), "message {id} is in another queue");
        (id, sent.topic)
    }

    fn operate(&mut self, queue: &Queue, life: &Life) {
        match self.random.below(100) {
            0..24 => self.append(queue, life, false),
            24..28 => self.append(queue, life, true),
            28..30 => self.send_again(queue, life),
            30..33 => self.begin(queue, life),
            33..36 => self.decide(queue, life),
            36..50 => drop(self.receive(queue)),
            50..62 => self.ack(queue),
            62..66 => self.nack(queue),
            66..68 => self.extend(queue),
            68..77 => {
                self.clock.advance(1 + self.random.below(1_500));
                queue.tick();
            }
            77..81 => {
                let max = 1 + self.random.below(4) as usize;
                self.reports(queue, max);
            }
            81..87 => {
                if queue.checkpoint().is_ok() {
                    self.model.told_checkpointed();
                }
            }
            87..89 => {
                let queues = 3 + self.random.below(4) as u32;
                if queue.put_topic(TOPICS[0], queues).is_ok() {
                    self.model.queues_min = self.model.queues_min.max(queues);
                }
            }
            89..92 => drop(queue.snapshot()),
            92..96 => {
                self.work_off(queue, life);
                self.clock.advance(self.random.below(3_000));
                self.delete(queue);
            }
            96..97 => self.delete(queue),
            _ => self.settle_down(queue, life),
        }
    }

    /// Deletes what nothing holds.
    fn delete(&mut self, queue: &Queue) {
        if self.random.percent(50) {
            let durable: Vec<_> = self.model.sent.iter().filter(|sent| sent.fate == Fate::Durable).collect();
            if !durable.is_empty() {
                let position = durable[self.random.below(durable.len() as u64) as usize].end;
                queue.release_below(position);
                self.model.released = self.model.released.max(Some(position));
                self.model.released_ever = self.model.released_ever.max(position);
            }
        }
        // A group that was not told made might not be there.
        if !self.model.ordered {
            return;
        }
        self.note_durable(queue);
        self.model.may_delete(self.clock.now_ms(), self.policies.retention_ms);
        let before = queue.start();
        if let Ok(segments @ 1..) = queue.delete_unheld() {
            self.model.told_checkpointed();
            self.tally.segments += segments as u64;
        }
        let start = queue.start();
        let header = tidegate_queue::log::FIRST_POSITION.0;
        if self.policies.owner_holds && start > before {
            assert!(
                Some(Position(start.0 - header)) <= self.model.released,
                "the owner needs what is deleted"
            );
        }
    }

    /// All groups deal with what is there, or with most of it.
    fn work_off(&mut self, queue: &Queue, life: &Life) {
        for _ in 0..3 {
            self.clock.advance(700);
            queue.tick();
            self.settle_down(queue, life);
            self.reports(queue, 100);
            for (group, name) in GROUPS.iter().enumerate() {
                self.receive_up_to(queue, group, 100);
                while let Some((id, receipt, live)) = self.pick(group) {
                    let result = queue.ack(TOPICS[0], name, &[receipt]).remove(0);
                    assert_eq!(result.is_ok(), live, "an acknowledgement counts until the lease ends");
                    if live {
                        self.done(group, id);
                    }
                    self.model.groups[group].leases.remove(&id);
                }
            }
        }
    }

    fn append(&mut self, queue: &Queue, life: &Life, numbered: bool) {
        let count = if self.random.percent(60) { 1 } else { 2 + self.random.below(4) };
        let now_ms = self.now_ms();
        let first = self.model.sent.len() as u32;
        let mut sent = Vec::new();
        let mut choices = Vec::new();
        for _ in 0..count {
            let number = self.random.below(3) as u32;
            let choice = self.random.one_of(&[
                QueueChoice::Explicit(number),
                QueueChoice::RoundRobin,
                QueueChoice::Key("customer"),
            ]);
            let due_ms = if self.random.percent(20) { now_ms + 1 + self.random.below(4_000) } else { 0 };
            let deadline_ms =
                if self.random.percent(20) { now_ms + 1 + self.random.below(6_000) } else { u64::MAX };
            choices.push(choice);
            sent.push(Sent {
                batch: self.model.batches,
                topic: usize::from(self.random.percent(25)),
                queue: matches!(choice, QueueChoice::Explicit(_)).then_some(number),
                due_ms,
                deadline_ms,
                len: self.random.below(300) as usize,
                key: self.random.below(3) as usize,
                end: Position(0),
                fate: Fate::Accepted,
                half: None,
                at_ms: now_ms,
            });
        }
        let sequence = self.model.numbered.last_key_value().map_or(0, |(last, _)| last + 1);
        let bodies: Vec<_> = sent.iter().zip(first..).map(|(sent, id)| body(id, sent.len)).collect();
        let batch: Vec<_> = sent
            .iter()
            .zip(&bodies)
            .zip(&choices)
            .map(|((sent, body), queue)| NewMessage {
                topic: TOPICS[sent.topic],
                queue: *queue,
                deliver_at_ms: (sent.due_ms > 0).then_some(sent.due_ms),
                deadline_ms: (sent.deadline_ms < u64::MAX).then_some(sent.deadline_ms),
                keys: &KEYS[sent.key..=sent.key],
                body,
                ..NewMessage::default()
            })
            .collect();
        let accepted = Self::accept(life, || {
            if !numbered {
                return queue.append(&batch, Space::New);
            }
            let once = once(queue.append_once(Producer { id: PRODUCER, sequence }, &batch, Space::New))?;
            assert!(!once.repeated, "number {sequence} was never sent");
            Ok(once.appended)
        });
        if let Some(appended) = accepted {
            if numbered {
                self.model.numbered.insert(sequence, (first, appended.first));
            }
            for mut sent in sent {
                sent.end = appended.end;
                self.model.sent.push(sent);
            }
            self.model.batches += 1;
        }
    }

    fn accept<T>(life: &Life, append: impl Fn() -> Result<T, AppendError>) -> Option<T> {
        let started = Instant::now();
        let may_fail = |trouble| !matches!(trouble, Trouble::None);
        loop {
            match append() {
                Ok(appended) => return Some(appended),
                Err(AppendError::Busy) => std::thread::yield_now(),
                Err(AppendError::NoSpace | AppendError::Poisoned) if may_fail(life.trouble) => return None,
                Err(error) => panic!("{life:?}: {error}"),
            }
            assert!(started.elapsed() < PATIENCE, "{life:?}: no segment becomes ready");
        }
    }

    /// Sends a number again, with another body: what is in the log must not be appended a second time.
    fn send_again(&mut self, queue: &Queue, life: &Life) {
        let back = self.random.below(10) as usize;
        let Some((&sequence, &(first, position))) = self.model.numbered.iter().nth_back(back) else { return };
        let id = self.model.sent.len() as u32;
        let body = body(id, 8);
        let queue_of_it = QueueChoice::Explicit(0);
        let batch = [NewMessage {
            topic: TOPICS[0],
            queue: queue_of_it,
            keys: &KEYS[..1],
            body: &body,
            ..NewMessage::default()
        }];
        let producer = Producer { id: PRODUCER, sequence };
        let Some(once) = Self::accept(life, || once(queue.append_once(producer, &batch, Space::New))) else {
            return;
        };
        let there = self.model.sent[first as usize].fate != Fate::Gone;
        assert_eq!(once.repeated, there, "number {sequence}, first sent as message {first}");
        if once.repeated {
            assert_eq!(once.appended.first, position);
        } else {
            self.model.numbered.insert(sequence, (id, once.appended.first));
        }
        let fate = if once.repeated { Fate::Gone } else { Fate::Accepted };
        self.push_one(fate, once.appended.end, 0, None);
    }

    /// One more message, alone in its batch, in queue 0.
    fn push_one(&mut self, fate: Fate, end: Position, due_ms: u64, half: Option<Half>) {
        let (batch, deadline_ms) = (self.model.batches, u64::MAX);
        let sent = Sent {
            batch,
            topic: 0,
            queue: Some(0),
            due_ms,
            deadline_ms,
            len: 8,
            key: 0,
            end,
            fate,
            half,
            at_ms: self.now_ms(),
        };
        self.model.sent.push(sent);
        self.model.batches += 1;
    }

    fn begin(&mut self, queue: &Queue, life: &Life) {
        let body = body(self.model.sent.len() as u32, 8);
        let due_ms = if self.random.percent(30) { self.now_ms() + self.random.below(3_000) } else { 0 };
        let message = NewMessage {
            topic: TOPICS[0],
            keys: &KEYS[..1],
            queue: QueueChoice::Explicit(0),
            deliver_at_ms: (due_ms > 0).then_some(due_ms),
            body: &body,
            ..NewMessage::default()
        };
        let begun = Self::accept(life, || match queue.begin("shop", &message) {
            Err(TransactionError::Append(error)) => Err(error),
            other => Ok(other.expect("there are few")),
        });
        if let Some(Appended { first, end, .. }) = begun {
            self.model.replaced(first);
            let half =
                Half { id: first, begun_ms: self.now_ms(), end, durable: false, rollback_asked: false };
            self.push_one(Fate::Half, Position(0), due_ms, Some(half));
        }
    }

    fn decide(&mut self, queue: &Queue, life: &Life) {
        let halves: Vec<_> =
            (0..self.model.sent.len()).filter(|id| self.model.sent[*id].half.is_some()).collect();
        if !halves.is_empty() {
            let id = self.random.one_of(&halves);
            let commits = self.random.percent(60);
            self.decide_one(queue, life, id, commits);
        }
    }

    /// A decision, perhaps of what was decided before: it is one way.
    fn decide_one(&mut self, queue: &Queue, life: &Life, id: usize, commits: bool) {
        let Some(half) = self.model.sent[id].half else { return };
        let decided = Self::accept(life, || {
            let decided = if commits { queue.commit(half.id) } else { queue.roll_back(half.id) };
            match decided {
                Err(TransactionError::Append(error)) => Err(error),
                other => Ok(other),
            }
        });
        let (Some(decided), now_ms) = (decided, self.clock.now_ms()) else { return };
        let batches = &mut self.model.batches;
        let sent = &mut self.model.sent[id];
        let committed = matches!(sent.fate, Fate::Accepted | Fate::Durable | Fate::Deleted);
        let rolled_back = matches!(sent.fate, Fate::RolledBack | Fate::RollingBack(_));
        match decided {
            Ok(appended) if commits => {
                assert!(!rolled_back, "message {id} was rolled back and is committed");
                if !committed {
                    (sent.fate, sent.end, sent.batch) = (Fate::Accepted, appended.end, *batches);
                    *batches += 1;
                }
            }
            Ok(appended) => {
                assert!(!committed, "message {id} was committed and is rolled back");
                if !rolled_back {
                    sent.fate = Fate::RollingBack(appended.end);
                    sent.half = Some(Half { rollback_asked: true, ..half });
                }
            }
            Err(TransactionError::Decided(Outcome::Committed)) => assert!(committed && !commits),
            Err(TransactionError::Decided(Outcome::RolledBack)) => {
                let waited_ms = CHECK_FIRST_MS + CHECK_EVERY_MS * u64::from(CHECKS_MAX);
                assert!(
                    half.rollback_asked || now_ms >= half.begun_ms + waited_ms,
                    "{id} is rolled back too early"
                );
                assert!(!committed && commits);
                if !rolled_back {
                    sent.fate = Fate::RollingBack(queue.end());
                }
            }
            Err(TransactionError::Unknown) => {
                assert!(!half.durable, "half message {id} was durable and is lost");
                (sent.fate, sent.half) = (Fate::Gone, None);
            }
            Err(TransactionError::NotDurable) => assert!(commits && !half.durable),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until what was accepted may be received, and notes that it was told durable.
    fn settle_down(&mut self, queue: &Queue, life: &Life) {
        let end = queue.end();
        if queue.wait_durable(end).is_err() {
            return;
        }
        self.note_durable(queue);
        let started = Instant::now();
        while queue.dispatched() < end && self.storage.ended() == self.ended_before {
            // The index is tried again after a while when there is space, which there is not.
            if matches!(life.trouble, Trouble::Full(_)) && started.elapsed() > Duration::from_millis(20) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{life:?}: what is durable is not dispatched");
            std::thread::yield_now();
        }
    }

    /// In async mode a power loss may take what is durable in the softer sense.
    fn note_durable(&mut self, queue: &Queue) {
        let sync = self.options.flush == Durability::Sync;
        self.model.told_durable(if sync { queue.durable() } else { queue.synced() });
    }

    fn receive(&mut self, queue: &Queue) -> usize {
        let group = self.random.below(GROUPS.len() as u64) as usize;
        let max = 1 + self.random.below(6) as usize;
        self.receive_up_to(queue, group, max)
    }

    fn receive_up_to(&mut self, queue: &Queue, group: usize, max: usize) -> usize {
        let topic = TOPICS[0];
        let request = ReceiveRequest { topic, group: GROUPS[group], max, lease_ms: LEASE_MS, tags: &[] };
        let found = match queue.poll_receive(&mut Context::from_waker(Waker::noop()), &mut None, &request) {
            Poll::Ready(Ok(found)) => found,
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => return 0,
        };
        assert!(found.len() <= max);
        let now_ms = self.now_ms();
        if group == ORDERED {
            self.check_order(queue, &found);
        }
        for Delivery { receipt, message, .. } in &found {
            let (id, topic) = self.check_content(message);
            let sent = &self.model.sent[id as usize];
            let may = matches!(sent.fate, Fate::Accepted | Fate::Durable);
            assert!(may, "message {id} is delivered: {:?}", sent.fate);
            assert!(now_ms >= sent.due_ms, "message {id} is early");
            assert!(now_ms < sent.deadline_ms, "message {id} is late");
            let until_ms = (now_ms + LEASE_MS).min(sent.deadline_ms);
            self.see(queue, id, topic, message);
            let group = &mut self.model.groups[group];
            self.tally.delivered += 1;
            *group.deliveries.entry(id).or_default() += 1;
            group.open.insert(id);
            self.tally.again += u64::from(group.done.contains(&id));
            assert!(!group.now.contains(&id), "message {id} was acknowledged in this life");
            assert!(!group.safe.contains(&id), "message {id} was acknowledged and checkpointed");
            let before = group.leases.insert(id, (receipt.clone(), until_ms));
            assert!(before.is_none_or(|(_, until_ms)| until_ms <= now_ms), "message {id} is leased");
        }
        found.len()
    }

    /// Whatever stands before one of these in its queue, with the same key, was dealt with.
    fn check_order(&mut self, queue: &Queue, found: &[Delivery]) {
        for message in queue.scan(self.scanned.unwrap_or_default().max(queue.start())).map(Result::unwrap) {
            self.scanned = Some(message.position);
            let waits = message.times.deliver_at_ms.is_some_and(|at_ms| at_ms > message.times.born_at_ms);
            let (id, topic) = self.check_content(&message);
            if !waits {
                self.see(queue, id, topic, &message);
            }
        }
        let now_ms = self.now_ms();
        let model = &self.model.groups[ORDERED];
        for message in found.iter().map(|delivery| &delivery.message) {
            let id = id_of(&message.body);
            let key = self.model.sent[id as usize].key;
            for (&(_, _, offset), &(before, _)) in
                self.model.seen.iter().filter(|((topic, queue, offset), _)| {
                    *topic == 0 && *queue == message.queue && *offset < message.offset
                })
            {
                let sent = &self.model.sent[before as usize];
                let may_be_dead = model.deliveries.get(&before).is_some_and(|count| *count >= ATTEMPTS_MAX);
                let done = model.done.contains(&before) || now_ms >= sent.deadline_ms || may_be_dead;
                assert!(sent.key != key || done, "message {id} overtakes {before} at offset {offset}");
            }
        }
    }

    /// What got out must stay.
    fn see(&mut self, queue: &Queue, id: u32, topic: usize, message: &Message) {
        self.note_durable(queue);
        let place = (topic, message.queue, message.offset);
        let was = *self.model.seen.entry(place).or_insert((id, message.position));
        assert_eq!(was, (id, message.position), "another message stands at {place:?}");
    }

    fn pick(&mut self, group: usize) -> Option<(u32, Receipt, bool)> {
        let leases = &self.model.groups[group].leases;
        let nth = self.random.below(leases.len().max(1) as u64) as usize;
        let (id, (receipt, until_ms)) = leases.iter().nth(nth)?;
        Some((*id, receipt.clone(), self.clock.now_ms() < *until_ms))
    }

    fn ack(&mut self, queue: &Queue) {
        let group = self.random.below(GROUPS.len() as u64) as usize;
        let Some((id, receipt, live)) = self.pick(group) else { return };
        let result = queue.ack(TOPICS[0], GROUPS[group], &[receipt]).remove(0);
        assert_eq!(result.is_ok(), live, "an acknowledgement counts until the lease ends");
        self.model.groups[group].leases.remove(&id);
        if live {
            self.done(group, id);
        }
    }

    fn done(&mut self, group: usize, id: u32) {
        let group = &mut self.model.groups[group];
        group.done.insert(id);
        group.open.remove(&id);
        assert!(group.now.insert(id), "message {id} was settled twice in one life");
    }

    fn nack(&mut self, queue: &Queue) {
        let group = self.random.below(GROUPS.len() as u64) as usize;
        let delay_ms = self.random.percent(50).then(|| self.random.below(2_000));
        let Some((id, receipt, live)) = self.pick(group) else { return };
        let result = queue.nack(TOPICS[0], GROUPS[group], &[receipt], delay_ms).remove(0);
        assert_eq!(result.is_ok(), live);
        self.model.groups[group].leases.remove(&id);
    }

    fn extend(&mut self, queue: &Queue) {
        let group = self.random.below(GROUPS.len() as u64) as usize;
        let Some((id, receipt, live)) = self.pick(group) else { return };
        let result = queue.extend(TOPICS[0], GROUPS[group], &[receipt], LEASE_MS).remove(0);
        assert_eq!(result.is_ok(), live);
        let until_ms = (self.now_ms() + LEASE_MS).min(self.model.sent[id as usize].deadline_ms);
        let leases = &mut self.model.groups[group].leases;
        leases.remove(&id);
        if let Ok(receipt) = result {
            leases.insert(id, (receipt, until_ms));
        }
    }

    fn reports(&mut self, queue: &Queue, max: usize) -> usize {
        let reports = queue.take_reports(max, None);
        for report in &reports {
            let (id, _) = self.check_content(&report.message);
            let Some(group) = GROUPS.iter().position(|group| *group == report.group) else { continue };
            let model = &self.model.groups[group];
            assert!(!model.now.contains(&id) && !model.safe.contains(&id), "message {id} was settled");
            if report.kind == ReportKind::Dropped {
                assert!(self.now_ms() >= self.model.sent[id as usize].deadline_ms, "{id} is dropped early");
            }
            self.tally.reports += 1;
            if self.random.percent(80) {
                queue.settle(report);
                self.done(group, id);
            }
        }
        reports.len()
    }

    /// A last life without trouble: everything that was promised is accounted for in each group.
    pub(crate) fn finish(mut self) -> Tally {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let queue =
            Queue::open_with(self.options.clone(), self.policies.clone(), self.storage.as_storage(), clock)
                .expect("opens");
        self.look(&queue);
        self.ended_before = self.storage.ended();
        let calm = Life { trouble: Trouble::None, early: false, closes: true, loss: None };
        for id in 0..self.model.sent.len() {
            if self.model.sent[id].half.is_some() {
                self.decide_one(&queue, &calm, id, true);
                self.decide_one(&queue, &calm, id, false);
            }
        }
        queue.set_ordered(TOPICS[0], GROUPS[ORDERED], true).expect("nothing fails");
        self.clock.advance(20_000);
        let (mut idle, started) = (0, Instant::now());
        while started.elapsed() < PATIENCE {
            queue.tick();
            self.settle_down(&queue, &calm);
            let mut work = self.reports(&queue, 100);
            for (group, name) in GROUPS.iter().enumerate() {
                work += self.receive_up_to(&queue, group, 100);
                while let Some((id, receipt, live)) = self.pick(group) {
                    if live {
                        assert_eq!(queue.ack(TOPICS[0], name, &[receipt]), [Ok(())]);
                        self.done(group, id);
                    }
                    self.model.groups[group].leases.remove(&id);
                }
            }
            self.clock.advance(700);
            // What is due may have to wait for the next segment to be made.
            let waits = queue.delayed() > 0;
            idle = if work == 0 && !waits { idle + 1 } else { 0 };
            if waits {
                std::thread::yield_now();
            }
            if idle > 4 {
                break;
            }
        }
        assert_eq!(queue.delayed(), 0, "a delayed message is missing");
        for group in &self.model.groups {
            for (id, sent) in self.model.sent.iter().enumerate().filter(|(_, sent)| sent.topic == 0) {
                let lost = sent.fate == Fate::Durable && !group.done.contains(&(id as u32));
                assert!(!lost, "message {id} never reached a group: {sent:?}");
            }
        }
        queue.close().expect("closes");
        let gone = self.model.sent.iter().filter(|sent| sent.fate == Fate::Gone).count() as u64;
        let deleted = self.model.sent.iter().filter(|sent| sent.fate == Fate::Deleted).count() as u64;
        Tally { lost: gone, kept: self.model.sent.len() as u64 - gone, deleted, ..self.tally }
    }
}
