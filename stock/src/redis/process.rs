//! Which of the processes that come with one gateway's id goes on: one whose log holds all that was written under it.
//!
//! A process is given a number when it is started, has its log hold the number, and only then beats with it. So a log tells
//! of which processes it has everything: an old copy of a data folder lacks the numbers of those that came after it was
//! made, and of the last one it has, the copy is shorter than that process told.

use super::ops::{Newest, Proposal};
use std::collections::BTreeSet;

/// Why a process must not go on under its id; for good, whatever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ousted {
    /// A process whose log has what this one's has was started later: of a copied data folder.
    Replaced {
        /// Its number.
        by: u64,
    },
    /// The log lacks what this process wrote under the id, or its end.
    OldCopy {
        /// Its number.
        of: u64,
    },
}

/// One process, as far as its number goes.
#[derive(Debug, Clone)]
pub struct Process {
    held: BTreeSet<u64>,
    log_end: u64,
    number: u64,
    base: u64,
    confirmed: u64,
}

impl Process {
    /// Just started. `held`: numbers of processes of this gateway that its log holds; `log_end`: where the log ends.
    pub fn new(held: BTreeSet<u64>, log_end: u64) -> Self {
        Self { held, log_end, number: 0, base: 0, confirmed: 0 }
    }

    /// Its number; 0 before [`Process::take`].
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The newest number in the log; 0: there is none.
    pub fn newest_held(&self) -> u64 {
        self.held.last().copied().unwrap_or_default()
    }

    /// The newest number that its next heartbeat may follow without a question: its log holds it.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The newest number that it was told of since it beats, and its log holds.
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Whether it may take the number that is proposed.
    pub fn consider(&mut self, proposal: &Proposal) -> Result<(), Ousted> {
        let newest = proposal.newest;
        if newest.process != 0 && !self.has_all_of(newest) {
            return Err(Ousted::OldCopy { of: newest.process });
        }
        self.base = newest.process;
        Ok(())
    }

    /// Whether all that an earlier process is known to have written was in the log when this one was started.
    fn has_all_of(&self, newest: Newest) -> bool {
        self.held.contains(&newest.process) && newest.log_end <= self.log_end
    }

    /// The log holds the number, on disk: it is this process' own.
    pub fn take(&mut self, number: u64) {
        self.held.insert(number);
        self.number = number;
    }

    /// A heartbeat counted. From now on it follows nobody: whatever else stands under the id is a question.
    pub fn beaten(&mut self) {
        self.base = self.confirmed;
    }

    /// A heartbeat was refused, because this one is the newest process of the id. `Ok`: beat again.
    pub fn heed(&mut self, newest: Newest) -> Result<(), Ousted> {
        let process = newest.process;
        if process == self.number {
            // It told of a longer log than it has now: a machine that was set back with the process on it.
            Err(Ousted::OldCopy { of: process })
        } else if self.has_all_of(newest) {
            self.base = process;
            self.confirmed = self.confirmed.max(process);
            Ok(())
        } else if process > self.number {
            Err(Ousted::Replaced { by: process })
        } else {
            Err(Ousted::OldCopy { of: process })
        }
    }
}
