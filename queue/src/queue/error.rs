//! Why the façade refused.

/// Why an append was refused. A refusal is definite: nothing of the batch is in the log.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum AppendError {
    /// No space.
    #[error("no space left for new messages in the log; free disk space, appends go on by themselves")]
    NoSpace,
    /// Bound on accepted bytes reached.
    #[error("the log has more accepted and unwritten bytes than allowed; retry shortly")]
    Busy,
    /// A write or sync failed before.
    #[error("a write to the log failed before; restart the process to recover")]
    Poisoned,
    /// As many delayed messages are pending as [`Policies`](super::Policies) allow.
    #[error(
        "as many delayed messages are pending as `delayed_max` allows; retry when some were delivered, or raise it"
    )]
    TooManyDelayed,
    /// Batch, topic name, key or body too large or malformed; delivery too far ahead.
    #[error("message refused: {0}")]
    Invalid(&'static str),
}

/// Why a receive failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReceiveError {
    /// Bad name or parameter.
    #[error("receive refused: {0}")]
    Invalid(&'static str),
    /// Too many waiting.
    #[error("too many waiting receives on this group")]
    Busy,
}

/// Why a receipt was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ReceiptError {
    /// Lease over, message settled, or from before a restart.
    #[error("receipt-expired")]
    Expired,
}

/// Why acknowledgements or a snapshot could not be written. What was written before still stands.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The log will not become durable any more.
    #[error("the log is poisoned or closed; restart the process to recover")]
    LogStopped,
    /// The file could not be written.
    #[error("cannot write acknowledgements or a snapshot: {0}; it is tried again")]
    Io(#[from] std::io::Error),
}

/// Why a transaction did not go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum TransactionError {
    /// The log refused; the half message is as it was.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// 100,000 half messages are open.
    #[error("too many half messages are open; commit or roll back some of them, or retry later")]
    TooMany,
    /// No such half message, or one that was decided long ago.
    #[error("no half message is known by this id: it never was one, or it was decided long ago")]
    Unknown,
    /// Only what is durable can be committed.
    #[error("the half message is not durable yet; wait for it, then commit")]
    NotDurable,
    /// It was decided the other way, and stays so.
    #[error("the half message was decided before: {0:?}")]
    Decided(super::Outcome),
}

/// Why a numbered batch was refused. Nothing of it was appended now.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ProducerError {
    /// The log refused.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It may have been appended before, or not.
    #[error(
        "sequence number too old to tell whether it was appended before; look for the message by its key"
    )]
    TooOld,
    /// 10,000 producers were active within a day.
    #[error("too many producers are active; retry later, or use fewer ids")]
    TooMany,
}
