//! Who is next: a FIFO for each sale, and between sales start-time fair queueing (Goyal, Vin, Cheng 1996).
//!
//! Each sale has a virtual time, which one of its tokens moves on by `1 / weight`; the sale that is furthest behind is
//! next. Of two sales that both have somebody waiting, over any time, neither gets more than its weight's share of what both get, but for one
//! token of each. A sale that nobody waits for stands at the present virtual time when it comes back: it has saved up
//! nothing and its share went to the others.
//!
//! Bounded by whoever puts in; memory is given back when nobody waits.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Virtual time of one token at weight 1. Weights go up to a million.
const STRIDE: u128 = 1 << 40;
/// Sales without waiters that are remembered; beyond it the settled ones are looked for and forgotten.
const IDLE_MAX: usize = 64;

/// See the module. `T` is what waits.
#[derive(Debug)]
pub(super) struct Fair<T> {
    by_name: HashMap<Arc<str>, usize, RandomState>,
    sales: Slab<Sale<T>>,
    /// Sales that somebody waits for, by virtual time.
    ready: BTreeSet<(u128, usize)>,
    /// Virtual time at which the newest token began.
    now: u128,
    /// Sum of the weights of `ready`.
    weight: u64,
    len: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Sale<T> {
    name: Arc<str>,
    /// Virtual time at which its next token begins.
    begins: u128,
    weight: u32,
    waiting: BTreeMap<u64, T>,
}

/// Where something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    sale: usize,
    id: u64,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            by_name: HashMap::default(),
            sales: Slab::new(),
            ready: BTreeSet::new(),
            now: 0,
            weight: 0,
            len: 0,
            next_id: 0,
        }
    }
}

impl<T> Fair<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tokens that go to others before a newcomer of this sale gets its own, if nobody else comes. Never more than wait now.
    pub(super) fn ahead(&self, sale: &str, weight: u32) -> f64 {
        let (waiting, old_weight) = match self.by_name.get(sale).map(|at| &self.sales[*at]) {
            Some(sale) if !sale.waiting.is_empty() => (sale.waiting.len(), sale.weight),
            _ => (0, 0),
        };
        let weight = u64::from(weight.max(1));
        let all = self.weight - u64::from(old_weight) + weight;
        (waiting as f64 * all as f64 / weight as f64).min(self.len as f64)
    }

    /// Last of its sale. The newest weight counts.
    pub(super) fn push(&mut self, name: &Arc<str>, weight: u32, waiter: T) -> Place {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => self.insert(name),
        };
        let id = self.next_id;
        self.next_id += 1;
        let sale = &mut self.sales[index];
        if sale.waiting.is_empty() {
            sale.begins = sale.begins.max(self.now);
            self.ready.insert((sale.begins, index));
        } else {
            self.weight -= u64::from(sale.weight);
        }
        sale.weight = weight.max(1);
        self.weight += u64::from(sale.weight);
        sale.waiting.insert(id, waiter);
        self.len += 1;
        Place { sale: index, id }
    }

    /// Who is next; it no longer waits.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (begins, index) = self.ready.pop_first()?;
        let sale = &mut self.sales[index];
        let (_, waiter) = sale.waiting.pop_first()?;
        self.len -= 1;
        self.now = begins;
        sale.begins = begins + STRIDE / u128::from(sale.weight);
        if sale.waiting.is_empty() {
            self.weight -= u64::from(sale.weight);
            self.rest();
        } else {
            self.ready.insert((sale.begins, index));
        }
        Some(waiter)
    }

    /// Takes one out that does not want to wait any longer; `None`: it no longer waits.
    pub(super) fn remove(&mut self, place: Place) -> Option<T> {
        // The sale's number may be another's by now; the waiter's is nobody else's.
        let sale = self.sales.get_mut(place.sale)?;
        let waiter = sale.waiting.remove(&place.id)?;
        self.len -= 1;
        if sale.waiting.is_empty() {
            self.weight -= u64::from(sale.weight);
            self.ready.remove(&(sale.begins, place.sale));
            self.rest();
        }
        Some(waiter)
    }

    fn insert(&mut self, name: &Arc<str>) -> usize {
        if self.sales.len() >= self.ready.len() + IDLE_MAX {
            let now = self.now;
            self.by_name.retain(|_, index| {
                let sale = &self.sales[*index];
                let keep = !sale.waiting.is_empty() || sale.begins > now;
                if !keep {
                    self.sales.remove(*index);
                }
                keep
            });
        }
        let sale = Sale { name: name.clone(), begins: self.now, weight: 1, waiting: BTreeMap::new() };
        let index = self.sales.insert(sale);
        self.by_name.insert(self.sales[index].name.clone(), index);
        index
    }

    /// When nobody waits, everybody has got what they asked for: there is nothing to remember.
    fn rest(&mut self) {
        if self.len == 0 {
            self.by_name.clear();
            self.sales.clear();
            self.now = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|sale| Arc::from(format!("sale-{sale}"))).collect()
    }

    /// The hot sale has thousands who wait; the small one asks for one at a time.
    #[test]
    fn fm25_a_hot_sale_does_not_starve_the_others() {
        let names = names(2);
        let mut fair = Fair::default();
        for _ in 0..10_000 {
            fair.push(&names[0], 1, 0);
        }
        for _ in 0..100 {
            fair.push(&names[1], 1, 1);
            let next_two = [fair.pop().unwrap(), fair.pop().unwrap()];
            assert!(next_two.contains(&1), "{next_two:?}");
        }
    }

    #[test]
    fn a_sale_that_asks_for_one_at_a_time_gets_no_more_than_its_share() {
        let names = names(2);
        let mut fair = Fair::default();
        for _ in 0..1_000 {
            fair.push(&names[0], 9, 0);
        }
        fair.push(&names[1], 1, 1);
        let mut small = 0;
        for _ in 0..500 {
            if fair.pop() == Some(1) {
                small += 1;
                fair.push(&names[1], 1, 1);
            }
        }
        assert!((49..=52).contains(&small), "{small} of 500 at a tenth of the weight");
    }

    #[test]
    fn who_goes_away_is_passed_over_and_leaves_nothing() {
        let names = names(2);
        let mut fair = Fair::default();
        let first = fair.push(&names[0], 1, 1);
        let second = fair.push(&names[0], 1, 2);
        fair.push(&names[1], 1, 3);
        assert_eq!(fair.remove(first), Some(1));
        assert_eq!(fair.remove(first), None);
        assert_eq!(fair.pop(), Some(2));
        assert_eq!(fair.remove(second), None);
        assert_eq!((fair.pop(), fair.pop(), fair.len(), fair.weight), (Some(3), None, 0, 0));
        assert!(fair.sales.is_empty() && fair.by_name.is_empty() && fair.ready.is_empty());
    }

    #[test]
    fn sales_that_nobody_waits_for_are_forgotten() {
        let names = names(10_000);
        let mut fair = Fair::default();
        fair.push(&names[0], 1, 0);
        for name in &names[1..] {
            fair.push(&names[0], 1, 0);
            fair.push(&names[0], 1, 0);
            fair.push(name, 1, 0);
            fair.pop();
            fair.pop();
        }
        assert!(fair.sales.len() <= IDLE_MAX + 2, "{}", fair.sales.len());
    }

    proptest! {
        /// Random arrivals, departures and tokens: FIFO in a sale, nobody lost, and between any two sales that both
        /// have waiters all the time, the shares follow the weights.
        #[test]
        fn shares_follow_the_weights_and_a_sale_is_first_in_first_out(
            weights in proptest::collection::vec(1_u32..50, 2..6),
            steps in proptest::collection::vec((0_usize..8, 0_u8..4), 50..800),
        ) {
            let names = names(weights.len());
            let mut fair = Fair::default();
            let mut waiting: Vec<Vec<(u64, Place)>> = vec![Vec::new(); weights.len()];
            let mut count = 0_u64;
            // Of each pair: tokens of both since both have had waiters without a break.
            let mut since = vec![vec![(0_f64, 0_f64); weights.len()]; weights.len()];
            for (sale, what) in steps {
                let sale = sale % weights.len();
                match what {
                    0 | 1 => {
                        for _ in 0..=what {
                            let place = fair.push(&names[sale], weights[sale], (sale, count));
                            waiting[sale].push((count, place));
                            count += 1;
                        }
                    }
                    2 => {
                        if let Some((number, place)) = waiting[sale].pop() {
                            prop_assert_eq!(fair.remove(place), Some((sale, number)));
                        }
                    }
                    _ => match fair.pop() {
                        Some((served, number)) => {
                            prop_assert_eq!(waiting[served].remove(0).0, number, "first in, first out");
                            since[served].iter_mut().for_each(|pair| pair.0 += 1.0);
                            for pairs in &mut since {
                                pairs[served].1 += 1.0;
                            }
                        }
                        None => prop_assert!(waiting.iter().all(Vec::is_empty), "nobody waits: work conserving"),
                    },
                }
                prop_assert_eq!(fair.len(), waiting.iter().map(Vec::len).sum::<usize>());
                for a in 0..weights.len() {
                    for b in 0..weights.len() {
                        if waiting[a].is_empty() || waiting[b].is_empty() {
                            since[a][b] = (0.0, 0.0);
                            continue;
                        }
                        let (own, theirs) = since[a][b];
                        let (wa, wb) = (f64::from(weights[a]), f64::from(weights[b]));
                        let apart = (own / wa - theirs / wb).abs();
                        prop_assert!(apart <= 1.0 / wa + 1.0 / wb + 1e-6, "{own} of {wa}, {theirs} of {wb}");
                    }
                }
            }
        }
    }
}
