//! The progress of one queue, and its way through the checkpoint.

use super::checkpoint::{self, Loaded};
use super::progress::{Fate, GivenBack, NO_DEADLINE, OUTSTANDING_MAX, Progress, RANGES_MAX, TrackState};
use crate::ReportKind;
use crate::storage::DiskStorage;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn lease_next(progress: &mut Progress, end: u64, number: u32, until_ms: u64) -> Option<u64> {
    let offset = progress.peek_ready().or_else(|| progress.peek_new(end))?;
    progress.lease(offset, number, until_ms, NO_DEADLINE);
    Some(offset)
}

#[test]
fn what_is_outstanding_is_bounded_and_room_comes_back() {
    let end = 3 * OUTSTANDING_MAX as u64;
    let mut progress = Progress::new(0);
    let mut leased = 0;
    while progress.has_room() {
        lease_next(&mut progress, end, 1, 100).unwrap();
        leased += 1;
    }
    assert_eq!(leased, OUTSTANDING_MAX);
    // Every second one settled is as many ranges: no room is won until neighbours join.
    (1..leased as u64).step_by(2).for_each(|offset| progress.settle(offset, Fate::Acked));
    assert!(!progress.has_room());
    progress.settle(0, Fate::Acked);
    assert!(progress.has_room());
}

#[test]
fn ranges_for_loss_detection_are_bounded_and_say_when_some_were_forgotten() {
    let mut progress = Progress::new(0);
    for offset in 0..4 * RANGES_MAX as u64 {
        let fate = if offset % 2 == 0 { Fate::Skipped } else { Fate::Acked };
        progress.settle(offset, fate);
    }
    let stats = progress.stats(0, 4 * RANGES_MAX as u64);
    assert!(stats.truncated);
    assert_eq!(stats.skipped.len(), RANGES_MAX);
    assert_eq!(stats.skipped.last(), Some(&(4 * RANGES_MAX as u64 - 2, 4 * RANGES_MAX as u64 - 1)));
    assert_eq!(stats.floor, 4 * RANGES_MAX as u64);
}

#[test]
fn a_reset_forward_skips_only_what_was_open_and_stops_at_unsettled_reports() {
    let mut progress = Progress::new(0);
    assert!(progress.drop_late(2));
    progress.settle(0, Fate::Acked);
    progress.reset(5);
    let stats = progress.stats(0, 9);
    assert_eq!((&stats.skipped[..], stats.floor), (&[(1, 2), (3, 5)][..], 2));
    assert_eq!(progress.peek_new(9), Some(5));
    assert_eq!(progress.take_report(0), Some((ReportKind::Dropped, 2)));
    progress.settle_drop(2);
    assert_eq!((progress.stats(0, 9).floor, progress.backlog(9)), (5, 4));
    progress.reset(1);
    assert_eq!((progress.peek_new(9), progress.backlog(9)), (Some(1), 7));
    progress.settle(1, Fate::Acked);
    assert_eq!(progress.peek_new(9), Some(3), "what was dropped stays dropped");
}

#[test]
fn a_recovered_end_below_the_checkpoint_takes_back_what_lies_beyond() {
    let mut progress = Progress::new(0);
    while lease_next(&mut progress, 10, 1, 50).is_some() {}
    for offset in [0, 1, 4, 8] {
        progress.settle(offset, Fate::Acked);
    }
    progress.drop_late(9);
    progress.clamp(5);
    assert_eq!((progress.stats(0, 5).floor, progress.backlog(5)), (2, 2));
    assert_eq!((progress.leased(), progress.take_report(0)), (2, None));
    assert_eq!(progress.peek_new(7), Some(5), "new messages at those offsets are new");
    progress.clamp(1);
    assert_eq!((progress.stats(0, 1).floor, progress.peek_new(2)), (1, Some(1)));
}

#[test]
fn what_is_no_longer_kept_counts_as_skipped() {
    let mut progress = Progress::new(0);
    lease_next(&mut progress, 10, 1, 50);
    progress.settle(1, Fate::Acked);
    progress.drop_late(3);
    progress.drop_late(8);
    progress.raise(5);
    let stats = progress.stats(0, 10);
    assert_eq!((stats.floor, &stats.skipped[..]), (5, &[(0, 1), (2, 5)][..]));
    assert_eq!((progress.leased(), progress.peek_new(10), progress.backlog(10)), (0, Some(5), 4));
    assert_eq!(progress.take_report(0), Some((ReportKind::Dropped, 8)));
    assert_eq!(progress.take_report(0), None);
}

/// What one offset of the model went through.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Model {
    New,
    Leased { number: u32, until_ms: u64, attempt: u32 },
    Waiting { at_ms: u64, attempt: u32 },
    Reported,
    Settled,
}

proptest! {
    /// Against one state per offset, through the encoding of the checkpoint at any moment.
    #[test]
    fn progress_agrees_with_one_state_per_offset(
        ops in prop::collection::vec((0u8..8, 0u64..12, 1u64..40), 1..150),
    ) {
        const END: u64 = 12;
        const ATTEMPTS_MAX: u32 = 3;
        let mut progress = Progress::new(0);
        let mut model: BTreeMap<u64, Model> = (0..END).map(|offset| (offset, Model::New)).collect();
        let (mut now_ms, mut number) = (0, 0);
        for (op, offset, ms) in ops {
            let state = model[&offset];
            match op {
                0 | 1 => {
                    number += 1;
                    let expected_ready = model.iter().find(|(_, s)| matches!(s, Model::Waiting { at_ms, .. } if *at_ms <= now_ms));
                    let expected_new = model.iter().find(|(_, s)| **s == Model::New);
                    let expected = expected_ready.or(expected_new).map(|(&offset, _)| offset);
                    let leased = lease_next(&mut progress, END, number, now_ms + ms);
                    prop_assert_eq!(leased, expected);
                    if let Some(offset) = leased {
                        let attempt = if let Model::Waiting { attempt, .. } = model[&offset] { attempt + 1 } else { 1 };
                        model.insert(offset, Model::Leased { number, until_ms: now_ms + ms, attempt });
                    }
                }
                2 => if let Model::Leased { number, until_ms, attempt } = state {
                    let live = progress.live_lease(offset, number, now_ms);
                    prop_assert_eq!(live.map(|track| track.attempt), (now_ms < until_ms).then_some(attempt));
                    prop_assert_eq!(progress.live_lease(offset, number + 1, now_ms), None);
                    progress.settle(offset, Fate::Acked);
                    model.insert(offset, Model::Settled);
                } else {
                    prop_assert_eq!(progress.live_lease(offset, number, now_ms), None);
                },
                3 => if let Model::Leased { attempt, .. } = state {
                    let given = progress.give_back(offset, now_ms + ms, now_ms, ATTEMPTS_MAX);
                    let dead = attempt >= ATTEMPTS_MAX;
                    prop_assert_eq!(given == GivenBack::Dead, dead);
                    model.insert(offset, if dead { Model::Reported } else { Model::Waiting { at_ms: now_ms + ms, attempt } });
                },
                4 => {
                    let owed = !matches!(state, Model::Reported | Model::Settled);
                    prop_assert_eq!(progress.drop_late(offset), owed);
                    if owed { model.insert(offset, Model::Reported); }
                }
                5 => if let Some((kind, offset)) = progress.take_report(now_ms) {
                    prop_assert_eq!(model[&offset], Model::Reported);
                    match kind {
                        ReportKind::Dropped => progress.settle_drop(offset),
                        ReportKind::DeadLettered => progress.settle_dead(offset),
                    }
                    model.insert(offset, Model::Settled);
                },
                6 => {
                    now_ms += ms;
                    progress.promote(now_ms, ATTEMPTS_MAX, usize::MAX);
                    for state in model.values_mut() {
                        if let Model::Leased { until_ms, attempt, .. } = *state && until_ms <= now_ms {
                            *state = if attempt >= ATTEMPTS_MAX { Model::Reported } else { Model::Waiting { at_ms: now_ms, attempt } };
                        }
                    }
                }
                _ => {
                    progress = through_the_checkpoint(&progress);
                    progress.promote(now_ms, ATTEMPTS_MAX, usize::MAX);
                    for state in model.values_mut() {
                        if let Model::Leased { attempt, .. } = *state {
                            *state = Model::Waiting { at_ms: 0, attempt };
                        }
                    }
                }
            }
            let count = |want: fn(&Model) -> bool| model.values().filter(|state| want(state)).count() as u64;
            let open = count(|state| !matches!(state, Model::Settled | Model::Reported));
            prop_assert_eq!(progress.backlog(END), open);
            prop_assert_eq!(progress.leased() as u64, count(|state| matches!(state, Model::Leased { .. })));
            let floor = model.iter().find(|(_, s)| **s != Model::Settled).map_or(END, |(&offset, _)| offset);
            prop_assert_eq!(progress.stats(0, END).floor, floor);
            for (&offset, state) in &model {
                prop_assert_eq!(progress.is_done(offset), matches!(state, Model::Settled | Model::Reported));
            }
        }
    }
}

fn through_the_checkpoint(progress: &Progress) -> Progress {
    let mut body = checkpoint::begin(1);
    checkpoint::encode_group(&mut body, "orders", "workers", std::slice::from_ref(progress));
    let mut group = checkpoint::decode_body(&body).unwrap().remove(0);
    assert_eq!((&group.topic[..], &group.group[..]), ("orders", "workers"));
    let progress = group.queues.remove(0);
    assert!(progress.tracked.values().all(|track| !matches!(track.state, TrackState::Leased { .. })));
    progress
}

#[test]
fn a_checkpoint_is_read_back_for_its_own_log_only_and_the_one_before_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(dir.path()).unwrap();
    assert!(matches!(checkpoint::load(&storage, 42).unwrap(), Loaded::Nothing { refused: false }));
    for floor in 1..=3 {
        let mut body = checkpoint::begin(1);
        checkpoint::encode_group(&mut body, "orders", "workers", &[Progress::new(floor)]);
        checkpoint::store(&storage, &body, 42).unwrap();
    }
    assert!(matches!(checkpoint::load(&storage, 43).unwrap(), Loaded::Nothing { refused: true }));
    let floor = |groups: &[checkpoint::GroupProgress]| groups[0].queues[0].stats(0, 9).floor;
    assert!(matches!(checkpoint::load(&storage, 42).unwrap(), Loaded::Newest(groups) if floor(&groups) == 3));
    std::fs::remove_file(dir.path().join("groups/acks")).unwrap();
    assert!(matches!(checkpoint::load(&storage, 42).unwrap(), Loaded::Older(groups) if floor(&groups) == 2));
}
