//! The gate and its meter against simulated workers, by a virtual clock: what `overload.toml` asks of the real ones, in
//! milliseconds and for many seeds and shapes of workers.

use super::backlog::Load;
use super::judge::{Judged, WaitSettings, judge};
use super::meter::Meter;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub(super) const SETTINGS: WaitSettings = WaitSettings { enabled: true, margin: 3.0, unmeasured_max: 1_000 };

/// What is simulated. Times in seconds.
#[derive(Debug, Clone, Copy)]
struct Shop {
    seed: u64,
    /// Orders handled at once, all workers together.
    hands: u64,
    /// Orders each hand has in stock besides the one it works on.
    prefetch: u64,
    /// What an order costs a hand, by time; infinite: workers stand.
    service_s: fn(f64) -> f64,
    /// Chance spreads that as an exponential; else it is always the same.
    exponential: bool,
    /// Orders offered a second …
    offered_per_s: f64,
    /// … and the share of them that comes, by time.
    coming: fn(f64) -> f64,
    deadline_s: f64,
    until_s: f64,
    /// Orders acknowledged in one go.
    lot: usize,
    gate: bool,
}

impl Default for Shop {
    fn default() -> Self {
        Self {
            seed: 1,
            hands: 10,
            prefetch: 1,
            service_s: |_| 0.05,
            exponential: true,
            offered_per_s: 2_000.0,
            coming: |_| 1.0,
            deadline_s: 3.0,
            until_s: 30.0,
            lot: 1,
            gate: true,
        }
    }
}

/// One admitted order.
#[derive(Debug, Clone, Copy)]
struct Fate {
    admitted_s: f64,
    deadline_s: f64,
    created: bool,
}

#[derive(Debug, Default)]
struct Run {
    fates: Vec<Fate>,
    /// Work of hands, from and to.
    work: Vec<(f64, f64)>,
    /// What the refused were told.
    retry_after: Vec<Duration>,
}

impl Run {
    /// Orders dropped at their deadlines in `[from_s, to_s)`.
    fn dropped(&self, from_s: f64, to_s: f64) -> usize {
        self.fates
            .iter()
            .filter(|f| !f.created && (from_s..to_s).contains(&(f.admitted_s + f.deadline_s)))
            .count()
    }

    fn admitted(&self, from_s: f64, to_s: f64) -> usize {
        self.fates.iter().filter(|f| (from_s..to_s).contains(&f.admitted_s)).count()
    }

    /// Share of the hands' time in `[from_s, to_s)` that was work.
    fn busy(&self, hands: u64, from_s: f64, to_s: f64) -> f64 {
        let worked: f64 = self.work.iter().map(|&(a, b)| (b.min(to_s) - a.max(from_s)).max(0.0)).sum();
        worked / ((to_s - from_s) * hands as f64)
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrival,
    /// A hand is done with this order.
    Done(usize),
}

fn run(shop: Shop) -> Run {
    let mut random = SmallRng::seed_from_u64(shop.seed);
    let mut draw = move |mean: f64| -> f64 { -mean * f64::ln(1.0 - random.random::<f64>()) };
    let start = Instant::now();
    let at = |s: f64| start + Duration::from_secs_f64(s);
    let meter = Meter::new(start);
    let mut run = Run::default();
    // By time in ns, then by number, so that a run is the same each time.
    let mut events: BTreeMap<(u64, u64), Event> = BTreeMap::new();
    let mut number = 0;
    let mut plan = |events: &mut BTreeMap<(u64, u64), Event>, s: f64, event| {
        number += 1;
        if s.is_finite() {
            events.insert(((s * 1e9) as u64, number), event);
        }
    };
    let mut queue: VecDeque<usize> = VecDeque::new();
    let (mut working, mut stock): (u64, VecDeque<usize>) = (0, VecDeque::new());
    let mut to_ack = 0_u64;
    plan(&mut events, 0.0, Event::Arrival);
    while let Some(((ns, _), event)) = events.pop_first() {
        let now_s = ns as f64 / 1e9;
        if now_s > shop.until_s {
            break;
        }
        // What is late is dropped, wherever it waits.
        let late = |order: &usize| now_s - run.fates[*order].admitted_s >= shop.deadline_s;
        while queue.front().is_some_and(late) {
            queue.pop_front();
        }
        stock.retain(|order| !late(order));
        match event {
            Event::Arrival => {
                plan(&mut events, now_s + draw(1.0 / shop.offered_per_s), Event::Arrival);
                // An exponential is above -ln(share) with this probability.
                if draw(1.0) < -f64::ln((shop.coming)(now_s)) {
                    continue;
                }
                let leased = working + stock.len() as u64 + to_ack;
                let all = queue.len() as u64 + leased;
                meter.set_busy(all > 0, at(now_s));
                let stands = !(shop.service_s)(now_s).is_finite();
                let asking = if stands {
                    0
                } else {
                    shop.hands * (1 + shop.prefetch) - leased.min(shop.hands * (1 + shop.prefetch))
                };
                let load = Load { own: all, all, sharing: 1, leased, receivers: asking.min(4) };
                let rate = meter.rate(at(now_s));
                let deadline = Duration::from_secs_f64(shop.deadline_s);
                match judge(&SETTINGS, &load, rate.as_ref(), deadline) {
                    Judged::TooLong(after) if shop.gate => {
                        run.retry_after.push(after);
                    }
                    _ => {
                        queue.push_back(run.fates.len());
                        run.fates.push(Fate {
                            admitted_s: now_s,
                            deadline_s: shop.deadline_s,
                            created: false,
                        });
                        meter.set_busy(true, at(now_s));
                    }
                }
            }
            Event::Done(order) => {
                working -= 1;
                if now_s - run.fates[order].admitted_s < shop.deadline_s {
                    run.fates[order].created = true;
                    to_ack += 1;
                }
                if to_ack as usize >= shop.lot || queue.is_empty() {
                    meter.observe(to_ack, at(now_s));
                    to_ack = 0;
                }
            }
        }
        // Hands that are free take what they have in stock, then what the gateway has.
        let mean = (shop.service_s)(now_s);
        if mean.is_finite() {
            while working < shop.hands {
                let Some(order) = stock.pop_front().or_else(|| queue.pop_front()) else { break };
                working += 1;
                let takes = if shop.exponential { draw(mean) } else { mean };
                run.work.push((now_s, now_s + takes));
                plan(&mut events, now_s + takes, Event::Done(order));
            }
            while stock.len() < (shop.hands * shop.prefetch) as usize {
                let Some(order) = queue.pop_front() else { break };
                stock.push_back(order);
            }
        }
        meter.set_busy(queue.len() + stock.len() + (working + to_ack) as usize > 0, at(now_s));
    }
    run
}

/// The scenario's change.
fn halving(at_s: f64) -> f64 {
    if at_s < 15.0 { 0.05 } else { 0.1 }
}

#[test]
fn in_steady_overload_nothing_admitted_is_dropped_and_workers_are_busy() {
    for seed in 1..=20 {
        let run = run(Shop { seed, service_s: halving, ..Shop::default() });
        assert_eq!((run.dropped(5.0, 15.0), run.dropped(20.0, 30.0)), (0, 0), "seed {seed}");
        let (before, after) = (run.busy(10, 5.0, 15.0), run.busy(10, 20.0, 30.0));
        assert!(before > 0.99 && after > 0.99, "seed {seed}: {before} {after}");
        // A change cannot be known before it comes; it costs no more than what was admitted before it.
        assert!(run.dropped(0.0, 5.0) == 0 && run.dropped(15.0, 20.0) < 250, "seed {seed}");
    }
}

/// The simulation is able to fail: without the gate nearly everything is dropped.
#[test]
fn without_the_gate_orders_are_dropped() {
    let run = run(Shop { gate: false, ..Shop::default() });
    assert!(run.dropped(5.0, 15.0) > 10_000, "{}", run.dropped(5.0, 15.0));
}

/// Few slow orders, many quick ones, always the same time, in lots, with a long deadline.
#[test]
fn it_holds_for_workers_of_any_shape() {
    let shapes: [(&str, Shop); 5] = [
        ("slow", Shop { hands: 4, service_s: |_| 0.2, offered_per_s: 200.0, ..Shop::default() }),
        ("quick", Shop { hands: 10, service_s: |_| 0.01, offered_per_s: 5_000.0, ..Shop::default() }),
        ("constant", Shop { exponential: false, ..Shop::default() }),
        ("lots", Shop { hands: 40, service_s: |_| 0.2, lot: 20, ..Shop::default() }),
        (
            "long",
            Shop {
                hands: 2,
                service_s: |_| 0.5,
                offered_per_s: 40.0,
                deadline_s: 30.0,
                until_s: 240.0,
                ..Shop::default()
            },
        ),
    ];
    for (name, shape) in shapes {
        for seed in 1..=5 {
            let run = run(Shop { seed, ..shape });
            // Where a handful of hands needs a fifteenth of the deadline for one order, chance beats any margin at times.
            let (dropped, admitted) = (run.dropped(5.0, shape.until_s), run.admitted(0.0, shape.until_s));
            assert!(dropped * 100 <= admitted, "{name}, seed {seed}: {dropped} of {admitted} dropped");
            let busy = run.busy(shape.hands, 5.0, shape.until_s);
            assert!(busy > 0.99, "{name}, seed {seed}: busy {busy}");
        }
    }
}

/// Failure mode 53: neither a lull nor an outage of the workers leaves admission low.
#[test]
fn fm53_after_a_lull_and_after_an_outage_workers_are_busy_again_within_seconds() {
    for seed in 1..=10 {
        let lull = |s: f64| if (10.0..20.0).contains(&s) { 0.001 } else { 1.0 };
        let quiet = run(Shop { seed, coming: lull, ..Shop::default() });
        assert_eq!(quiet.dropped(5.0, 30.0), 0, "seed {seed}");
        let (first, later) = (quiet.busy(10, 20.0, 21.0), quiet.busy(10, 21.0, 30.0));
        assert!(first > 0.9 && later > 0.99, "seed {seed}: {first} {later}");

        let outage = |s: f64| if (10.0..20.0).contains(&s) { f64::INFINITY } else { 0.05 };
        let stood = run(Shop { seed, service_s: outage, ..Shop::default() });
        // Enough to notice that workers are back, no more.
        let let_in = stood.admitted(12.0, 20.0);
        assert!((1..60).contains(&let_in), "seed {seed}: {let_in} let in while workers stood");
        assert_eq!(stood.dropped(23.0, 30.0), 0, "seed {seed}");
        let busy = stood.busy(10, 21.0, 30.0);
        assert!(busy > 0.99, "seed {seed}: {busy}");
    }
}

/// What a buyer is told is when there would be room, if nobody came meanwhile: never longer than the deadline, after
/// which whatever is before an order is gone.
#[test]
fn retry_after_is_never_longer_than_the_deadline() {
    let outage = |s: f64| if s > 10.0 { f64::INFINITY } else { 0.05 };
    let run = run(Shop { service_s: outage, until_s: 20.0, ..Shop::default() });
    let longest = run.retry_after.iter().max().unwrap();
    assert!(*longest <= Duration::from_secs(3) && *longest > Duration::from_secs(2), "{longest:?}");
    assert!(run.retry_after.iter().all(|after| !after.is_zero()));
}
