//! What goes wrong in one life of the process, and what the crash that ends it leaves.

use crate::random::Random;
use std::io::ErrorKind;
use tidegate_queue::storage::{FaultyCall, FaultyStorage, PowerLoss};

const FOLDERS: [&str; 7] =
    ["commitlog/0", "commitlog", "checkpoint", "groups", "catalog", "snapshot", "consumequeue"];
const CALLS: [FaultyCall; 7] = [
    FaultyCall::Write,
    FaultyCall::ShortWrite,
    FaultyCall::Sync,
    FaultyCall::Allocate,
    FaultyCall::Rename,
    FaultyCall::Remove,
    FaultyCall::SyncDir,
];

/// What goes wrong first, if anything; when the life has had its operations it is killed anyway.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    None,
    /// Killed before its nth call that changes something.
    KillAt(u64),
    /// Killed at its nth call of a kind.
    KillAtCall(FaultyCall, &'static str, u64),
    /// Its nth call of a kind fails.
    Fail(FaultyCall, &'static str, u64, ErrorKind),
    /// The disk has so many more bytes, for a while.
    Full(u64),
}

/// The plan of one life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) trouble: Trouble,
    /// Armed before the queue opens, so that it hits recovery too.
    pub(crate) early: bool,
    /// Closed properly after its operations, if it gets so far.
    pub(crate) closes: bool,
    /// What is left of what was not synced; `None`: all of it, only the process dies.
    pub(crate) loss: Option<(u64, PowerLoss)>,
}

impl Life {
    pub(crate) fn plan(random: &mut Random) -> Self {
        let trouble = match random.below(100) {
            0..8 => Trouble::None,
            8..30 => Trouble::KillAt(1 + random.below(100)),
            // Early enough to end many a start.
            30..50 => Trouble::KillAt(1 + random.below(30)),
            50..68 => Trouble::KillAtCall(FaultyCall::Sync, "", 1 + random.below(30)),
            68..86 => {
                Trouble::KillAtCall(random.one_of(&CALLS), random.one_of(&FOLDERS), 1 + random.below(10))
            }
            86..98 => {
                let kind = random.one_of(&[ErrorKind::Other, ErrorKind::StorageFull]);
                // A failing index is tried again after a fifth of a second: its own tests have that.
                let folder = random.one_of(&FOLDERS[..6]);
                Trouble::Fail(random.one_of(&CALLS), folder, 1 + random.below(10), kind)
            }
            _ => Trouble::Full(random.below(20_000)),
        };
        let loss = match random.below(10) {
            0 => None,
            1..4 => Some(PowerLoss::Everything),
            4..7 => Some(PowerLoss::Blocks(512)),
            _ => Some(PowerLoss::Blocks(4096)),
        };
        Self {
            trouble,
            early: random.percent(60),
            closes: random.percent(15),
            loss: loss.map(|loss| (random.next(), loss)),
        }
    }

    pub(crate) fn arm(&self, storage: &FaultyStorage) {
        match self.trouble {
            Trouble::None => {}
            Trouble::KillAt(nth) => storage.kill_at_call(nth),
            Trouble::KillAtCall(call, path, nth) => storage.kill_at(call, path, nth),
            Trouble::Fail(call, path, nth, kind) => storage.fail(call, path, nth, kind),
            Trouble::Full(bytes) => storage.set_quota(Some(storage.used() + bytes)),
        }
    }

    /// May this life's start end with an error?
    pub(crate) fn may_refuse(&self, storage: &FaultyStorage, ended_before: u64) -> bool {
        storage.ended() > ended_before
            || self.early && matches!(self.trouble, Trouble::Fail(..) | Trouble::Full(_))
    }
}
