//! Seeded choices: the same seed gives the same buyers, payments and kill instants.
//!
//! A hash of (seed, stream, index) instead of a generator with state: each choice can be made where it is
//! needed, on any thread, in any order, without memory for 10⁵ buyers.

/// What a choice is for; choices of different streams are independent of each other.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Stream {
    Arrival = 1,
    Persona,
    ComesBack,
    Polls,
    Jitter,
    NeverPays,
    PayDelay,
    /// When a fault comes.
    Fault,
    /// Which gateway is turned to.
    Route,
    /// Who shares an address.
    Nat,
    /// How long an order takes.
    Processing,
}

/// A seed that answers any number of independent choices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// A hash, evenly spread over all of `u64`.
    pub(crate) fn hash(self, stream: Stream, index: u64) -> u64 {
        split_mix(split_mix(self.0 ^ split_mix(stream as u64)) ^ index)
    }

    /// A number in `[0, 1)`.
    pub(crate) fn unit(self, stream: Stream, index: u64) -> f64 {
        (self.hash(stream, index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `share`.
    pub(crate) fn chance(self, stream: Stream, index: u64, share: f64) -> bool {
        self.unit(stream, index) < share
    }
}

/// The finaliser of Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (OOPSLA 2014).
fn split_mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_met_and_streams_are_independent() {
        let seed = Seed(7);
        let hits = |stream| (0..10_000).filter(|&i| seed.chance(stream, i, 0.2)).count();
        assert!((1_850..2_150).contains(&hits(Stream::NeverPays)));
        let both = (0..10_000)
            .filter(|&i| seed.chance(Stream::NeverPays, i, 0.2) && seed.chance(Stream::Persona, i, 0.2))
            .count();
        assert!((330..470).contains(&both), "{both}");
    }

    #[test]
    fn another_seed_makes_other_choices() {
        let same = (0..1_000)
            .filter(|&i| Seed(1).chance(Stream::Persona, i, 0.5) == Seed(2).chance(Stream::Persona, i, 0.5));
        assert!((400..600).contains(&same.count()));
    }
}
