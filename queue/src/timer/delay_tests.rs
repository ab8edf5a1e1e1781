use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const NOW_MS: u64 = 1_700_000_000_000;

fn pending(at_ms: u64, position: u64) -> Pending {
    Pending { at_ms, id: Position(position), position: Position(position), bytes: 100 }
}

fn pop_all(delays: &mut Delays, now_ms: u64) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| pop(delays, now_ms)).map(|due| (due.at_ms, due.id.0)).collect()
}

/// However many calls it takes.
fn pop(delays: &mut Delays, now_ms: u64) -> Option<Pending> {
    loop {
        let due = delays.pop_due(now_ms);
        let more = delays.due.is_empty() && delays.next_due_ms().is_some_and(|at_ms| at_ms <= now_ms);
        if due.is_some() || !(more || delays.wheel.is_turning() && now_ms >= delays.blocked_until_ms) {
            return due;
        }
    }
}

#[test]
fn to_the_millisecond_over_forty_days_and_over_any_jump() {
    let mut delays = Delays::default();
    let mut instants = BTreeSet::new();
    for step in 0..36 {
        // Around every edge of a slot.
        instants.extend([1 << step, (1 << step) - 1, (1 << step) + 1].map(|ahead| NOW_MS + ahead));
    }
    instants.insert(NOW_MS + 40 * DAY_MS);
    assert!(delays.pop_due(NOW_MS).is_none());
    for (position, &at_ms) in instants.iter().enumerate() {
        delays.add(at_ms, Position(position as u64), 100);
    }
    for &at_ms in &instants {
        assert_eq!(delays.pop_due(at_ms - 1), None);
        assert!(delays.next_due_ms().unwrap() <= at_ms);
        assert_eq!(delays.pop_due(at_ms).map(|due| due.at_ms), Some(at_ms));
    }
    assert_eq!((delays.len(), delays.bytes(), delays.next_due_ms()), (0, 0, None));
    assert_eq!(delays.held(), instants.len(), "taken ones are known until they are delivered");
    for position in 0..instants.len() as u64 {
        delays.delivered(Position(position));
    }
    assert_eq!((delays.held(), delays.iter().count(), delays.oldest_position()), (0, 0, None));
}

#[test]
fn late_ones_come_at_once_by_due_time_then_position() {
    let mut delays = Delays::default();
    for (at_ms, position) in [(50, 1), (20, 2), (20, 3), (u64::MAX, 4), (0, 5)] {
        delays.add(at_ms, Position(position), 100);
    }
    assert!(delays.pop_due(NOW_MS).is_some_and(|due| due.at_ms == 0));
    delays.add(10, Position(6), 100);
    assert_eq!(pop_all(&mut delays, NOW_MS), [(10, 6), (20, 2), (20, 3), (50, 1)]);
    assert_eq!(delays.len(), 1);
}

#[test]
fn a_clock_that_steps_back_is_waited_for() {
    let mut delays = Delays::default();
    delays.add(NOW_MS + 5, Position(1), 100);
    delays.add(NOW_MS + 5, Position(2), 100);
    assert!(delays.pop_due(NOW_MS + 5).is_some());
    assert_eq!(delays.pop_due(NOW_MS + 4), None);
    assert_eq!(delays.pop_due(NOW_MS - DAY_MS), None);
    delays.add(NOW_MS - 1, Position(3), 100);
    assert_eq!(pop_all(&mut delays, NOW_MS - 2), []);
    assert_eq!(pop_all(&mut delays, NOW_MS + 5), [(NOW_MS - 1, 3), (NOW_MS + 5, 2)]);
}

#[test]
fn what_the_log_refused_holds_all_back_and_what_is_at_fault_only_itself() {
    let mut delays = Delays::default();
    for position in 1..=3 {
        delays.add(10, Position(position), 100);
    }
    let first = delays.pop_due(10).unwrap();
    delays.postponed(first.id, 1_000);
    let second = delays.pop_due(10).unwrap();
    delays.refused(second.id, 200);
    assert_eq!((delays.len(), delays.bytes(), delays.next_due_ms()), (3, 300, Some(200)));
    assert_eq!(delays.pop_due(199), None);
    assert_eq!(pop_all(&mut delays, 200), [(10, 2), (10, 3)]);
    assert_eq!(pop_all(&mut delays, 1_000), [(1_000, 1)]);
}

#[test]
fn what_was_carried_stands_further_on_under_its_id() {
    let mut delays = Delays::default();
    for position in 1..=3 {
        delays.add(NOW_MS, Position(position), 100);
    }
    assert_eq!(delays.to_look_at(), Some((pending(NOW_MS, 1), true)));
    delays.looked_at(Position(2));
    delays.looked_at(Position(1));
    let carried = Pending { position: Position(10), ..pending(NOW_MS, 1) };
    delays.carried(carried);
    delays.carried(carried);
    assert_eq!(delays.oldest_position(), Some(Position(2)));
    assert_eq!(delays.iter().map(|pending| pending.position.0).collect::<Vec<_>>(), [2, 3, 10]);
    // Of this one the log has lost the first.
    delays.carried(Pending { position: Position(11), ..pending(NOW_MS, 0) });
    delays.delivered(Position(2));
    delays.delivered(Position(3));
    assert_eq!(delays.to_look_at(), Some((carried, true)), "it may be carried again");
    assert_eq!(pop_all(&mut delays, NOW_MS), [(NOW_MS, 0), (NOW_MS, 1)]);
    delays.delivered(Position(1));
    assert_eq!(delays.oldest_position(), Some(Position(11)));
}

#[test]
fn a_million_are_held_in_bounded_memory() {
    const MANY: u64 = 1_000_000;
    let mut delays = Delays::default();
    delays.pop_due(NOW_MS);
    for round in 0..3 {
        for number in 0..MANY {
            // Over forty days, in no order.
            let ahead = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (40 * DAY_MS) + 1;
            delays.add(NOW_MS + round * 41 * DAY_MS + ahead, Position(round * MANY + number), 100);
        }
        let bytes = delays.store.allocated() as u64;
        assert!(bytes <= 64 * MANY, "{} bytes each", bytes / MANY);
        assert_eq!((delays.len() as u64, delays.bytes()), (MANY, 100 * MANY));
        // A jump over days takes no longer than what it finds.
        let due = pop_all(&mut delays, NOW_MS + (round + 1) * 41 * DAY_MS);
        assert!(due.is_sorted() && due.len() as u64 == MANY);
        for &(_, id) in &due {
            delays.delivered(Position(id));
        }
        assert_eq!((delays.held(), delays.store.allocated()), (0, 0), "memory is given back");
    }
}

#[test]
fn forgotten_ones_leave_no_trace() {
    let mut delays = Delays::default();
    for number in 0..1_000_000u64 {
        delays.add(NOW_MS + number % 1_000, Position(number), 100);
        if number >= 10 {
            delays.delivered(Position(number - 10));
        }
    }
    assert_eq!(delays.held(), 10);
    assert!(delays.store.allocated() < 16 << 10, "{}", delays.store.allocated());
    assert_eq!(pop_all(&mut delays, NOW_MS + DAY_MS).len(), 10);
}

#[derive(Debug, Clone)]
enum Op {
    Add { at_ms: u64 },
    Deliver { pick: usize },
    Pop { now_ms: u64, impatient: bool },
    Refuse { until_ms: u64 },
    Postpone { until_ms: u64 },
    Carry { pick: usize },
    Look,
}

fn instant() -> impl Strategy<Value = u64> {
    // Near, at the edges of slots, far, and before the present.
    prop_oneof![
        4 => NOW_MS..NOW_MS + 200,
        3 => (0..36u32, 0..3u64).prop_map(|(step, off)| NOW_MS + (1 << step) + off - 1),
        2 => (0..36u32).prop_map(|step| NOW_MS >> step << step),
        1 => NOW_MS - 1_000..NOW_MS + 40 * DAY_MS,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => instant().prop_map(|at_ms| Op::Add { at_ms }),
        2 => any::<usize>().prop_map(|pick| Op::Deliver { pick }),
        5 => (instant(), any::<bool>()).prop_map(|(now_ms, impatient)| Op::Pop { now_ms, impatient }),
        1 => instant().prop_map(|until_ms| Op::Refuse { until_ms }),
        1 => instant().prop_map(|until_ms| Op::Postpone { until_ms }),
        1 => any::<usize>().prop_map(|pick| Op::Carry { pick }),
        1 => Just(Op::Look),
    ]
}

/// The same by a sorted map.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<(u64, u64), u64>,
    taken: BTreeMap<u64, (u64, u64)>,
    seen: BTreeSet<u64>,
    blocked_until_ms: u64,
}

impl Model {
    fn ids(&self) -> Vec<u64> {
        self.waiting.keys().map(|&(_, id)| id).chain(self.taken.keys().copied()).collect()
    }

    fn remove(&mut self, id: u64) {
        self.waiting.retain(|&(_, other), _| other != id);
        self.taken.remove(&id);
    }

    /// Position, id and instant of all, in the order of the log.
    fn all(&self) -> Vec<(u64, u64, u64)> {
        let waiting = self.waiting.iter().map(|(&(at_ms, id), &position)| (position, id, at_ms));
        let taken = self.taken.iter().map(|(&id, &(at_ms, position))| (position, id, at_ms));
        let mut all: Vec<_> = waiting.chain(taken).collect();
        all.sort_unstable();
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn the_wheel_does_what_a_sorted_map_does(ops in prop::collection::vec(op(), 1..200), turn_max in 1..5usize) {
        let (mut delays, mut model) = (Delays::default(), Model::default());
        // As if each op moved as many as fit.
        delays.wheel = Wheel::with_turn_max(turn_max);
        let mut position = 0;
        for op in ops {
            position += 1;
            match op {
                Op::Add { at_ms } => {
                    delays.add(at_ms, Position(position), 100);
                    model.waiting.insert((at_ms, position), position);
                }
                Op::Deliver { pick } => {
                    let ids = model.ids();
                    if let Some(&id) = ids.get(pick % ids.len().max(1)) {
                        delays.delivered(Position(id));
                        model.remove(id);
                    }
                }
                Op::Pop { now_ms, impatient } => {
                    let expected = model
                        .waiting
                        .first_key_value()
                        .map(|(&(at_ms, id), &position)| (at_ms, id, position))
                        .filter(|&(at_ms, ..)| at_ms <= now_ms && now_ms >= model.blocked_until_ms);
                    // It may be left off in between.
                    if impatient && let Some(due) = delays.pop_due(now_ms) {
                        delays.refused(due.id, model.blocked_until_ms);
                    }
                    let due = pop(&mut delays, now_ms);
                    prop_assert_eq!(due.map(|due| (due.at_ms, due.id.0, due.position.0)), expected);
                    if let Some((at_ms, id, position)) = expected {
                        model.waiting.remove(&(at_ms, id));
                        model.taken.insert(id, (at_ms, position));
                    }
                }
                Op::Refuse { until_ms } => {
                    if let Some((id, (at_ms, position))) = model.taken.pop_last() {
                        delays.refused(Position(id), until_ms);
                        model.waiting.insert((at_ms, id), position);
                        model.blocked_until_ms = until_ms;
                    }
                }
                Op::Postpone { until_ms } => {
                    if let Some((id, (_, position))) = model.taken.pop_first() {
                        delays.postponed(Position(id), until_ms);
                        model.waiting.insert((until_ms, id), position);
                    }
                }
                Op::Carry { pick } => {
                    let ids = model.ids();
                    let Some(&id) = ids.get(pick % ids.len().max(1)) else { continue };
                    delays.carried(Pending { id: Position(id), ..pending(0, position) });
                    model.waiting.iter_mut().filter(|((_, other), _)| *other == id).for_each(|(_, at)| *at = position);
                    model.taken.entry(id).and_modify(|(_, at)| *at = position);
                }
                Op::Look => {
                    let unseen = model.all().into_iter().find(|(position, ..)| !model.seen.contains(position));
                    prop_assert_eq!(delays.to_look_at().map(|(p, _)| p.position.0), unseen.map(|(position, ..)| position));
                    if let Some((position, ..)) = unseen {
                        delays.looked_at(Position(position));
                        model.seen.insert(position);
                    }
                }
            }
            let all: Vec<_> = delays.iter().map(|p| (p.position.0, p.id.0, p.at_ms)).collect();
            prop_assert_eq!(all, model.all());
            prop_assert_eq!(delays.len(), model.waiting.len());
            prop_assert_eq!(delays.held(), model.waiting.len() + model.taken.len());
            prop_assert_eq!(delays.bytes(), 100 * model.waiting.len() as u64);
            let first = model.waiting.first_key_value().map(|(&(at_ms, _), _)| at_ms.max(model.blocked_until_ms));
            match (delays.next_due_ms(), first) {
                (Some(look_ms), Some(due_ms)) => prop_assert!(look_ms <= due_ms),
                (None, first) => prop_assert_eq!(first, None),
                // What was forgotten while it was due is found out later.
                (Some(_), None) => {}
            }
        }
    }
}
