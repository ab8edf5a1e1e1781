//! What the bounds of a configuration add up to.

use crate::config::Config;
use crate::listener::BACKLOG;

/// Files besides connections and the log: standard streams, event loops, snapshots, wake-ups, Redis.
const FILES_ELSEWHERE: u64 = 256;
/// Files and maps of one segment of the log: itself, and its part of the indexes.
const FILES_PER_SEGMENT: u64 = 2;
/// Maps that every process has: program, libraries, stacks, heaps.
const MAPS_ELSEWHERE: u64 = 1_024;
/// Of one connection, idle; busy ones are few.
const BYTES_PER_CONNECTION: u64 = 16 << 10;
/// Of one entry in the memory for clients, spent passes or timers, about.
const BYTES_PER_ENTRY: u64 = 64;
/// The program itself with its buffers.
const BYTES_ELSEWHERE: u64 = 64 << 20;

/// Upper bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Connections to and from the gateway.
    pub(super) connections: u64,
    /// Files without those and without the log's.
    pub(super) files_elsewhere: u64,
    /// Without these nothing starts.
    pub(super) files_least: u64,
    /// One file of the log, in bytes.
    pub(super) segment_bytes: u64,
    /// Connections that wait for `accept`.
    pub(super) backlog: u64,
    /// Memory of all that is bounded, in bytes; tickets are not: they grow with what is sold.
    pub(super) memory_bytes: u64,
}

impl Needs {
    /// Of this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let listen = &config.listen;
        let upstream: u64 = config
            .proxy
            .iter()
            .map(|route| (route.in_flight_max + route.pool_idle_max * listen.threads) as u64)
            .sum();
        let connections = 2 * listen.connections_max as u64 + upstream;
        let threads = listen.threads as u64 + 1;
        let quota = &config.quota;
        let quotas = u64::from(quota.buyer.is_some()) + u64::from(quota.ip.is_some());
        let entries = quotas * quota.clients_max as u64
            + 2 * config.pass.spent_max as u64
            + config.queue.delayed_max as u64;
        let policies = if config.policy.files.is_empty() { 0 } else { config.policy.limits.memory_bytes_max };
        Self {
            connections,
            files_elsewhere: FILES_ELSEWHERE + 8 * threads,
            files_least: 64 + 8 * threads,
            segment_bytes: config.data.segment_bytes,
            backlog: u64::from(BACKLOG.unsigned_abs()),
            memory_bytes: BYTES_ELSEWHERE
                + connections * BYTES_PER_CONNECTION
                + entries * BYTES_PER_ENTRY
                + threads * policies as u64
                + config.data.pending_bytes_max,
        }
    }

    /// Segments that a disk of this size can hold.
    pub(super) fn segments(&self, disk_bytes: u64) -> u64 {
        disk_bytes / self.segment_bytes.max(1) + 2
    }

    /// With a log of so many segments.
    pub(super) fn files(&self, segments: u64) -> u64 {
        self.connections + self.files_elsewhere + FILES_PER_SEGMENT * segments
    }

    /// With a log of so many segments.
    #[expect(clippy::unused_self, reason = "read beside the others")]
    pub(super) fn maps(&self, segments: u64) -> u64 {
        MAPS_ELSEWHERE + segments
    }
}
