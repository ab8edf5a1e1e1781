//! Admits an order, or says when to come back.

use super::drain::Drain;
use super::judge::{Judged, WaitSettings, judge, project};
use crate::admission::SaleGate;
use crate::http::Refusal;
use crate::state::{App, Live};
use std::time::{Duration, Instant};

/// Those who are refused come back over so long a time at least, not all at once.
const SPREAD_MIN: Duration = Duration::from_secs(1);

/// A wait that is longer is told as this.
const FOR_EVER_S: f64 = 1e9;

/// An admitted order on its way into the log: it counts for those who come after it. Dropped when it is in the log, or
/// is not coming.
#[derive(Debug)]
#[must_use = "an order that is not counted on its way lets a burst pass"]
pub struct Coming<'d>(Option<(&'d Drain, usize)>);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        if let Some((drain, queue)) = self.0 {
            drain.came(queue);
        }
    }
}

/// Gate 8 for an order of this sale. It counts as on its way until the answer is dropped.
pub(crate) fn pass<'a>(app: &'a App, live: &Live, sale: &SaleGate) -> Result<Coming<'a>, Refusal> {
    let admitted = app.drain.admit(&live.config.wait, &sale.sale, sale.order_deadline(), Instant::now());
    admitted.map_err(Refusal::Overloaded)
}

impl Drain {
    /// Gate 8: is an order of `sale` that is admitted at `now` created within `deadline`? The error is when to ask
    /// again. Reads and writes a few atomics; decided anew for every order.
    pub fn admit(
        &self,
        settings: &WaitSettings,
        sale: &str,
        deadline: Duration,
        now: Instant,
    ) -> Result<Coming<'_>, Duration> {
        if !settings.enabled {
            return Ok(Coming(None));
        }
        let queue = self.queue_of(sale);
        // Counted first: of several that come at one instant each meets the others.
        self.come(queue);
        let coming = Coming(Some((self, queue)));
        let mut load = self.load(queue);
        load.own = load.own.saturating_sub(1);
        load.all = load.all.saturating_sub(1);
        match judge(settings, &load, self.rate(now).as_ref(), deadline) {
            Judged::Admitted => Ok(coming),
            Judged::TooLong(wait) => Err(spread(wait)),
        }
    }

    /// What the gate goes by now. `None` before the first acknowledgement.
    pub fn figures(&self, settings: &WaitSettings, now: Instant) -> Option<WaitFigures> {
        let rate = self.rate(now)?;
        let load = (0..self.queues()).map(|queue| self.load(queue)).max_by_key(|load| load.own)?;
        let projected = project(settings, &load, &rate, f64::INFINITY);
        let finite = |s: f64| s.min(FOR_EVER_S);
        Some(WaitFigures {
            rate_per_s: rate.per_s,
            wait_s: finite(projected.wait_s),
            margin_s: finite(projected.margin_s),
        })
    }
}

/// What the gate goes by, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitFigures {
    /// Orders settled a second.
    pub rate_per_s: f64,
    /// Until an order of the longest queue that is admitted now is created.
    pub wait_s: f64,
    /// Kept in reserve on top, if the deadline allows.
    pub margin_s: f64,
}

/// Not before `wait`, and not all at the same time.
fn spread(wait: Duration) -> Duration {
    wait + wait.max(SPREAD_MIN).mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::super::sim::SETTINGS;
    use super::*;
    use std::sync::Arc;
    use tidegate_queue::GroupLoad;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn drain(now: Instant) -> Drain {
        Drain::new(Arc::new(GroupLoad::default()), &[0; 4], now)
    }

    #[test]
    fn before_the_first_acknowledgement_a_number_is_admitted_whatever_comes_at_once() {
        let now = Instant::now();
        let drain = drain(now);
        let held: Vec<_> =
            (0..5_000).filter_map(|_| drain.admit(&SETTINGS, "sale", DEADLINE, now).ok()).collect();
        assert_eq!(held.len() as u64, SETTINGS.unmeasured_max);
        drop(held);
        assert!(
            drain.admit(&SETTINGS, "sale", DEADLINE, now).is_ok(),
            "those that did not come do not count"
        );
    }

    #[test]
    fn a_burst_at_one_instant_does_not_overshoot() {
        let start = Instant::now();
        let drain = drain(start);
        for order in 0..200_u64 {
            drain.accepted(0, order, start);
        }
        let now = start + Duration::from_secs(1);
        drain.observe(100, now);
        // 100 a second, and 200 before: in three seconds no more than 300 are served.
        let three = Duration::from_secs(3);
        let admitted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let admit = |_| drain.admit(&SETTINGS, "sale", three, now).ok();
                        (0..500).filter_map(admit).map(std::mem::forget).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert!(admitted < 100, "{admitted}");
        assert!(drain.admit(&SETTINGS, "sale", DEADLINE, now).is_ok(), "another sale's deadline is its own");
    }

    #[test]
    fn those_who_are_refused_do_not_come_back_together() {
        let waits: Vec<Duration> = (0..1_000).map(|_| spread(Duration::from_millis(20))).collect();
        assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(20)));
        for part in 0..10_u32 {
            let (from, to) = (SPREAD_MIN * part / 10, SPREAD_MIN * (part + 1) / 10);
            let count = waits.iter().filter(|wait| **wait >= from && **wait < to).count();
            assert!(count > 40, "{part}: {count}");
        }
    }

    #[test]
    fn a_gate_that_is_off_admits_and_counts_nothing() {
        let now = Instant::now();
        let drain = drain(now);
        let off = WaitSettings { enabled: false, ..SETTINGS };
        let held: Vec<_> = (0..5_000).filter_map(|_| drain.admit(&off, "sale", DEADLINE, now).ok()).collect();
        assert_eq!(held.len(), 5_000);
        assert_eq!(drain.load(0).all, 0);
    }
}
