//! The façade against a simple model, through acknowledgements, time, restarts and power losses.
//!
//! The model knows of each message what was promised, and of each group what it acknowledged. It does not
//! know what a crash leaves of what was not durable: there either is right, and it goes on from what it sees.
#![allow(clippy::unwrap_used)]

mod queue_support;

use proptest::prelude::*;
use queue_support::*;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tidegate_queue::storage::{FaultyStorage, PowerLoss};
use tidegate_queue::*;

const GROUPS: [&str; 2] = ["a", "b"];
const QUEUES: u32 = 4;
const LEASE_MS: u64 = 1_000;

#[derive(Debug, Clone)]
enum Op {
    /// Into which queue, due and dead after so many ms.
    Append {
        queue: u32,
        delay_ms: Option<u64>,
        life_ms: Option<u64>,
        wait: bool,
    },
    Receive {
        group: usize,
        max: usize,
    },
    Ack {
        group: usize,
        pick: usize,
    },
    Nack {
        group: usize,
        pick: usize,
        delay_ms: Option<u64>,
    },
    Extend {
        group: usize,
        pick: usize,
    },
    Advance {
        ms: u64,
    },
    Reports {
        max: usize,
        settle: bool,
    },
    Checkpoint,
    Close,
    Crash {
        seed: u64,
        blocks: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let group = 0..GROUPS.len();
    prop_oneof![
        8 => (0..QUEUES, prop::option::weighted(0.2, 1..5_000u64), prop::option::weighted(0.3, 1..8_000u64), any::<bool>())
            .prop_map(|(queue, delay_ms, life_ms, wait)| Op::Append { queue, delay_ms, life_ms, wait }),
        6 => (group.clone(), 1..5usize).prop_map(|(group, max)| Op::Receive { group, max }),
        5 => (group.clone(), any::<usize>()).prop_map(|(group, pick)| Op::Ack { group, pick }),
        2 => (group.clone(), any::<usize>(), prop::option::of(0..2_000u64))
            .prop_map(|(group, pick, delay_ms)| Op::Nack { group, pick, delay_ms }),
        1 => (group, any::<usize>()).prop_map(|(group, pick)| Op::Extend { group, pick }),
        4 => (1..2_500u64).prop_map(|ms| Op::Advance { ms }),
        2 => (1..4usize, any::<bool>()).prop_map(|(max, settle)| Op::Reports { max, settle }),
        2 => Just(Op::Checkpoint),
        1 => Just(Op::Close),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, blocks)| Op::Crash { seed, blocks }),
    ]
}

/// What was promised of a message.
struct Promise {
    due_ms: u64,
    deadline_ms: u64,
    durable: bool,
    /// A crash took it, before it was durable.
    gone: bool,
}

#[derive(Default)]
struct GroupModel {
    /// Acknowledged or settled reports, and those of them that are in a checkpoint.
    done: HashSet<u32>,
    done_for_good: HashSet<u32>,
    /// Leases of this process, by message.
    leases: HashMap<u32, (Receipt, u64)>,
}

struct World {
    folder: Folder,
    storage: Arc<FaultyStorage>,
    queue: Option<Queue>,
    promises: Vec<Promise>,
    groups: [GroupModel; 2],
}

fn number(message: &Message) -> u32 {
    u32::from_le_bytes(message.body[..4].try_into().unwrap())
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let storage = folder.faulty();
        let queue = Some(folder.open_on(&storage));
        let world = Self { folder, storage, queue, promises: Vec::new(), groups: Default::default() };
        world.create_groups();
        world
    }

    fn queue(&self) -> &Queue {
        self.queue.as_ref().unwrap()
    }

    fn now_ms(&self) -> u64 {
        self.folder.clock.now_ms()
    }

    fn create_groups(&self) {
        for group in GROUPS {
            self.queue().put_group(TOPIC, group, StartFrom::First, None, None).unwrap();
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append { queue, delay_ms, life_ms, wait } => self.append(queue, delay_ms, life_ms, wait),
            Op::Receive { group, max } => drop(self.receive(group, max)),
            Op::Ack { group, pick } => {
                let Some((message, receipt, until_ms)) = self.pick(group, pick) else { return };
                let result = self.queue().ack(TOPIC, GROUPS[group], &[receipt]).remove(0);
                assert_eq!(result.is_ok(), self.now_ms() < until_ms, "an ack counts until the lease ends");
                self.groups[group].leases.remove(&message);
                if result.is_ok() {
                    assert!(self.groups[group].done.insert(message));
                }
            }
            Op::Nack { group, pick, delay_ms } => {
                let Some((message, receipt, until_ms)) = self.pick(group, pick) else { return };
                let result = self.queue().nack(TOPIC, GROUPS[group], &[receipt], delay_ms).remove(0);
                assert_eq!(result.is_ok(), self.now_ms() < until_ms);
                self.groups[group].leases.remove(&message);
            }
            Op::Extend { group, pick } => {
                let Some((message, receipt, until_ms)) = self.pick(group, pick) else { return };
                let result = self.queue().extend(TOPIC, GROUPS[group], &[receipt], LEASE_MS).remove(0);
                assert_eq!(result.is_ok(), self.now_ms() < until_ms);
                self.groups[group].leases.remove(&message);
                if let Ok(receipt) = result {
                    let until_ms = self.lease_end_ms(message);
                    self.groups[group].leases.insert(message, (receipt, until_ms));
                }
            }
            Op::Advance { ms } => {
                self.folder.clock.advance(ms);
                self.queue().tick();
            }
            Op::Reports { max, settle } => drop(self.reports(max, settle)),
            Op::Checkpoint => {
                self.queue().checkpoint().unwrap();
                self.checkpointed();
            }
            Op::Close => {
                self.queue().close().unwrap();
                self.checkpointed();
                self.all_durable();
                self.reopen();
            }
            Op::Crash { seed, blocks } => {
                self.storage.kill();
                // Nothing may read the maps of files that lose their tail.
                drop(self.queue.take());
                self.storage
                    .power_loss(seed, if blocks { PowerLoss::Blocks(512) } else { PowerLoss::Everything });
                for group in &mut self.groups {
                    group.done.clone_from(&group.done_for_good);
                }
                self.reopen();
                self.look_after_crash();
            }
        }
    }

    fn append(&mut self, queue: u32, delay_ms: Option<u64>, life_ms: Option<u64>, wait: bool) {
        let now_ms = self.now_ms();
        let (due_ms, deadline_ms) = (delay_ms.map(|ms| now_ms + ms), life_ms.map(|ms| now_ms + ms));
        let body = (self.promises.len() as u32).to_le_bytes();
        let queue = QueueChoice::Explicit(queue);
        let new = NewMessage {
            queue,
            deliver_at_ms: due_ms,
            deadline_ms,
            tag: "t",
            keys: &["k"],
            ..message(&body)
        };
        accept(self.queue(), &[new]);
        let (due_ms, deadline_ms) = (due_ms.unwrap_or(0), deadline_ms.unwrap_or(u64::MAX));
        self.promises.push(Promise { due_ms, deadline_ms, durable: false, gone: false });
        if wait {
            settle_down(self.queue());
            self.all_durable();
        }
    }

    fn all_durable(&mut self) {
        self.promises.iter_mut().for_each(|promise| promise.durable |= !promise.gone);
    }

    /// What was durable is there; of the rest, see what the crash has left.
    fn look_after_crash(&mut self) {
        let there: HashSet<u32> =
            self.queue().scan(Position(0)).map(|message| number(&message.unwrap())).collect();
        for (message, promise) in self.promises.iter_mut().enumerate() {
            let there = there.contains(&(message as u32));
            assert!(there || !promise.durable, "message {message} was durable and is lost");
            assert!(!(there && promise.gone), "message {message} came back");
            promise.durable = there;
            promise.gone = !there;
        }
    }

    fn lease_end_ms(&self, message: u32) -> u64 {
        (self.now_ms() + LEASE_MS).min(self.promises[message as usize].deadline_ms)
    }

    fn receive(&mut self, group: usize, max: usize) -> usize {
        let found = receive(self.queue(), GROUPS[group], max, LEASE_MS);
        assert!(found.len() <= max);
        let now_ms = self.now_ms();
        for delivery in &found {
            let message = number(&delivery.message);
            let promise = &self.promises[message as usize];
            assert!(now_ms >= promise.due_ms, "message {message} is early");
            assert!(now_ms < promise.deadline_ms, "message {message} is late");
            assert!(!self.groups[group].done.contains(&message), "message {message} was settled");
            let until_ms = self.lease_end_ms(message);
            let before = self.groups[group].leases.insert(message, (delivery.receipt.clone(), until_ms));
            assert!(before.is_none_or(|(_, until_ms)| until_ms <= now_ms), "message {message} is leased");
        }
        found.len()
    }

    fn reports(&mut self, max: usize, settle: bool) -> usize {
        let reports = self.queue().take_reports(max, None);
        for report in &reports {
            let message = number(&report.message);
            let group = GROUPS.iter().position(|group| *group == report.group).unwrap();
            assert!(!self.groups[group].done.contains(&message), "message {message} was settled");
            if report.kind == ReportKind::Dropped {
                assert!(self.now_ms() >= self.promises[message as usize].deadline_ms);
            }
            if settle {
                self.queue().settle(report);
                self.groups[group].done.insert(message);
            }
        }
        reports.len()
    }

    fn pick(&self, group: usize, pick: usize) -> Option<(u32, Receipt, u64)> {
        let leases = &self.groups[group].leases;
        let mut messages: Vec<_> = leases.keys().copied().collect();
        messages.sort_unstable();
        let message = *messages.get(pick % messages.len().max(1))?;
        let (receipt, until_ms) = leases[&message].clone();
        Some((message, receipt, until_ms))
    }

    fn checkpointed(&mut self) {
        for group in &mut self.groups {
            group.done_for_good.clone_from(&group.done);
        }
    }

    fn reopen(&mut self) {
        drop(self.queue.take());
        self.queue = Some(self.folder.open_on(&self.storage));
        self.create_groups();
        for (index, group) in GROUPS.iter().enumerate() {
            // A receipt of the last process is refused.
            if let Some((_, receipt, _)) = self.pick(index, 0) {
                assert!(self.queue().ack(TOPIC, group, &[receipt])[0].is_err());
            }
            self.groups[index].leases.clear();
        }
    }

    /// Works everything off; then every message that was known to be durable is accounted for in each group.
    fn drain(&mut self) {
        self.folder.clock.advance(20_000);
        let mut idle = 0;
        for _ in 0..10_000 {
            self.queue().tick();
            settle_down(self.queue());
            let mut work = self.reports(100, true);
            for (group, name) in GROUPS.iter().enumerate() {
                work += self.receive(group, 100);
                while let Some((message, receipt, until_ms)) = self.pick(group, 0) {
                    if self.now_ms() < until_ms {
                        assert_eq!(self.queue().ack(TOPIC, name, &[receipt]), [Ok(())]);
                        self.groups[group].done.insert(message);
                    }
                    self.groups[group].leases.remove(&message);
                }
            }
            self.folder.clock.advance(1_000);
            idle = if work == 0 { idle + 1 } else { 0 };
            if idle > 10 {
                break;
            }
        }
        for group in &self.groups {
            for (message, promise) in self.promises.iter().enumerate() {
                assert!(
                    !promise.durable || group.done.contains(&(message as u32)),
                    "message {message} is lost"
                );
            }
        }
        self.check_figures();
    }

    fn check_figures(&self) {
        let mut places: HashMap<(u32, u64), u32> = HashMap::new();
        let mut seen: HashSet<u32> = HashSet::new();
        let mut ends: HashMap<u32, u64> = HashMap::new();
        for message in self.queue().scan(Position(0)).map(Result::unwrap) {
            // A delayed record has no offset of its own; the record that delivers it has.
            let delayed = message.times.deliver_at_ms.is_some_and(|at_ms| at_ms > message.times.born_at_ms);
            if !delayed {
                assert!(seen.insert(number(&message)), "message {} is delivered twice", number(&message));
                let end = ends.entry(message.queue).or_default();
                assert_eq!(message.offset, *end, "offsets are dense");
                *end += 1;
                places.insert((message.queue, message.offset), number(&message));
            }
        }
        for group in GROUPS {
            let stats = group_stats(self.queue(), group);
            assert_eq!((stats.backlog, stats.leased), (0, 0));
            for queue in &stats.queues {
                assert_eq!(queue.end, ends.get(&queue.queue).copied().unwrap_or(0));
                assert_eq!(queue.floor, queue.end);
                for &(start, end) in &queue.dropped {
                    for offset in start..end {
                        let message = places[&(queue.queue, offset)];
                        assert!(self.promises[message as usize].deadline_ms < u64::MAX);
                    }
                }
            }
        }
        assert_eq!(self.queue().delayed(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_keeps_its_promises(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.drain();
    }
}
