//! The books: what the processes were told, in the order in which they wrote it; what may not be is found here.

use crate::worker::ACK_SYNC_MS;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};
use tidegate_queue::log::{LogReader, RecordKind};

/// Above `ack_sync_ms`: a checkpoint takes its turn for the disk and for the processor, on a busy machine too.
const ACK_SLACK: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Books {
    appended: HashSet<String>,
    due_ms: HashMap<String, u64>,
    begun: HashSet<String>,
    committed: HashSet<String>,
    undone: HashSet<String>,
    sequence: u64,
    places: HashMap<String, (u32, u64)>,
    ids: HashMap<(u32, u64), String>,
    acks: HashMap<String, Ack>,
    /// Acknowledged so far, when the checkpoint that is being made began.
    checkpointing: Option<usize>,
    acked: Vec<String>,
    process: u64,
    kills: Vec<Instant>,
    /// Where the log began, at each start.
    begins: Vec<u64>,
    deleted: u64,
    redelivered: u64,
    oldest: Duration,
    errors: Vec<String>,
    other: Vec<String>,
}

struct Ack {
    process: u64,
    attempt: u32,
    at: Instant,
    checkpointed: bool,
}

impl Books {
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The log's beginning moved from one start to another.
    pub(crate) fn deleted(&self) -> bool {
        self.begins.last() > self.begins.first() && self.deleted > 0
    }

    pub(crate) fn said(&self) -> String {
        self.other.join("\n")
    }

    pub(crate) fn killed(&mut self, at: Instant) {
        self.kills.push(at);
        self.process += 1;
        self.checkpointing = None;
        // What no checkpoint was told to hold may come again.
        self.acked.clear();
    }

    pub(crate) fn line(&mut self, at: Instant, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["@appended", id] => drop(self.appended.insert(id.into())),
            ["@due", id, at_ms] => drop(self.due_ms.insert(id.into(), at_ms.parse().unwrap())),
            ["@begins", position] => self.begins.push(position.parse().unwrap()),
            ["@deleted", count] => self.deleted += count.parse::<u64>().unwrap(),
            ["@begun", id] => drop(self.begun.insert(id.into())),
            ["@committed", id] => drop(self.committed.insert(id.into())),
            ["@undone", id] => drop(self.undone.insert(id.into())),
            ["@numbered", sequence] => self.sequence = self.sequence.max(sequence.parse().unwrap()),
            ["@checkpointing"] => self.checkpointing = Some(self.acked.len()),
            ["@checkpointed"] => {
                let below = self.checkpointing.take().unwrap();
                for id in self.acked.drain(..below) {
                    self.acks.get_mut(&id).unwrap().checkpointed = true;
                }
            }
            ["@got", id, queue, offset, now_ms, attempt] => {
                let place = (queue.parse().unwrap(), offset.parse().unwrap());
                self.got(id, place, now_ms.parse().unwrap(), attempt.parse().unwrap());
            }
            ["@acked", id, attempt] => {
                let (process, attempt) = (self.process, attempt.parse().unwrap());
                self.acks.insert(id.into(), Ack { process, attempt, at, checkpointed: false });
                self.acked.push(id.into());
            }
            _ => self.other.push(line.into()),
        }
    }

    fn got(&mut self, id: &str, place: (u32, u64), now_ms: u64, attempt: u32) {
        if self.due_ms.get(id).is_some_and(|&due_ms| now_ms < due_ms) {
            self.errors.push(format!("{id} came at {now_ms}, before its time {}", self.due_ms[id]));
        }
        let first = *self.places.entry(id.into()).or_insert(place);
        if first != place {
            self.errors.push(format!("{id} is in its topic twice, at {first:?} and {place:?}"));
        }
        let there = self.ids.entry(place).or_insert_with(|| id.into());
        if there != id {
            self.errors.push(format!("{place:?} is {there} and {id}"));
        }
        let Some(ack) = self.acks.get(id) else { return };
        if ack.process == self.process {
            if attempt > ack.attempt {
                self.errors.push(format!("{id} was acknowledged and came again in the same process"));
            }
            return;
        }
        if ack.checkpointed {
            self.errors.push(format!("{id} came again although a checkpoint held its acknowledgement"));
        }
        let age = self.kills[ack.process as usize].saturating_duration_since(ack.at);
        self.redelivered += 1;
        self.oldest = self.oldest.max(age);
        if age > Duration::from_millis(ACK_SYNC_MS) + ACK_SLACK {
            self.errors.push(format!("{id} came again, acknowledged {age:?} before the kill"));
        }
    }

    /// After everything that is owed was delivered.
    pub(crate) fn check(&self, seed: u64) {
        assert!(self.errors.is_empty(), "seed {seed}: {:#?}\n{}", self.errors, self.said());
        let came = |id: &&String| !self.places.contains_key(*id);
        let lost: Vec<_> = self.appended.iter().chain(&self.committed).filter(came).collect();
        assert!(lost.is_empty(), "seed {seed}: acknowledged and lost: {lost:?}");
        let both: Vec<_> = self.undone.iter().filter(|id| self.places.contains_key(*id)).collect();
        assert!(both.is_empty(), "seed {seed}: rolled back and delivered: {both:?}");
        assert!(self.committed.is_disjoint(&self.undone), "seed {seed}: told both ways");
        for queue in 0..4 {
            let mut offsets: Vec<_> = self.ids.keys().filter(|at| at.0 == queue).map(|at| at.1).collect();
            offsets.sort_unstable();
            assert!(
                offsets.iter().copied().eq(0..offsets.len() as u64),
                "seed {seed}: a hole in queue {queue}"
            );
        }
    }

    /// The same held against the log's own records: each identity once, no half message decided twice.
    pub(crate) fn check_log(&self, dir: &Path) {
        let reader = LogReader::open(dir).unwrap();
        assert!(reader.report().is_sound() && reader.report().clean, "{}", reader.report());
        let mut times: HashMap<String, u32> = HashMap::new();
        let mut decided = HashSet::new();
        let mut halves = HashMap::new();
        for record in reader.records().map(Result::unwrap) {
            let view = record.view();
            let id = String::from_utf8_lossy(view.body).split(' ').next().unwrap().to_owned();
            match view.kind {
                RecordKind::Message => {
                    *times.entry(id).or_default() += 1;
                    if let Some(origin) = view.origin {
                        assert!(decided.insert(origin), "{origin} is delivered or decided twice");
                    }
                }
                RecordKind::Half => drop(halves.insert(view.position, id)),
                RecordKind::Control if view.tag == "rollback" => {
                    let origin = view.origin.unwrap();
                    assert!(decided.insert(origin), "{origin} is rolled back and decided");
                    assert!(!self.committed.contains(&halves[&origin]), "{} is undone", halves[&origin]);
                }
                RecordKind::Control | RecordKind::Delayed => {}
            }
        }
        let twice: Vec<_> = times.iter().filter(|&(_, &times)| times > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        let owed = self.appended.iter().chain(&self.committed);
        let lost: Vec<_> = owed.filter(|id| !times.contains_key(*id)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills: {} appends acknowledged ({} delayed, {} numbered), {} transactions begun, {} committed, {} \
             rolled back; {} messages acknowledged, {} of them came again, the oldest {:?} before its kill; the log begins at {}, {} segments told deleted",
            self.kills.len(),
            self.appended.len(),
            self.due_ms.len(),
            self.sequence,
            self.begun.len(),
            self.committed.len(),
            self.undone.len(),
            self.acks.len(),
            self.redelivered,
            self.oldest,
            self.begins.last().copied().unwrap_or(0),
            self.deleted
        )
    }
}
