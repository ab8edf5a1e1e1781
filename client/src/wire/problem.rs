//! RFC 9457 problem documents. The member `type` is the slug itself.

use super::{Ticket, is_false};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident, $slug:literal, $status:literal, $title:literal;)*) => {
        /// Every kind of refusal of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ProblemType { $($(#[$doc])* $name,)* }

        impl ProblemType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Spelling of the member `type`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// HTTP status it travels with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Short text for people, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// By its slug.
            pub fn from_slug(slug: &str) -> Option<Self> {
                match slug { $($slug => Some(Self::$name),)* _ => None }
            }
        }
    };
}

problem_types! {
    // Orders.
    /// The request is malformed; `field` names the culprit where there is one.
    BadRequest, "bad-request", 400, "The request is malformed";
    /// No proof of identity, or a bad one.
    Unauthenticated, "unauthenticated", 401, "Identity missing or not proven";
    /// Before the window; `opens_at_ms` where it is known.
    SaleNotOpen, "sale-not-open", 403, "The sale is not open";
    /// Buyer or address is on the blacklist.
    Blacklisted, "blacklisted", 403, "Not admitted to this sale";
    /// A pass is needed.
    PassRequired, "pass-required", 403, "A purchase pass is required";
    /// The pass is forged, of another buyer or sale, or over.
    PassInvalid, "pass-invalid", 403, "The purchase pass is not valid";
    /// The operator's script said no.
    DeniedByPolicy, "denied-by-policy", 403, "Denied by policy";
    /// No such sale.
    SaleNotFound, "sale-not-found", 404, "No such sale";
    /// The buyer holds as many units as one may; `tickets`.
    LimitReached, "limit-reached", 409, "Limit per buyer reached";
    /// Some units are left, fewer than asked; `available`.
    NotEnoughStock, "not-enough-stock", 409, "Fewer units left than asked for";
    /// None left for now.
    SoldOut, "sold-out", 410, "Sold out";
    /// Over.
    SaleClosed, "sale-closed", 410, "The sale is over";
    /// Body above the bound.
    PayloadTooLarge, "payload-too-large", 413, "The request body is too large";
    /// The idempotency key came before with another body.
    IdempotencyMismatch, "idempotency-mismatch", 422, "Idempotency key used with another request";
    /// Too many requests of one buyer or address.
    ClientQuota, "client-quota", 429, "Too many requests";
    /// No token, or the projected wait is too long.
    Overloaded, "overloaded", 429, "Too many buyers at once";
    /// The ledger is being made whole.
    SalePaused, "sale-paused", 503, "The sale is paused";
    /// The ledger does not answer; with `ticket` the outcome is not known yet.
    LedgerUnavailable, "ledger-unavailable", 503, "The ledger is not available";
    /// The log does not take orders; with `ticket` the outcome is not known yet.
    QueueUnavailable, "queue-unavailable", 503, "The order queue is not available";
    // Others of the interface.
    /// No such ticket, or another buyer's.
    TicketNotFound, "ticket-not-found", 404, "No such ticket";
    /// `Allow` tells which.
    MethodNotAllowed, "method-not-allowed", 405, "Method not allowed";
    /// No such path.
    NotFound, "not-found", 404, "No such resource";
    /// The ticket's state does not allow it; `ticket`, and `refund_required` where money came.
    WrongState, "wrong-state", 409, "The ticket's state does not allow this";
    /// The sale exists with another stock.
    StockAlreadySet, "stock-already-set", 409, "The sale exists with another stock";
    /// The lease is over or settled, or from before a restart.
    ReceiptExpired, "receipt-expired", 409, "The receipt is no longer valid";
    /// The transaction was resolved the other way.
    AlreadyResolved, "already-resolved", 409, "The transaction is already resolved the other way";
    /// The dead letter's ticket is at its end.
    TicketTerminal, "ticket-terminal", 409, "The ticket is at its end";
    // What the interface leaves open.
    /// The token's scope does not reach this.
    Forbidden, "forbidden", 403, "The token does not allow this";
    /// The restock id came before with another quantity.
    RestockMismatch, "restock-mismatch", 409, "Restock id used with another quantity";
    /// Only the gateway writes this topic.
    TopicReserved, "topic-reserved", 403, "Only the gateway writes this topic";
    /// No such topic.
    TopicNotFound, "topic-not-found", 404, "No such topic";
    /// No such group.
    GroupNotFound, "group-not-found", 404, "No such group";
    /// No such transaction, or one that was resolved long ago, or of another gateway.
    TransactionNotFound, "transaction-not-found", 404, "No such transaction";
    /// The sequence number is too old to tell whether it was sent before.
    SequenceTooOld, "sequence-too-old", 409, "Sequence number too old";
    /// The sequence number came before with other messages.
    SequenceMismatch, "sequence-mismatch", 422, "Sequence number used with other messages";
    /// The configuration that was to be taken has errors; `problems`.
    ConfigRefused, "config-refused", 422, "The configuration is refused; nothing was changed";
    /// Reloads go one at a time.
    ReloadUnderWay, "reload-under-way", 409, "Another reload is under way";
    /// The request did not arrive in time.
    RequestTimeout, "request-timeout", 408, "The request took too long to arrive";
    /// No upstream of a proxy route could be reached, or it broke off before it answered.
    UpstreamUnavailable, "upstream-unavailable", 502, "The service behind the gateway cannot be reached";
    /// The upstream of a proxy route did not answer in time.
    UpstreamTimeout, "upstream-timeout", 504, "The service behind the gateway did not answer in time";
    /// A fault of the gateway.
    Internal, "internal", 500, "Internal error";
}

impl fmt::Display for ProblemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Member `ticket`: the object where the ticket's state is the point, the id where its outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ProblemTicket<'a> {
    /// Ticket id.
    Id(Cow<'a, str>),
    /// Ticket object.
    Object(Box<Ticket<'a>>),
}

/// A problem document with the members that the interface adds. Members it does not name land in `other`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem<'a> {
    /// Slug; see [`Problem::problem_type`].
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// Same for every occurrence of the type.
    #[serde(default)]
    pub title: Cow<'a, str>,
    /// HTTP status.
    #[serde(default)]
    pub status: u16,
    /// This occurrence.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub detail: Cow<'a, str>,
    /// The field of the request that is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'a, str>>,
    /// The ticket this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<ProblemTicket<'a>>,
    /// The buyer's tickets that hold the units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tickets: Option<Vec<Cow<'a, str>>>,
    /// Units left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// When the sale opens, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at_ms: Option<u64>,
    /// When to try again; finer than the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Money came for a ticket that is not payable: give it back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refund_required: bool,
    /// Members of an operator's policy, or of a newer gateway.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl<'a> Problem<'a> {
    /// A document of that type without further members.
    pub fn new(problem_type: ProblemType) -> Self {
        Self {
            kind: Cow::Borrowed(problem_type.slug()),
            title: Cow::Borrowed(problem_type.title()),
            status: problem_type.status(),
            detail: Cow::Borrowed(""),
            field: None,
            ticket: None,
            tickets: None,
            available: None,
            opens_at_ms: None,
            retry_after_ms: None,
            refund_required: false,
            other: serde_json::Map::new(),
        }
    }

    /// With the text of this occurrence.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'a, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The type, if this version knows it.
    pub fn problem_type(&self) -> Option<ProblemType> {
        ProblemType::from_slug(&self.kind)
    }
}
