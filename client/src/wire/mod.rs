//! The types that travel over HTTP, for both sides: the gateway parses requests and writes answers with them,
//! the client the other way round. No behaviour lives here beyond spelling.
//!
//! ```text
//! ticket.rs      ticket object, its status, transition requests
//! sale.rs        sale objects and the requests that change them
//! audit.rs       audit of the ledger
//! order.rs       a buyer's order, the order message, the order event
//! message.rs     message as delivered, publishing
//! body.rs        JSON payloads as they are, bytes as `{"base64":…}`
//! lease.rs       receive, ack, nack, extend
//! topic.rs       topics, groups, their figures, dead letters, offsets
//! transaction.rs half messages, resolutions, checks
//! gateway.rs     the gateways of a fleet
//! recovery.rs    a shared ledger that is being made whole
//! pass.rs        challenge, purchase pass
//! reload.rs      a reload of the configuration
//! blacklist.rs   who is banned
//! problem.rs     RFC 9457 problem documents
//! ```
//!
//! Rules: request types refuse unknown fields by name; answers tolerate them, so that an older client reads a
//! newer gateway. Fields marked `?` in the interface are `Option` and left out when absent. Types with a
//! lifetime can be built from borrowed text without allocating; as `…<'static>` they own what they hold.

use std::borrow::Cow;

mod audit;
mod blacklist;
mod body;
mod gateway;
mod lease;
mod message;
mod order;
mod pass;
mod problem;
mod recovery;
mod reload;
mod sale;
mod ticket;
mod topic;
mod transaction;

pub use audit::{Audit, AuditReport, Identity};
pub use blacklist::{Ban, BanList, Lifted, PutBan};
pub use body::{BodyError, decode_bytes, encode_bytes, json_or_bytes, parse_raw};
pub use gateway::{Forgotten, Gateway, Gateways};
pub use lease::{
    AckRequest, ExtendRequest, LeaseAnswer, LeaseResult, NackRequest, ReceiveAnswer, ReceiveRequest,
};
pub use message::{Ack, Message, Properties, PublishAnswer, PublishMessage, PublishRequest, Published};
pub use order::{OrderBody, OrderEvent, OrderRequest};
pub use pass::{Challenge, Pass, PassAnswer, PassRequest};
pub use problem::{Problem, ProblemTicket, ProblemType};
pub use recovery::{Excess, Recovery, ReleaseExcess, ResumeRequest};
pub use reload::Reloaded;
pub use sale::{PutSale, Restock, Sale, SaleInfo, SaleList, SaleState};
pub use ticket::{
    CancelledRequest, CreatedRequest, PaidRequest, RejectedRequest, Ticket, TicketList, TicketStatus,
};
pub use topic::{
    GroupMode, GroupOffsets, GroupStats, PutGroup, PutTopic, QueueOffsets, Range, RedriveAnswer,
    RedriveRequest, RedriveResult, ResetGroup, StartFrom, TopicList, TopicStats,
};
pub use transaction::{
    BeginTransaction, Begun, ChecksAnswer, ChecksRequest, Resolution, ResolveTransaction, Resolved,
    TransactionCheck,
};

/// Copies text that is borrowed.
fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// For `skip_serializing_if` of flags that are only told when set.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests;
