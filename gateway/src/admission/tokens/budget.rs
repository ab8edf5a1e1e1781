//! The budget of a sale: with few units left, few orders are let on their way to them.
//!
//! At most `tokens_per_unit` orders for each unit that is left are between gate 9 and the ledger's answer; the others are
//! refused at once, and take no token that another sale could use. What is left is looked at again and again, so units that
//! come back bring their tokens with them.
//!
//! It cannot get stuck: an order counts only while it is on its way, and that ends, because every wait on it is bounded; and
//! as long as the sale is not sold out, one unit at least counts as left, however old the last look is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one sale.
#[derive(Debug)]
pub(crate) struct Budget {
    under_way: AtomicU64,
    left: AtomicU64,
}

/// An order under way. Dropped, it no longer is.
#[derive(Debug)]
#[must_use]
pub(crate) struct UnderWay<'b>(Option<&'b Budget>);

impl Default for Budget {
    /// Nobody has looked yet: everybody may pass.
    fn default() -> Self {
        Self { under_way: AtomicU64::new(0), left: AtomicU64::new(u64::MAX) }
    }
}

impl Budget {
    /// Units that may be reserved, as of just now.
    pub(crate) fn set_left(&self, units: u64) {
        self.left.store(units, Ordering::Relaxed);
    }

    /// One more order, unless there are as many as may be. `tokens_per_unit` 0: no budget.
    pub(crate) fn enter(&self, tokens_per_unit: u32) -> Option<UnderWay<'_>> {
        if tokens_per_unit == 0 {
            return Some(UnderWay(None));
        }
        let left = self.left.load(Ordering::Relaxed).max(1);
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let order = UnderWay(Some(self));
        (before < left.saturating_mul(tokens_per_unit.into())).then_some(order)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.0 {
            budget.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fm09_units_that_come_back_bring_their_tokens() {
        let budget = Budget::default();
        budget.set_left(2);
        let orders: Vec<_> = (0..6).map(|_| budget.enter(3).unwrap()).collect();
        assert!(budget.enter(3).is_none());
        budget.set_left(0);
        drop(orders);
        budget.set_left(1);
        let again: Vec<_> = (0..10).filter_map(|_| budget.enter(3)).collect();
        assert_eq!(again.len(), 3);
    }

    #[test]
    fn fm08_a_look_that_is_too_old_lets_one_units_orders_pass_all_the_same() {
        let budget = Budget::default();
        budget.set_left(0);
        for _ in 0..100 {
            assert!(budget.enter(1).is_some(), "one after the other");
        }
        let _under_way = budget.enter(1).unwrap();
        assert!(budget.enter(1).is_none(), "not two at once");
    }

    #[test]
    fn no_budget_counts_nothing() {
        let budget = Budget::default();
        budget.set_left(0);
        let all: Vec<_> = (0..100).filter_map(|_| budget.enter(0)).collect();
        assert_eq!((all.len(), budget.under_way.load(Ordering::Relaxed)), (100, 0));
    }

    proptest! {
        /// Orders come and end in any order, looks tell anything: never more under way than the newest look allows, and when
        /// all have ended the next one passes.
        #[test]
        fn never_more_under_way_than_it_says_and_never_stuck(
            per_unit in 1_u32..5,
            steps in proptest::collection::vec((0_u8..4, 0_u64..6), 1..200),
        ) {
            let budget = Budget::default();
            let mut orders = Vec::new();
            let mut left = u64::MAX;
            for (what, number) in steps {
                match what {
                    0 => {
                        left = number;
                        budget.set_left(number);
                    }
                    1 => drop((!orders.is_empty()).then(|| orders.swap_remove(number as usize % orders.len()))),
                    _ => {
                        let most = left.max(1).saturating_mul(per_unit.into());
                        match budget.enter(per_unit) {
                            Some(order) => {
                                prop_assert!((orders.len() as u64) < most);
                                orders.push(order);
                            }
                            None => prop_assert!(orders.len() as u64 >= most),
                        }
                    }
                }
            }
            orders.clear();
            prop_assert!(budget.enter(per_unit).is_some());
        }
    }
}
