//! Shares with abusers and without.

use super::sound::sound;
use crate::evidence::{AbuseSeen, Units};
use crate::verdict::judge;

/// Whether the two invariants hold.
fn judged(seen: AbuseSeen) -> [bool; 2] {
    let mut evidence = sound();
    evidence.sale.stock = 100;
    evidence.abuse = Some(seen);
    let invariants = judge(&evidence);
    ["good_buyers_keep_their_share", "nat_keeps_its_share"]
        .map(|name| invariants.iter().find(|invariant| invariant.name == name).unwrap().holds)
}

const SEEN: AbuseSeen = AbuseSeen {
    units: Units { good: 95, nat: 18, abusers: 5 },
    without: Units { good: 100, nat: 20, abusers: 0 },
    contest: [100, 900],
};

#[test]
fn a_loss_within_the_bounds_holds_and_beyond_them_does_not() {
    assert_eq!(judged(SEEN), [true, true]);
    assert_eq!(judged(AbuseSeen { units: Units { good: 94, ..SEEN.units }, ..SEEN }), [false, true]);
    assert_eq!(judged(AbuseSeen { units: Units { nat: 16, ..SEEN.units }, ..SEEN }), [true, false]);
}

#[test]
fn a_run_that_tried_nothing_proves_nothing() {
    assert_eq!(judged(AbuseSeen { contest: [101, 899], ..SEEN }), [false, true]);
    assert_eq!(judged(AbuseSeen { without: Units { good: 99, ..SEEN.without }, ..SEEN }), [false, true]);
}
