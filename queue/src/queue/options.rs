//! How a queue is opened.

use std::path::PathBuf;

/// RocketMQ's back-off, from the second attempt on: 10 s 30 s 1 m 2 m … 10 m 20 m 30 m 1 h 2 h.
pub const RETRY_DELAYS_MS: [u64; 16] = [
    10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000, 600_000,
    1_200_000, 1_800_000, 3_600_000, 7_200_000,
];

/// How a queue is opened. All sizes in bytes, all times in milliseconds.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Data folder; locked while open.
    pub dir: PathBuf,
    /// `Sync`: every append waits for an fdatasync (group commit). `Async { interval_ms }`: accepted means durable.
    pub flush: Durability,
    /// Size of one CommitLog segment.
    pub segment_bytes: u64,
    /// Bytes accepted and not yet written, at most; beyond it `append` answers `Busy`.
    pub pending_bytes_max: u64,
    /// While less than this is free on the disk, [`Space::New`] is refused with `NoSpace`, and [`Space::Owed`] is
    /// still taken; looked at each second while something is written. `None`: the size of a segment; `Some(0)`:
    /// never.
    pub disk_low_bytes: Option<u64>,
    /// From so much free space on [`Space::New`] is taken again, without a restart. `None`: the low mark and the
    /// size of a segment.
    pub disk_high_bytes: Option<u64>,
    /// Queues of a topic that is created on first use.
    pub topic_queues: u32,
    /// Acknowledgements are checkpointed at least this often.
    pub ack_sync_ms: u64,
    /// Attempts before a message is a dead letter of its group.
    pub attempts_max: u32,
    /// Delay before attempt 2, 3 …; the last one repeats.
    pub retry_delays_ms: Vec<u64>,
    /// Run the timer thread; tests that own the clock turn it off and call `tick`. Without it nothing is
    /// checkpointed by itself either: call `checkpoint`.
    pub timer_thread: bool,
}

impl QueueOptions {
    /// Sync mode, 64 MiB segments, 8 queues a topic, 16 attempts with RocketMQ's back-off.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            flush: Durability::Sync,
            segment_bytes: 64 << 20,
            pending_bytes_max: 16 << 20,
            disk_low_bytes: None,
            disk_high_bytes: None,
            topic_queues: 8,
            ack_sync_ms: 100,
            attempts_max: 16,
            retry_delays_ms: RETRY_DELAYS_MS.to_vec(),
            timer_thread: true,
        }
    }
}

/// Flush mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Group commit with fdatasync.
    Sync,
    /// fdatasync every `interval_ms`.
    Async {
        /// Between two syncs.
        interval_ms: u64,
    },
}

/// What an append may use of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// New work: refused while only the reserve is left.
    New,
    /// Owed work (transitions, timers of live tickets): may use the reserve.
    Owed,
}

/// What an append waits for, and so what a crash can take from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Fire and forget: nothing is told, not even a refusal. A full log, a full disk or a crash may lose it.
    None,
    /// Accepted by the log, with its place. A crash of the process may lose it until it is durable.
    Memory,
    /// On disk, in either flush mode: no crash and no loss of power takes it.
    Disk,
}

/// How long things wait and are kept. All times in milliseconds.
#[derive(Debug, Clone)]
pub struct Policies {
    /// A half message that is not decided is checked first after this time.
    pub check_first_ms: u64,
    /// And again each time after this.
    pub check_every_ms: u64,
    /// After so many checks it is rolled back.
    pub checks_max: u32,
    /// A segment of the log is deleted when its newest record is older than this and nothing holds it;
    /// [`u64::MAX`] keeps all.
    pub retention_ms: u64,
    /// A group that has neither received nor acknowledged for so long no longer holds the log. When it comes back
    /// it goes on at the oldest message kept.
    pub group_expiry_ms: u64,
    /// After so many new bytes in the log a snapshot is made, so that a start need not read the whole log.
    pub snapshot_every_bytes: u64,
    /// The owner derives state from the log: nothing is deleted that it has not released since the start, see
    /// [`Queue::release_below`](super::Queue::release_below).
    pub owner_holds: bool,
    /// Delayed messages that are pending, at most. More are refused with
    /// [`AppendError::TooManyDelayed`](super::AppendError::TooManyDelayed); owed ones ([`Space::Owed`]) are not, nor
    /// what the log holds at a start. Each takes about 64 bytes of memory.
    pub delayed_max: usize,
    /// A delayed message that is older than this, and due later than this from then, is appended once more, so that it
    /// does not hold the old part of the log. Half of `retention_ms` where that is less; at least a minute.
    pub carry_after_ms: u64,
    /// What [`Queue::deliver_at_level`](super::Queue::deliver_at_level) waits at each level, from level 1.
    pub delay_levels_ms: [u64; 18],
}

impl Policies {
    /// RocketMQ's delay levels: 1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h.
    pub const DELAY_LEVELS_MS: [u64; 18] = [
        1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000,
        540_000, 600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
    ];
    /// Furthest delivery time ahead: 40 days.
    pub const DELAY_MAX_MS: u64 = 40 * 24 * 60 * 60 * 1000;
}

impl Default for Policies {
    /// Checks as RocketMQ: 6 s, every 30 s, 15 checks. Kept for 72 hours, groups hold the log for 7 days, snapshots
    /// every 64 MiB; no owner holds. Two million delayed messages, carried after 24 hours; RocketMQ's levels.
    fn default() -> Self {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        Self {
            check_first_ms: 6_000,
            check_every_ms: 30_000,
            checks_max: 15,
            retention_ms: 72 * HOUR_MS,
            group_expiry_ms: 7 * 24 * HOUR_MS,
            snapshot_every_bytes: 64 << 20,
            owner_holds: false,
            delayed_max: 2_000_000,
            carry_after_ms: 24 * HOUR_MS,
            delay_levels_ms: Self::DELAY_LEVELS_MS,
        }
    }
}
