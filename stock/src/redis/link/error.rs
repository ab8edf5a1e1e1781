//! What can come of a call.

use super::Lineage;

/// Why a call has no reply. Each variant says whether anything may have run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Definite: nothing was sent. Not connected, refused by a check of the connection, or paused after calls
    /// that were not answered.
    #[error("{0}")]
    Unavailable(String),
    /// Sent and not answered: it may have run, or still run.
    #[error("{0}")]
    Unknown(String),
    /// It ran, and too few replicas say that they have it: a failover may take it back.
    #[error("{0}")]
    Unreplicated(String),
    /// Definite: nothing was sent, because the server is another one than expected.
    #[error("Redis is another one than before (now {now}); what it holds may lack the last writes")]
    LineageChanged {
        /// Lineage of the server that is there now.
        now: Lineage,
    },
    /// Redis answered with an error. Definite for a script that writes nothing before it could fail.
    #[error("{0}")]
    Refused(String),
}
