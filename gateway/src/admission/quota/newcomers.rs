//! How many strangers one address may bring: the rule that tells a NAT from somebody who makes up names.
//!
//! By volume they are alike: a thousand good buyers behind one address, and one abuser there with a thousand names. What
//! differs is what happens after "come back in a second": a buyer comes back under the same name, and whoever takes
//! another name for every request never does. So an address may bring a few new names at once; each further one is
//! noted and asked to come back (as mail servers do by greylisting), and is let in when it does. A name that was seen
//! there before, be it before the sale opened, or for a pass, is none of these. And each one who comes back as told earns
//! the address two more that are let in at once. So a NAT, however large, costs its first buyers a second, and nobody is
//! locked out.
//!
//! Memory is fixed (failure mode 27): one word a name in sets of eight. When a set is full its oldest note goes; whoever
//! it was of is new again, and is asked to come back once more.

use super::{ClientQuota, Exceeded, QuotaKind};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WAYS: usize = 8;
/// What a buyer who comes back as told earns the address.
const EARNED: u32 = 2;
/// What an address keeps of that, at most.
const EARNED_MAX: u32 = 1_000;
/// Addresses share these by hash: one that has earned nothing finds another's with a probability of 1 in so many.
const CREDITS: usize = 1 << 16;

/// Names by address.
pub struct Newcomers {
    hasher: foldhash::quality::RandomState,
    /// Each: part of the name's hash, never 0, and when it may come, in ms since `began` (wraps after 49 days).
    sets: Box<[Set]>,
    /// New names that an address may bring at once.
    strangers: ClientQuota,
    /// New names that its buyers have earned it.
    credits: Box<[AtomicU32]>,
    wait: Duration,
    began: Instant,
    /// Told to come back.
    asked: AtomicU64,
    /// Came back as told.
    kept: AtomicU64,
}

#[repr(align(64))]
#[derive(Default)]
struct Set([AtomicU64; WAYS]);

impl std::fmt::Debug for Newcomers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Newcomers").field("notes", &(self.sets.len() * WAYS)).finish_non_exhaustive()
    }
}

impl Newcomers {
    /// An address may bring `burst` new names at once and as many again over `window`; others come back after `wait`.
    /// About `names_max` names are remembered, 8 bytes each. `None` when `burst` is 0: strangers are let in.
    pub fn new(burst: u32, window: Duration, wait: Duration, names_max: usize) -> Option<Self> {
        let strangers = (burst > 0)
            .then(|| ClientQuota::new(f64::from(burst) / window.as_secs_f64(), burst, names_max))??;
        let sets = (names_max / WAYS).max(1).next_power_of_two();
        Some(Self {
            hasher: foldhash::quality::RandomState::default(),
            sets: (0..sets).map(|_| Set::default()).collect(),
            strangers,
            credits: (0..CREDITS).map(|_| AtomicU32::new(0)).collect(),
            wait,
            began: Instant::now(),
            asked: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        })
    }

    /// A request of `buyer` from a network. Passed: whether it came back as it was told. Refused: come back after the
    /// time that is told, under the same name.
    pub fn visit(&self, network: u64, buyer: &str) -> Result<bool, Exceeded> {
        self.visit_at(network, buyer, self.began.elapsed().as_millis() as u32)
    }

    /// Names that were told to come back, and those that did, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed))
    }

    fn visit_at(&self, network: u64, buyer: &str, now: u32) -> Result<bool, Exceeded> {
        let hash = self.hasher.hash_one((network, buyer));
        let set = &self.sets[hash as usize & (self.sets.len() - 1)].0;
        let name = (hash >> 32 | 1) << 32;
        let wait = self.wait.as_millis() as u32;
        // What a note is worth: how long its name has still to wait, or (below 0) since when it may come.
        let left = |note: u64| i64::from((note as u32).wrapping_sub(now) as i32);
        let mut oldest = (0, i64::MAX);
        for (at, slot) in set.iter().enumerate() {
            let note = slot.load(Ordering::Relaxed);
            let left = if note == 0 { i64::MIN } else { left(note) };
            // A time that far ahead is one of 49 days ago.
            if note & !0xFFFF_FFFF == name && left <= i64::from(wait) {
                return self.known(network, slot, note, left, now);
            }
            if left < oldest.1 {
                oldest = (at, left);
            }
        }
        let welcome = self.welcome(network);
        // Bit 0 of the time tells a name that was let in from one that has to wait; and that one's time is a little
        // shorter than it is told, so that a timer that is early does not cost it another round.
        let due = if welcome.is_ok() { now & !1 } else { now.wrapping_add(wait - wait / 10) | 1 };
        set[oldest.0].store(name | u64::from(due), Ordering::Relaxed);
        welcome.map(|()| false)
    }

    /// Whether a stranger is let in at once.
    fn welcome(&self, network: u64) -> Result<(), Exceeded> {
        let credit = self.credit(network);
        let earned = || credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if credit.load(Ordering::Relaxed) > 0 && earned().is_ok() {
            return Ok(());
        }
        self.strangers.check(&network).map(drop).map_err(|until| {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Exceeded { retry_after: self.wait, asked: Some(network), ..until.of(QuotaKind::Newcomers) }
        })
    }

    fn credit(&self, network: u64) -> &AtomicU32 {
        &self.credits[self.hasher.hash_one(network) as usize % CREDITS]
    }

    fn known(
        &self,
        network: u64,
        slot: &AtomicU64,
        note: u64,
        left: i64,
        now: u32,
    ) -> Result<bool, Exceeded> {
        let waits = note & 1 == 1;
        if waits && left > 0 {
            let retry_after = Duration::from_millis(left as u64);
            let (burst, window_s) = self.strangers.limits();
            return Err(Exceeded { kind: QuotaKind::Newcomers, retry_after, burst, window_s, asked: None });
        }
        if waits {
            self.kept.fetch_add(1, Ordering::Relaxed);
            let credit = self.credit(network);
            let more = |credit: u32| (credit < EARNED_MAX).then_some(credit + EARNED);
            // At its most it stays.
            let _ = credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
        // A name in use stays: the note's age is what goes first.
        let fresh = (note & !0xFFFF_FFFF) | u64::from(now & !1);
        if waits || fresh.wrapping_sub(note) > 1_000 {
            slot.store(fresh, Ordering::Relaxed);
        }
        Ok(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAT: u64 = 7;

    fn newcomers(names_max: usize) -> Newcomers {
        Newcomers::new(3, Duration::from_mins(10), Duration::from_secs(1), names_max).unwrap()
    }

    #[test]
    fn everybody_of_a_nat_gets_in_who_comes_back_under_the_same_name() {
        let newcomers = newcomers(100_000);
        let in_at_once = (0..1_000).filter(|n| newcomers.visit_at(NAT, &format!("b{n}"), 10).is_ok()).count();
        assert_eq!(in_at_once, 3);
        let early = newcomers.visit_at(NAT, "b500", 600).unwrap_err();
        assert!(early.retry_after <= Duration::from_millis(420), "{early:?}");
        let in_later =
            (0..1_000).filter(|n| newcomers.visit_at(NAT, &format!("b{n}"), 1_012).is_ok()).count();
        assert_eq!(in_later, 1_000);
        assert_eq!(newcomers.counts(), (997, 997));
    }

    #[test]
    fn who_comes_back_as_told_earns_the_address_two_more() {
        let newcomers = newcomers(100_000);
        let _ = (0..10).filter(|n| newcomers.visit_at(NAT, &format!("b{n}"), 10).is_ok()).count();
        for n in 3..10 {
            assert_eq!(newcomers.visit_at(NAT, &format!("b{n}"), 1_100), Ok(true));
            assert_eq!(newcomers.visit_at(NAT, &format!("b{n}"), 1_101), Ok(false), "once each");
        }
        let let_in = (0..100).filter(|n| newcomers.visit_at(NAT, &format!("c{n}"), 1_200).is_ok()).count();
        assert_eq!(let_in, 14);
    }

    #[test]
    fn whoever_takes_a_new_name_each_time_gets_in_no_more_than_a_few_times() {
        let newcomers = newcomers(100_000);
        let let_in = (0..10_000).filter(|n| newcomers.visit_at(NAT, &format!("x{n}"), n * 2).is_ok()).count();
        assert_eq!(let_in, 3);
        assert!(newcomers.visit_at(NAT + 1, "ann", 20_000).is_ok(), "another address is not concerned");
    }

    #[test]
    fn a_name_seen_before_does_not_wait() {
        let newcomers = newcomers(100_000);
        for n in 0..100 {
            let _ = newcomers.visit_at(NAT, &format!("early{n}"), 0);
        }
        let passed =
            (0..100).filter(|n| newcomers.visit_at(NAT, &format!("early{n}"), 60_000).is_ok()).count();
        assert_eq!(passed, 100);
    }

    #[test]
    fn fm27_a_full_table_forgets_the_oldest_and_asks_them_once_more() {
        let newcomers = newcomers(64);
        for n in 0..100_000 {
            let _ = newcomers.visit_at(NAT, &format!("x{n}"), n / 100);
        }
        assert_eq!(newcomers.sets.len() * WAYS, 64);
        let asked = newcomers.visit_at(NAT, "ann", 2_000).unwrap_err();
        assert_eq!(asked.retry_after, Duration::from_secs(1));
        assert!(newcomers.visit_at(NAT, "ann", 3_002).is_ok());
    }

    #[test]
    fn notes_live_through_a_wrapped_clock() {
        let newcomers = newcomers(64);
        let now = u32::MAX - 500;
        for n in 0..4 {
            let _ = newcomers.visit_at(NAT, &format!("b{n}"), now);
        }
        assert!(newcomers.visit_at(NAT, "b3", now.wrapping_add(400)).is_err());
        assert!(newcomers.visit_at(NAT, "b3", now.wrapping_add(1_002)).is_ok());
    }
}
