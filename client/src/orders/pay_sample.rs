//! Which buyers pay: a choice that follows from the ticket alone, so that every process and every restart makes
//! the same one.

/// A share of all tickets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaySample {
    /// Between 0 (nobody) and 1 (everybody).
    pub ratio: f64,
    /// Another seed, another choice.
    pub seed: u64,
}

impl PaySample {
    /// Whether the buyer of `ticket` pays.
    pub fn pays(&self, ticket: &str) -> bool {
        // FNV-1a over the ticket, then the finisher of splitmix64: tickets of one moment differ in few bits.
        let mut hash = ticket.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        // The upper 53 bits are exact in a double.
        ((hash >> 11) as f64 / (1_u64 << 53) as f64) < self.ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_met_and_the_choice_is_stable() {
        for ratio in [0.0, 0.2, 0.8, 1.0] {
            let sample = PaySample { ratio, seed: 7 };
            let tickets: Vec<_> = (0..10_000).map(|n| format!("01JD8Z6Y7Q{n:016}")).collect();
            let payers = tickets.iter().filter(|ticket| sample.pays(ticket)).count();
            assert!((payers as f64 / 10_000.0 - ratio).abs() < 0.02, "{payers} of 10000 at {ratio}");
            assert!(tickets.iter().all(|ticket| sample.pays(ticket) == sample.pays(ticket)));
        }
    }

    #[test]
    fn seeds_choose_differently() {
        let (a, b) = (PaySample { ratio: 0.5, seed: 1 }, PaySample { ratio: 0.5, seed: 2 });
        let differing = (0..1000).filter(|n| a.pays(&format!("T{n}")) != b.pays(&format!("T{n}"))).count();
        assert!((400..600).contains(&differing), "{differing}");
    }
}
