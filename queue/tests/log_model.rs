//! The log against a model, a list of batches, through appends, crashes, power losses and reopens.
#![allow(clippy::unwrap_used)]

mod log_support;

use log_support::*;
use proptest::prelude::*;
use tidegate_queue::log::CommitLog;
use tidegate_queue::storage::{FaultyStorage, PowerLoss};

#[derive(Debug, Clone)]
enum Step {
    /// A batch of so many records; waited for or not.
    Append(u64, bool),
    Close,
    Kill,
    PowerLoss(u64, u8),
    Reserve(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1_u64..6, any::<bool>()).prop_map(|(count, wait)| Step::Append(count, wait)),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => (any::<u64>(), 0_u8..3).prop_map(|(seed, mode)| Step::PowerLoss(seed, mode)),
        1 => (0..3 * SEGMENT).prop_map(Step::Reserve),
    ]
}

/// What must be, and what may be in the log.
#[derive(Default)]
struct Model {
    /// Ends of batches, as counts of records.
    batch_ends: Vec<u64>,
    appended: u64,
    acked: u64,
}

impl Model {
    /// After a reopen: a whole number of batches, all that were acknowledged, nothing else.
    fn reopened(&mut self, log: &CommitLog) {
        let seen = numbers(log);
        let count = seen.len() as u64;
        assert!(seen.iter().copied().eq(0..count), "{seen:?}");
        assert!((self.acked..=self.appended).contains(&count), "{} {count} {}", self.acked, self.appended);
        assert!(count == 0 || self.batch_ends.contains(&count), "{count}: half a batch");
        self.batch_ends.retain(|end| *end <= count);
        (self.appended, self.acked) = (count, count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_is_what_was_appended_through_reopens(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let storage = FaultyStorage::new(dir.path());
        let mut log = open(storage.as_storage()).unwrap();
        let mut model = Model::default();
        for step in steps {
            let reopen = match step {
                Step::Append(count, wait) => {
                    let batch: Vec<_> = (model.appended..model.appended + count).collect();
                    let end = append(&log, &batch).unwrap();
                    model.appended += count;
                    model.batch_ends.push(model.appended);
                    if wait {
                        log.wait_durable(end).unwrap();
                        model.acked = model.appended;
                        let seen = numbers(&log);
                        prop_assert_eq!(seen.len() as u64, model.appended);
                    }
                    false
                }
                Step::Close => {
                    log.close().unwrap();
                    model.acked = model.appended;
                    true
                }
                Step::Kill => {
                    storage.kill();
                    true
                }
                Step::PowerLoss(seed, mode) => {
                    let mode = [PowerLoss::Everything, PowerLoss::Blocks(512), PowerLoss::Blocks(4096)][mode as usize];
                    storage.power_loss(seed, mode);
                    true
                }
                Step::Reserve(bytes) => {
                    log.set_reserve(bytes);
                    false
                }
            };
            if reopen {
                drop(log);
                log = open(storage.as_storage()).unwrap();
                model.reopened(&log);
            }
        }
    }
}
