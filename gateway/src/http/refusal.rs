//! The one table from refusals to HTTP. No wildcard arm: a new refusal does not compile without its answer.

use super::answer::{Answer, plain, problem, with_retry_after};
use super::body::BodyError;
use crate::admission::Exceeded;
use crate::admission::pass::PassFault;
use crate::config::ConfigProblem;
use http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use std::borrow::Cow;
use std::time::Duration;
use tidegate_client::wire::{Problem, ProblemTicket, ProblemType, Resolution, Ticket};
use tidegate_stock::{JournalError, SaleError, TicketId};

/// Why a request did not get what it asked for.
#[derive(Debug)]
pub enum Refusal {
    /// Malformed; the text names the field.
    BadRequest(Cow<'static, str>),
    /// Body above the bound.
    PayloadTooLarge,
    /// Body did not arrive in time.
    RequestTimeout,
    /// No such path.
    NotFound,
    /// Path exists; these methods do.
    MethodNotAllowed(&'static str),
    /// The route does not forward the method; those it does.
    MethodNotForwarded(HeaderValue),
    /// Identity missing or not proven; why.
    Unauthenticated(&'static str),
    /// The inner listener's token is missing or wrong.
    TokenMissing,
    /// The inner listener's token has another scope.
    Forbidden,
    /// No such sale.
    SaleNotFound,
    /// Before the window.
    SaleNotOpen {
        /// Unix ms, if it is known when.
        opens_at_ms: Option<u64>,
        /// From now.
        retry_after: Duration,
    },
    /// After the window.
    SaleClosed,
    /// None left for now.
    SoldOut,
    /// The client is banned; for how long, when it is known.
    Blacklisted(Option<Duration>),
    /// Too many requests of this client.
    ClientQuota(Exceeded),
    /// The order came without a purchase pass.
    PassRequired,
    /// The pass, the challenge or the answer to it is not good; why.
    PassInvalid(PassFault),
    /// The operator's policy says no; why, empty when it does not say.
    DeniedByPolicy(String),
    /// No token in time.
    Overloaded(Duration),
    /// The buyer holds as many units as one may.
    LimitReached(Vec<TicketId>),
    /// Some left, fewer than asked.
    NotEnoughStock {
        /// How many.
        available: u64,
    },
    /// The idempotency key came before with another body.
    IdempotencyMismatch,
    /// No such ticket, or another buyer's.
    TicketNotFound,
    /// The ticket's state does not allow the transition.
    WrongState {
        /// As it stands.
        ticket: Box<Ticket<'static>>,
        /// Money came that must go back.
        refund_required: bool,
    },
    /// The journal took nothing: definitely not done.
    Journal(JournalError),
    /// The record was handed to the log and is not known to be durable yet.
    Unknown {
        /// The ticket that it concerns.
        ticket: Option<TicketId>,
    },
    /// The sale waits until its ledger is whole again.
    SalePaused,
    /// The ledger cannot be asked now; why. Nothing was done.
    LedgerUnavailable(Cow<'static, str>),
    /// The ledger is at one of its bounds.
    LedgerFull(&'static str),
    /// A sale operation failed.
    Sale(SaleError),
    /// Only the gateway writes this topic.
    TopicReserved,
    /// No such topic.
    TopicNotFound,
    /// No such group.
    GroupNotFound,
    /// Messages were handed to the log and are not known to be durable yet.
    NotOnDisk,
    /// No such transaction here.
    TransactionNotFound,
    /// The transaction was resolved the other way.
    AlreadyResolved(Resolution),
    /// The sequence number is too old to tell.
    SequenceTooOld,
    /// The sequence number came before with other messages.
    SequenceMismatch,
    /// A configuration that cannot be taken; all that is wrong with it.
    ConfigRefused(Vec<ConfigProblem>),
    /// Another reload is under way.
    ReloadUnderWay,
    /// The queue cannot serve this now; why.
    QueueBusy(&'static str),
    /// No upstream of the route could be reached, or it broke off.
    UpstreamUnavailable,
    /// An upstream did not answer in time.
    UpstreamTimeout,
}

/// Pause asked for where the log is full or behind.
const JOURNAL_RETRY: Duration = Duration::from_secs(1);
/// Pause asked for while the disk is slow or the process must restart.
const RESTART_RETRY: Duration = Duration::from_secs(2);

impl Refusal {
    /// The kind, for counting.
    pub fn problem_type(&self) -> ProblemType {
        match self {
            Self::BadRequest(_) => ProblemType::BadRequest,
            Self::PayloadTooLarge => ProblemType::PayloadTooLarge,
            Self::RequestTimeout => ProblemType::RequestTimeout,
            Self::NotFound => ProblemType::NotFound,
            Self::MethodNotAllowed(_) | Self::MethodNotForwarded(_) => ProblemType::MethodNotAllowed,
            Self::Unauthenticated(_) | Self::TokenMissing => ProblemType::Unauthenticated,
            Self::Forbidden => ProblemType::Forbidden,
            Self::SaleNotFound => ProblemType::SaleNotFound,
            Self::SaleNotOpen { .. } => ProblemType::SaleNotOpen,
            Self::SaleClosed => ProblemType::SaleClosed,
            Self::SoldOut => ProblemType::SoldOut,
            Self::Blacklisted(_) => ProblemType::Blacklisted,
            Self::ClientQuota(_) => ProblemType::ClientQuota,
            Self::PassRequired => ProblemType::PassRequired,
            Self::PassInvalid(_) => ProblemType::PassInvalid,
            Self::DeniedByPolicy(_) => ProblemType::DeniedByPolicy,
            Self::ConfigRefused(_) => ProblemType::ConfigRefused,
            Self::ReloadUnderWay => ProblemType::ReloadUnderWay,
            Self::Overloaded(_) => ProblemType::Overloaded,
            Self::LimitReached(_) => ProblemType::LimitReached,
            Self::NotEnoughStock { .. } => ProblemType::NotEnoughStock,
            Self::IdempotencyMismatch => ProblemType::IdempotencyMismatch,
            Self::TicketNotFound => ProblemType::TicketNotFound,
            Self::WrongState { .. } => ProblemType::WrongState,
            Self::Journal(_) | Self::Unknown { .. } | Self::NotOnDisk | Self::QueueBusy(_) => {
                ProblemType::QueueUnavailable
            }
            Self::SalePaused => ProblemType::SalePaused,
            Self::LedgerFull(_) | Self::LedgerUnavailable(_) => ProblemType::LedgerUnavailable,
            Self::Sale(error) => match error {
                SaleError::NotFound => ProblemType::SaleNotFound,
                SaleError::StockAlreadySet { .. } => ProblemType::StockAlreadySet,
                SaleError::RestockMismatch { .. } => ProblemType::RestockMismatch,
                SaleError::Invalid(_) => ProblemType::BadRequest,
                SaleError::Full { .. } => ProblemType::LedgerUnavailable,
                SaleError::Journal(_) => ProblemType::QueueUnavailable,
            },
            Self::TopicReserved => ProblemType::TopicReserved,
            Self::TopicNotFound => ProblemType::TopicNotFound,
            Self::GroupNotFound => ProblemType::GroupNotFound,
            Self::TransactionNotFound => ProblemType::TransactionNotFound,
            Self::AlreadyResolved(_) => ProblemType::AlreadyResolved,
            Self::SequenceTooOld => ProblemType::SequenceTooOld,
            Self::SequenceMismatch => ProblemType::SequenceMismatch,
            Self::UpstreamUnavailable => ProblemType::UpstreamUnavailable,
            Self::UpstreamTimeout => ProblemType::UpstreamTimeout,
        }
    }

    /// The HTTP answer.
    pub fn answer(&self) -> Answer {
        let kind = self.problem_type();
        let document = || Problem::new(kind);
        match self {
            Self::SoldOut
            | Self::Blacklisted(None)
            | Self::SaleClosed
            | Self::SaleNotFound
            | Self::NotFound
            | Self::PayloadTooLarge
            | Self::RequestTimeout
            | Self::IdempotencyMismatch
            | Self::TicketNotFound
            | Self::Forbidden
            | Self::PassRequired
            | Self::TopicReserved
            | Self::TopicNotFound
            | Self::GroupNotFound
            | Self::SequenceMismatch
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout
            | Self::ReloadUnderWay => plain(kind),
            Self::TransactionNotFound => problem(&document().detail(
                "it never was one, it was resolved long ago, or it was begun at another gateway: ask that one",
            )),
            Self::AlreadyResolved(resolution) => {
                let mut document = document();
                let resolution = serde_json::to_value(resolution).unwrap_or_default();
                document.other.insert("resolution".to_owned(), resolution);
                problem(&document)
            }
            Self::SequenceTooOld => problem(&document().detail(
                "it may have been sent before or not: look for its messages by their keys before you send them \
                 under a new number",
            )),
            Self::DeniedByPolicy(why) => problem(&document().detail(why.as_str())),
            Self::PassInvalid(fault) => problem(&document().detail(fault.to_string())),
            Self::BadRequest(why) => problem(&document().detail(why.clone())),
            Self::MethodNotAllowed(allowed) => {
                let mut answer = plain(kind);
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                answer
            }
            Self::MethodNotForwarded(allowed) => {
                let mut answer = plain(kind);
                answer.headers_mut().insert(ALLOW, allowed.clone());
                answer
            }
            Self::Unauthenticated(why) => challenge(problem(&document().detail(*why))),
            Self::TokenMissing => {
                challenge(problem(&document().detail("a bearer token of the inner listener is required")))
            }
            Self::SaleNotOpen { opens_at_ms, retry_after } => {
                let mut document = document();
                document.opens_at_ms = *opens_at_ms;
                document.retry_after_ms = Some(retry_after.as_millis() as u64);
                with_retry_after(problem(&document), *retry_after)
            }
            Self::ClientQuota(exceeded) => {
                let mut document = document();
                document.retry_after_ms = Some(exceeded.retry_after.as_millis() as u64);
                let mut answer = with_retry_after(problem(&document), exceeded.retry_after);
                exceeded.tell(&mut answer);
                answer
            }
            Self::Blacklisted(Some(after)) | Self::Overloaded(after) => {
                let mut document = document();
                document.retry_after_ms = Some(after.as_millis() as u64);
                with_retry_after(problem(&document), *after)
            }
            Self::LimitReached(tickets) => {
                let mut document = document();
                document.tickets = Some(tickets.iter().map(|ticket| ticket.to_string().into()).collect());
                problem(&document)
            }
            Self::NotEnoughStock { available } => {
                let mut document = document();
                document.available = Some(*available);
                problem(&document)
            }
            Self::WrongState { ticket, refund_required } => {
                let mut document = document();
                document.ticket = Some(ProblemTicket::Object(ticket.clone()));
                document.refund_required = *refund_required;
                problem(&document)
            }
            Self::Unknown { ticket } => {
                let mut document = document().detail(
                    "the outcome is not known yet: repeat the request with the same Idempotency-Key, or ask \
                     for the ticket",
                );
                document.ticket = ticket.map(|ticket| ProblemTicket::Id(ticket.to_string().into()));
                with_retry_after(problem(&document), RESTART_RETRY)
            }
            Self::NotOnDisk => {
                let why = "the outcome is not known yet: it is not on disk, and may get there or not; repeat the \
                           request, a publish with `producer_id` and `sequence`, else it may come twice";
                with_retry_after(problem(&document().detail(why)), RESTART_RETRY)
            }
            Self::SalePaused => {
                let why =
                    "the stock is being checked after a failure; nothing was sold or lost by this request";
                with_retry_after(problem(&document().detail(why)), JOURNAL_RETRY)
            }
            Self::LedgerUnavailable(why) => {
                with_retry_after(problem(&document().detail(why.as_ref())), JOURNAL_RETRY)
            }
            Self::LedgerFull(why) | Self::QueueBusy(why) => {
                with_retry_after(problem(&document().detail(*why)), JOURNAL_RETRY)
            }
            Self::Journal(error) | Self::Sale(SaleError::Journal(error)) => journal(document(), *error),
            Self::Sale(error) => problem(&document().detail(error.to_string())),
            Self::ConfigRefused(problems) => config_refused(document(), problems),
        }
    }
}

fn journal(document: Problem<'_>, error: JournalError) -> Answer {
    with_retry_after(problem(&document.detail(error.to_string())), JOURNAL_RETRY)
}

fn config_refused(mut document: Problem<'_>, problems: &[ConfigProblem]) -> Answer {
    let lines = problems.iter().map(|problem| problem.to_string().into()).collect();
    document.other.insert("problems".to_owned(), serde_json::Value::Array(lines));
    problem(
        &document
            .detail("the present configuration goes on; `problems` lists what is wrong with the new one"),
    )
}

fn challenge(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<PassFault> for Refusal {
    fn from(fault: PassFault) -> Self {
        Self::PassInvalid(fault)
    }
}

impl From<SaleError> for Refusal {
    fn from(error: SaleError) -> Self {
        Self::Sale(error)
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::PayloadTooLarge,
            BodyError::TimedOut => Self::RequestTimeout,
            BodyError::Broken => Self::BadRequest("the request body ended early or is badly framed".into()),
        }
    }
}
