//! What this program did on purpose, and how the gateway ended.

use crate::clock::Micros;

/// One `kill -9`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KillSeen {
    pub(crate) at_us: Micros,
    /// The restarted gateway was ready at.
    pub(crate) ready_us: Micros,
}

/// The workers stood still in between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopSeen {
    /// The last worker had stopped at.
    pub(crate) stopped_us: Micros,
    pub(crate) resumed_us: Micros,
}

/// How a gateway that we started ended.
#[derive(Debug, Clone)]
pub(crate) enum ExitSeen {
    /// Exit code 0 after SIGTERM.
    Clean,
    /// Anything else, in words.
    Unclean(String),
}
