//! The arrival plan: when each buyer first presses the button. Made ahead of any answer, by seed alone.
//!
//! Lazy: an iterator in order of time, without memory per buyer. Each buyer gets a slot of the arrival
//! window and a seeded place in it, so arrivals are irregular but never bunch up by chance alone.

use crate::clock::Micros;
use crate::scenario::{Buyers, Shape};
use crate::seeded::{Seed, Stream};

/// One buyer's first press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at_us: Micros,
    pub(crate) buyer: u32,
}

/// How a buyer behaves on arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persona {
    /// One key, one press.
    Plain,
    /// One key, pressed twice at once.
    PressesTwice,
    /// Two keys at once, hoping for two tickets.
    Cheats,
}

/// The arrivals of one generator thread: every `threads`-th buyer, in order of time.
pub(crate) fn arrivals(
    buyers: &Buyers,
    seed: Seed,
    thread: u32,
    threads: u32,
) -> impl Iterator<Item = Arrival> + use<> {
    let (count, shape) = (buyers.count, buyers.shape);
    let window_us = buyers.arrive_within_ms as f64 * 1_000.0;
    (thread..count).step_by(threads as usize).map(move |buyer| {
        let place = seed.unit(Stream::Arrival, buyer.into());
        let even = (f64::from(buyer) + place) / f64::from(count);
        let share = match shape {
            Shape::Even => even,
            // Monotone, so the order stays; density falls as 1/√t.
            Shape::Spike => even * even,
        };
        Arrival { at_us: (share * window_us) as Micros, buyer }
    })
}

/// The persona of a buyer, by seed.
pub(crate) fn persona(buyers: &Buyers, seed: Seed, buyer: u32) -> Persona {
    let place = seed.unit(Stream::Persona, buyer.into());
    if place < buyers.press_twice_share {
        Persona::PressesTwice
    } else if place < buyers.press_twice_share + buyers.cheat_share {
        Persona::Cheats
    } else {
        Persona::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_buyer_arrives_once_in_order_within_the_window() {
        let buyers = Scenario::load("demo").unwrap().buyers;
        let mut seen = vec![false; buyers.count as usize];
        for thread in 0..3 {
            let mut last_us = 0;
            for arrival in arrivals(&buyers, Seed(5), thread, 3) {
                assert!(arrival.at_us >= last_us && arrival.at_us < buyers.arrive_within_ms * 1_000);
                last_us = arrival.at_us;
                assert!(!std::mem::replace(&mut seen[arrival.buyer as usize], true));
            }
        }
        assert!(seen.into_iter().all(|arrived| arrived));
    }

    #[test]
    fn a_spike_is_densest_at_the_start() {
        let buyers = Scenario::load("demo").unwrap().buyers;
        let first_half =
            arrivals(&buyers, Seed(5), 0, 1).filter(|a| a.at_us < buyers.arrive_within_ms * 500).count();
        assert!(first_half > buyers.count as usize * 6 / 10);
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let buyers = Scenario::load("demo").unwrap().buyers;
        let plan = |seed| arrivals(&buyers, Seed(seed), 0, 1).take(100).collect::<Vec<_>>();
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }
}
