//! The token queue: no window admits more than rate × time + burst.

use super::dossier::Dossier;
use super::{Findings, Invariant};
use crate::scenario::Tokens;

/// For every window `[s, e]`, the winners asked at or after `s` and told by `e` number at most
/// `rate × (e − s) + burst + 1` (the one: a token that falls due on the window's edge).
pub(super) fn tokens_bounded(dossier: &Dossier<'_>) -> Option<Invariant> {
    let tokens = dossier.evidence.tokens?;
    let mut findings = Findings::default();
    let told = dossier.evidence.buyers.tickets.values();
    let admissions: Vec<(u64, u64)> = told.map(|told| (told.asked_us, told.told_us)).collect();
    let worst = worst_window(&admissions, tokens);
    let rate = tokens.rate_per_s;
    if let Some(window) = worst.filter(|window| window.excess > 1.0) {
        findings.add(|| {
            format!(
                "{} admissions within {:.1} ms, at most {:.1} allowed",
                window.admitted,
                (window.until_us - window.from_us) as f64 / 1_000.0,
                window.admitted as f64 - window.excess + 1.0,
            )
        });
    }
    findings.require(!admissions.is_empty(), || "not conclusive: nobody was admitted".to_owned());
    let closest = worst.map_or(0.0, |window| -window.excess);
    Some(findings.judge(
        "tokens_bounded",
        format!(
            "{} admissions at {rate}/s + burst {}; the fullest window had room for {closest:.0} more",
            admissions.len(),
            tokens.burst
        ),
    ))
}

/// The window with the most admissions above (or least below) the bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) from_us: u64,
    pub(super) until_us: u64,
    pub(super) admitted: u64,
    /// Admissions above rate × time + burst; negative when there was room.
    pub(super) excess: f64,
}

/// Sweeps the start of the window from late to early. A tree over the ends keeps, for each end `e`, the number of
/// admissions inside minus rate × e; adding one admission raises all ends from its answer on: O(n log n) for all
/// n² windows.
pub(super) fn worst_window(admissions: &[(u64, u64)], tokens: Tokens) -> Option<Window> {
    let per_us = tokens.rate_per_s as f64 / 1_000_000.0;
    let mut ends: Vec<u64> = admissions.iter().map(|(_, told_us)| *told_us).collect();
    ends.sort_unstable();
    ends.dedup();
    let empty: Vec<f64> = ends.iter().map(|end_us| -(*end_us as f64) * per_us).collect();
    let mut tree = MaxTree::new(&empty);
    let mut by_start = admissions.to_vec();
    by_start.sort_unstable_by(|a, b| b.cmp(a));
    let mut worst: Option<Window> = None;
    for (at, &(from_us, told_us)) in by_start.iter().enumerate() {
        tree.raise_from(ends.partition_point(|end_us| *end_us < told_us));
        // A window that starts here holds every admission asked at this same instant.
        if by_start.get(at + 1).is_some_and(|(next_us, _)| *next_us == from_us) {
            continue;
        }
        let first_end = ends.partition_point(|end_us| *end_us < from_us);
        let Some((value, end)) = tree.max_from(first_end) else { continue };
        let excess = value + from_us as f64 * per_us - tokens.burst as f64;
        if worst.is_none_or(|window| excess > window.excess) {
            let until_us = ends[end];
            let admitted = (value + until_us as f64 * per_us).round() as u64;
            worst = Some(Window { from_us, until_us, admitted, excess });
        }
    }
    worst
}

/// A segment tree: add one to a suffix, greatest value of a suffix.
struct MaxTree {
    leaves: usize,
    /// Greatest value below each node, without what its ancestors add.
    max: Vec<f64>,
    add: Vec<f64>,
}

impl MaxTree {
    fn new(values: &[f64]) -> Self {
        let leaves = values.len().next_power_of_two();
        let mut max = vec![f64::NEG_INFINITY; 2 * leaves];
        max[leaves..leaves + values.len()].copy_from_slice(values);
        for node in (1..leaves).rev() {
            max[node] = f64::max(max[2 * node], max[2 * node + 1]);
        }
        Self { leaves, max, add: vec![0.0; 2 * leaves] }
    }

    /// Adds one to every leaf from `first` on.
    fn raise_from(&mut self, first: usize) {
        let mut node = self.leaves + first;
        self.raise(node);
        while node > 1 {
            if node.is_multiple_of(2) {
                self.raise(node + 1);
            }
            node /= 2;
            self.max[node] = f64::max(self.max[2 * node], self.max[2 * node + 1]) + self.add[node];
        }
    }

    fn raise(&mut self, node: usize) {
        self.max[node] += 1.0;
        self.add[node] += 1.0;
    }

    /// Greatest value among the leaves from `first` on, and its leaf.
    fn max_from(&self, first: usize) -> Option<(f64, usize)> {
        if first >= self.leaves {
            return None;
        }
        // Walk up from the leaf, taking every right sibling; each candidate collects what its ancestors add.
        let mut node = self.leaves + first;
        let (mut best, mut best_node) = (self.max[node], node);
        while node > 1 {
            if node.is_multiple_of(2) && self.max[node + 1] > best {
                (best, best_node) = (self.max[node + 1], node + 1);
            }
            node /= 2;
            best += self.add[node];
        }
        while best_node < self.leaves {
            best_node *= 2;
            if self.max[best_node + 1] > self.max[best_node] {
                best_node += 1;
            }
        }
        best.is_finite().then(|| (best, best_node - self.leaves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every window, one by one.
    fn worst_by_trying_all(admissions: &[(u64, u64)], tokens: Tokens) -> f64 {
        let mut worst = f64::NEG_INFINITY;
        for &(from_us, _) in admissions {
            for &(_, until_us) in admissions.iter().filter(|(_, until_us)| *until_us >= from_us) {
                let inside = admissions.iter().filter(|(asked, told)| *asked >= from_us && *told <= until_us);
                let allowed =
                    tokens.rate_per_s as f64 * (until_us - from_us) as f64 / 1e6 + tokens.burst as f64;
                worst = worst.max(inside.count() as f64 - allowed);
            }
        }
        worst
    }

    proptest! {
        #[test]
        fn the_sweep_finds_what_trying_all_windows_finds(
            raw in prop::collection::vec((0u64..5_000, 1u64..800), 1..60),
            rate_per_s in 1u64..20_000,
            burst in 0u64..10,
        ) {
            let admissions: Vec<_> = raw.into_iter().map(|(asked, took)| (asked, asked + took)).collect();
            let tokens = Tokens { rate_per_s, burst, max_wait_ms: 0 };
            let found = worst_window(&admissions, tokens).unwrap();
            let expected = worst_by_trying_all(&admissions, tokens);
            prop_assert!((found.excess - expected).abs() < 1e-6, "{found:?} {expected}");
            let (from, until) = (found.from_us, found.until_us);
            let inside = admissions.iter().filter(|(asked, told)| *asked >= from && *told <= until).count();
            prop_assert_eq!(found.admitted, inside as u64);
        }
    }
}
