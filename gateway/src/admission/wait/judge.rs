//! The decision, as arithmetic: no state, no clock. docs/admission.md tells it in words.

use super::backlog::Load;
use super::meter::Rate;
use std::time::Duration;

/// What an operator fixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitSettings {
    /// The gate decides at all.
    pub enabled: bool,
    /// Standard deviations of the projected wait that are kept in reserve.
    pub margin: f64,
    /// Orders let in before the first is acknowledged, and beside a rate that is long silent while workers ask for work.
    pub unmeasured_max: u64,
}

/// Times the mean time that an order is in workers' hands, kept for its own: one in three thousand takes longer when
/// these times are spread as chance has it.
const HANDLING: f64 = 8.0;
/// Of the deadline, kept in reserve at most: there must be something for workers to take next.
const RESERVE_MAX: f64 = 0.7;
/// … for an order that a worker waits for: its handling is all that it needs.
const RESERVE_MAX_AT_ONCE: f64 = 0.5;
/// A rate that has seen no order for so long, with orders to be settled, says little of workers that ask for work.
const SILENT: Duration = Duration::from_secs(1);

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Judged {
    Admitted,
    /// Worth asking again after this time, if no others came meanwhile.
    TooLong(Duration),
}

/// Until an order that is admitted now is created.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Projected {
    pub(super) wait_s: f64,
    pub(super) margin_s: f64,
}

/// Orders that are served up to and with one behind `own` others of its queue: the queues take turns, so as many of
/// each other queue go before it as of its own.
fn turns(load: &Load) -> f64 {
    ((load.own + 1) * load.sharing.max(1)) as f64
}

/// See docs/admission.md.
pub(super) fn project(settings: &WaitSettings, load: &Load, rate: &Rate, deadline_s: f64) -> Projected {
    let waiting = load.all.saturating_sub(load.leased);
    // A worker that waits for an order takes it at once: what is before it is in other hands.
    let at_once = load.receivers > waiting;
    let (orders, reserve_max) =
        if at_once { (load.leased.max(1) as f64, RESERVE_MAX_AT_ONCE) } else { (turns(load), RESERVE_MAX) };
    let wait_s = orders / rate.per_s;
    // Chance in how fast these orders will be settled, and in the rate itself.
    let chance = (orders * rate.spread + orders * orders * rate.spread / rate.orders.max(1.0)).sqrt();
    let handling_s = load.leased as f64 / rate.per_s;
    let margin_s = settings.margin * chance / rate.per_s + HANDLING * handling_s;
    Projected { wait_s, margin_s: margin_s.min(reserve_max * deadline_s) }
}

/// Judges an order that would meet `load`.
pub(super) fn judge(settings: &WaitSettings, load: &Load, rate: Option<&Rate>, deadline: Duration) -> Judged {
    let deadline_s = deadline.as_secs_f64();
    // Nobody is before it: refused now it would do no better later, and it shows whether workers are back.
    if load.all == 0 {
        return Judged::Admitted;
    }
    let Some(rate) = rate else {
        return if load.all < settings.unmeasured_max { Judged::Admitted } else { Judged::TooLong(deadline) };
    };
    let projected = project(settings, load, rate, deadline_s);
    let over_s = projected.wait_s + projected.margin_s - deadline_s;
    if over_s < 0.0 {
        return Judged::Admitted;
    }
    let waiting = load.all.saturating_sub(load.leased);
    if rate.silent >= SILENT && load.receivers > waiting && load.all < settings.unmeasured_max {
        return Judged::Admitted;
    }
    // One order takes 1/rate to leave; after the deadline whatever is before it has left, one way or the other.
    let one_s = load.sharing.max(1) as f64 / rate.per_s;
    Judged::TooLong(Duration::from_secs_f64(over_s.max(one_s).min(deadline_s).max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::super::sim::SETTINGS;
    use super::*;

    const RATE: Rate = Rate { per_s: 100.0, orders: 100.0, spread: 1.0, silent: Duration::ZERO };

    fn load(own: u64, all: u64, sharing: u64) -> Load {
        Load { own, all, sharing, leased: 10, receivers: 0 }
    }

    fn admits(load: Load, rate: Rate, deadline_s: u64) -> bool {
        judge(&SETTINGS, &load, Some(&rate), Duration::from_secs(deadline_s)) == Judged::Admitted
    }

    #[test]
    fn each_sale_is_judged_by_its_own_deadline() {
        assert!(!admits(load(400, 400, 1), RATE, 3));
        assert!(admits(load(400, 400, 1), RATE, 30));
    }

    #[test]
    fn queues_take_turns_so_each_of_them_gets_its_share_of_the_rate() {
        assert!(admits(load(100, 100, 1), RATE, 3));
        assert!(!admits(load(100, 200, 2), RATE, 3), "every other order is of the other queue");
        assert!(admits(load(0, 400, 2), RATE, 3), "it need not wait for all that the other queue has");
    }

    #[test]
    fn more_chance_asks_for_more_reserve() {
        let margin = |rate: Rate| project(&SETTINGS, &load(500, 500, 1), &rate, 1_000.0).margin_s;
        let even = margin(RATE);
        assert!(margin(Rate { spread: 20.0, ..RATE }) > 2.0 * even, "orders that are settled in lots");
        assert!(margin(Rate { orders: 10.0, ..RATE }) > 1.5 * even, "a rate that few orders show");
        let idle = Load { leased: 0, ..load(500, 500, 1) };
        assert!(project(&SETTINGS, &idle, &RATE, 1_000.0).margin_s < even);
    }

    #[test]
    fn a_worker_that_waits_for_an_order_gets_one() {
        // Ten hands of a second each, one of them at work.
        let slow = Rate { per_s: 1.0, ..RATE };
        let one = Load { own: 1, all: 1, sharing: 1, leased: 1, receivers: 0 };
        assert!(!admits(one, slow, 3));
        assert!(admits(Load { receivers: 1, ..one }, slow, 3));
        // Workers that take whatever they get and do not keep up with it.
        let hoard = Load { own: 500, all: 500, sharing: 1, leased: 500, receivers: 1 };
        assert!(!admits(hoard, RATE, 3));
    }

    #[test]
    fn workers_that_come_back_are_tried() {
        let silent = Rate { per_s: 0.001, orders: 48.0, spread: 1.0, silent: Duration::from_mins(1) };
        let stuck = Load { own: 20, all: 20, sharing: 1, leased: 20, receivers: 0 };
        assert!(!admits(stuck, silent, 3), "nobody asks for work");
        assert!(admits(Load { receivers: 2, ..stuck }, silent, 3), "somebody does");
        assert!(admits(Load::default(), silent, 3), "nobody is before it");
    }

    #[test]
    fn retry_after_is_the_time_until_there_is_room() {
        let deadline = Duration::from_secs(3);
        let Judged::TooLong(after) = judge(&SETTINGS, &load(600, 600, 1), Some(&RATE), deadline) else {
            panic!("600 orders take six seconds");
        };
        let later = load(600 - (after.as_secs_f64() * 100.0).ceil() as u64, 600, 1);
        assert!(admits(later, RATE, 3) || after == deadline, "{after:?}");
        let unknown = load(SETTINGS.unmeasured_max, SETTINGS.unmeasured_max, 1);
        assert_eq!(judge(&SETTINGS, &unknown, None, deadline), Judged::TooLong(deadline));
    }
}
