//! Gates 1 and 2: is the sale known, is its window open, is it sold out. Memory only.

use super::tokens::Budget;
use super::winners::Winners;
use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate_stock::{Epoch, SaleSpec, SaleSwitch, SaleView, Window};

/// What the gateway keeps of one sale for its first gates.
#[derive(Debug)]
pub struct SaleGate {
    /// Name.
    pub sale: Arc<str>,
    rules: ArcSwap<Rules>,
    flag: SoldOutFlag,
    /// A shared ledger is being made whole: nobody may sell.
    paused: AtomicBool,
    /// Who has won here.
    pub winners: Winners,
    /// How many orders may be under way.
    pub(crate) budget: Budget,
}

/// What an operator fixed for the sale.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Item, window, limits.
    pub spec: SaleSpec,
    /// Opened or closed by hand.
    pub switch: SaleSwitch,
}

impl Rules {
    fn of(view: &SaleView) -> Self {
        Self { spec: view.spec.clone(), switch: view.switch }
    }
}

impl SaleGate {
    fn new(view: &SaleView) -> Self {
        let gate = Self {
            sale: view.sale.clone(),
            rules: ArcSwap::from_pointee(Rules::of(view)),
            flag: SoldOutFlag::default(),
            paused: AtomicBool::new(false),
            winners: Winners::default(),
            budget: Budget::default(),
        };
        gate.update(view);
        gate
    }

    /// Takes over rules and epoch from the ledger.
    pub fn update(&self, view: &SaleView) {
        self.rules.store(Arc::new(Rules::of(view)));
        self.refresh(view.stock.available, view.epoch);
    }

    /// Lifts the flag when the ledger has units under a newer epoch.
    pub fn refresh(&self, available: u64, epoch: Epoch) {
        self.budget.set_left(available);
        if available > 0 {
            self.flag.reopen(epoch);
        }
    }

    /// Whether the gate goes by what the ledger says.
    pub fn agrees(&self, view: &SaleView) -> bool {
        let rules = self.rules.load();
        rules.switch == view.switch && rules.spec == view.spec
    }

    /// What an operator fixed.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Whether an order needs a purchase pass.
    pub fn requires_pass(&self) -> bool {
        self.rules.load().spec.requires_pass
    }

    /// Share of the token queue.
    pub fn weight(&self) -> u32 {
        self.rules.load().spec.weight
    }

    /// An order must be created within so long.
    pub fn order_deadline(&self) -> Duration {
        Duration::from_millis(self.rules.load().spec.order_deadline_ms)
    }

    /// When it opens by itself, Unix ms.
    pub fn opens_at_ms(&self) -> Option<u64> {
        self.rules.load().spec.opens_at_ms
    }

    /// Gate 1. Asks for the time only when the window depends on it.
    pub fn window(&self, now_ms: impl FnOnce() -> u64) -> Window {
        let rules = self.rules.load();
        match rules.switch {
            SaleSwitch::Open if rules.spec.closes_at_ms.is_none() => Window::Open,
            switch => rules.spec.window(switch, now_ms()),
        }
    }

    /// Gate 2.
    pub fn is_sold_out(&self) -> bool {
        self.flag.is_set()
    }

    /// Whether orders must wait until the ledger is whole again.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Holds orders back, or lets them in again.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// The ledger answered "sold out" under this epoch.
    pub fn sold_out(&self, epoch: Epoch) {
        self.flag.set(epoch);
    }

    /// Units are available again since this epoch.
    pub fn reopen(&self, epoch: Epoch) {
        self.flag.reopen(epoch);
    }
}

/// The sold-out flag with the epoch it was set under: a late "sold out" of an older epoch cannot overwrite a newer
/// reopening (failure mode 10). Reading is one atomic load; changes are rare, and one after the other.
#[derive(Debug, Default)]
struct SoldOutFlag {
    set: AtomicBool,
    /// Newest change: within one epoch "set" wins over "not set".
    newest: Mutex<(Epoch, bool)>,
}

impl SoldOutFlag {
    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    fn set(&self, epoch: Epoch) {
        self.change((epoch, true));
    }

    /// A reopening always carries a counter above the epoch that the flag was set under.
    fn reopen(&self, epoch: Epoch) {
        self.change((epoch, false));
    }

    fn change(&self, change: (Epoch, bool)) {
        let mut newest = self.newest.lock();
        if change > *newest {
            *newest = change;
            self.set.store(change.1, Ordering::Release);
        }
    }
}

/// All sales of this gateway. Reading is one atomic load.
#[derive(Debug, Default)]
pub struct SaleGates {
    by_name: ArcSwap<HashMap<Arc<str>, Arc<SaleGate>, RandomState>>,
    /// Held from reading the ledger to changing the gate, so that of two changes the newer one stays.
    taking_over: Mutex<()>,
}

impl SaleGates {
    /// By name.
    pub fn find(&self, sale: &str) -> Option<Arc<SaleGate>> {
        self.by_name.load().get(sale).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<SaleGate>> {
        self.by_name.load().values().cloned().collect()
    }

    /// Reads a sale from the ledger and takes it over. Calls are one after the other.
    pub fn take_over(&self, read: impl FnOnce() -> Option<SaleView>) {
        let _turn = self.taking_over.lock();
        if let Some(view) = read() {
            self.put(&view);
        }
    }

    /// Adds a sale, or takes over what changed.
    pub fn put(&self, view: &SaleView) -> Arc<SaleGate> {
        loop {
            let present = self.by_name.load_full();
            if let Some(gate) = present.get(&view.sale) {
                gate.update(view);
                return gate.clone();
            }
            let mut next = (*present).clone();
            let gate = Arc::new(SaleGate::new(view));
            next.insert(view.sale.clone(), gate.clone());
            let seen = self.by_name.compare_and_swap(&present, Arc::new(next));
            if Arc::ptr_eq(&seen, &present) {
                return gate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(generation: u64, counter: u64) -> Epoch {
        Epoch { generation, counter }
    }

    #[test]
    fn fm10_a_late_sold_out_cannot_overwrite_a_newer_reopening() {
        let flag = SoldOutFlag::default();
        flag.set(epoch(1, 0));
        assert!(flag.is_set());
        flag.reopen(epoch(1, 1));
        assert!(!flag.is_set());
        flag.set(epoch(1, 0));
        assert!(!flag.is_set(), "the late answer of epoch 0 is ignored");
        flag.set(epoch(1, 1));
        assert!(flag.is_set(), "sold out again in the present epoch");
    }

    #[test]
    fn a_reopening_of_the_same_epoch_does_not_lift_the_flag() {
        let flag = SoldOutFlag::default();
        flag.set(epoch(2, 5));
        flag.reopen(epoch(2, 5));
        assert!(flag.is_set());
        flag.reopen(epoch(3, 0));
        assert!(!flag.is_set(), "a new generation is newer whatever its counter");
    }
}
