use super::*;
use crate::wire::QueueOffsets;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Offsets are drawn below this; small, so that ranges meet often.
const SPAN: u64 = 40;

fn range() -> impl Strategy<Value = Range> {
    (0..SPAN, 0..6_u64).prop_map(|(from, length)| (from, (from + length).min(SPAN)))
}

fn offsets_of(ranges: &[Range]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(from, to)| *from..*to).collect()
}

fn group(start: u64, end: u64, dropped: &[Range], dead: &[Range], skipped: &[Range]) -> GroupOffsets {
    GroupOffsets {
        topic: "orders".into(),
        group: "order-workers".into(),
        queues: vec![QueueOffsets {
            queue: 0,
            start,
            end,
            floor: end,
            dropped: dropped.to_vec(),
            dead: dead.to_vec(),
            skipped: skipped.to_vec(),
        }],
    }
}

proptest! {
    #[test]
    fn interval_set_equals_a_plain_set(ranges in prop::collection::vec(range(), 0..30), window in range()) {
        let mut set = IntervalSet::default();
        for range in &ranges {
            set.insert(*range);
        }
        let model = offsets_of(&ranges);
        for offset in 0..=SPAN {
            prop_assert_eq!(set.contains(offset), model.contains(&offset));
        }
        prop_assert_eq!(set.count(), model.len() as u64);
        let kept: Vec<_> = set.iter().collect();
        prop_assert!(kept.windows(2).all(|pair| pair[0].1 < pair[1].0), "ranges apart and ascending: {:?}", kept);
        let wanted: BTreeSet<_> = (window.0..window.1).collect();
        prop_assert_eq!(offsets_of(&set.within(window)), &wanted & &model);
        prop_assert_eq!(offsets_of(&set.holes(window)), &wanted - &model);
    }

    #[test]
    fn exactly_the_unexplained_offsets_are_reported(
        delivered in prop::collection::vec(0..SPAN, 0..40),
        dropped in prop::collection::vec(range(), 0..4),
        dead in prop::collection::vec(range(), 0..4),
        skipped in prop::collection::vec(range(), 0..4),
        bounds in (0..SPAN, 0..SPAN),
    ) {
        let (start, end) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
        let mut detector = LossDetector::default();
        for offset in &delivered {
            detector.delivered(0, *offset);
        }
        let report = detector.report(&group(start, end, &dropped, &dead, &skipped));
        let mut explained: BTreeSet<u64> = delivered.iter().copied().collect();
        for ranges in [&dropped, &dead, &skipped] {
            explained.extend(offsets_of(ranges));
        }
        let missing: BTreeSet<_> = (start..end).filter(|offset| !explained.contains(offset)).collect();
        let beyond: BTreeSet<_> = delivered.iter().copied().filter(|offset| *offset >= end).collect();
        let (got_missing, got_beyond) = report.queues.first().map_or_else(Default::default, |queue| {
            (offsets_of(&queue.unexplained), offsets_of(&queue.beyond_end))
        });
        prop_assert_eq!(got_missing, missing.clone());
        prop_assert_eq!(got_beyond, beyond.clone());
        prop_assert_eq!(report.holds(), missing.is_empty() && beyond.is_empty());
        prop_assert_eq!(report.unexplained(), missing.len() as u64);
        prop_assert_eq!(report.expected, end - start);
    }

    #[test]
    fn merged_detectors_equal_one_that_saw_all(parts in prop::collection::vec(prop::collection::vec((0..3_u32, 0..SPAN), 0..30), 1..5)) {
        let mut merged = LossDetector::default();
        let mut whole = LossDetector::default();
        for part in &parts {
            let mut one = LossDetector::default();
            for (queue, offset) in part {
                one.delivered(*queue, *offset);
                whole.delivered(*queue, *offset);
            }
            merged.merge(&one);
        }
        prop_assert_eq!(&merged.queues, &whole.queues);
        prop_assert_eq!(merged.seen(), whole.seen());
    }

    #[test]
    fn bound_on_ranges_holds_and_nothing_unseen_is_explained(delivered in prop::collection::vec(0..SPAN, 0..40), max in 1..6_usize) {
        let mut detector = LossDetector::new(max);
        for offset in &delivered {
            detector.delivered(0, *offset);
        }
        let seen: BTreeSet<_> = delivered.iter().copied().collect();
        if let Some(set) = detector.queues.get(&0) {
            prop_assert!(set.iter().count() <= max);
            prop_assert!(offsets_of(&set.iter().collect::<Vec<_>>()).is_subset(&seen));
        }
        let report = detector.report(&group(0, SPAN, &[], &[], &[]));
        prop_assert!(detector.seen() == seen.len() as u64 || report.saturated);
    }
}

#[test]
fn delivery_of_an_unknown_queue_is_not_swallowed() {
    let mut detector = LossDetector::default();
    detector.delivered(7, 3);
    let report = detector.report(&group(0, 0, &[], &[], &[]));
    assert_eq!(report.queues, [QueueLoss { queue: 7, unexplained: vec![], beyond_end: vec![(3, 4)] }]);
    assert!(!report.holds());
}
