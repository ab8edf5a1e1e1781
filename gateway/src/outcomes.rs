//! Answers counted by outcome: one row of counters a core, so that cores do not share a cache line.

use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_client::wire::ProblemType;

const KINDS: usize = ProblemType::ALL.len();

/// Counters of all cores.
#[derive(Debug)]
pub struct Outcomes(Vec<Row>);

#[derive(Debug)]
#[repr(align(128))]
struct Row {
    refused: [AtomicU64; KINDS],
    won: AtomicU64,
    repeated: AtomicU64,
}

impl Outcomes {
    /// Rows for so many cores.
    pub fn new(cores: usize) -> Self {
        let row = || Row {
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            won: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        };
        Self((0..cores.max(1)).map(|_| row()).collect())
    }

    /// A refusal.
    pub fn count(&self, core: usize, kind: ProblemType) {
        self.0[core].refused[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A new ticket.
    pub fn count_won(&self, core: usize) {
        self.0[core].won.fetch_add(1, Ordering::Relaxed);
    }

    /// A winner's retry.
    pub fn count_repeat(&self, core: usize) {
        self.0[core].repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// Sums over the cores by outcome: `won`, `repeat`, and every problem type that was answered.
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let sum = |of: &dyn Fn(&Row) -> u64| self.0.iter().map(of).sum::<u64>();
        let mut totals = vec![
            ("won", sum(&|row| row.won.load(Ordering::Relaxed))),
            ("repeat", sum(&|row| row.repeated.load(Ordering::Relaxed))),
        ];
        for kind in ProblemType::ALL {
            let refused = sum(&|row| row.refused[*kind as usize].load(Ordering::Relaxed));
            if refused > 0 {
                totals.push((kind.slug(), refused));
            }
        }
        totals
    }
}
