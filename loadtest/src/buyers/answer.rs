//! An HTTP answer, understood. What the interface does not document is kept apart, never guessed at.

use crate::evidence::TicketId;
use serde::Deserialize;
use std::borrow::Cow;
use tidegate_client::wire::{ProblemType, TicketStatus};

/// What came back for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ticket(TicketAnswer),
    Refused(ProblemType),
    /// Refused for so many ms: too early, or too often.
    Later(ProblemType, u64),
    /// Not known yet whether this ticket is won.
    NotYet(ProblemType, TicketId),
    /// Answered, but not as documented.
    Undocumented(String),
    /// No answer: refused connection, broken connection, timeout.
    Lost,
}

/// A ticket object, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TicketAnswer {
    pub(crate) ticket: TicketId,
    pub(crate) status: TicketStatus,
    pub(crate) version: u32,
    pub(crate) quantity: u32,
    pub(crate) won_at_ms: u64,
}

#[derive(Deserialize)]
struct TicketBody<'a> {
    #[serde(borrow)]
    ticket: Cow<'a, str>,
    status: TicketStatus,
    version: u32,
    quantity: u32,
    won_at_ms: u64,
}

#[derive(Deserialize)]
struct ProblemBody<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    retry_after_ms: Option<u64>,
    /// An id where the outcome is not known yet; an object elsewhere.
    ticket: Option<serde_json::Value>,
}

impl Answer {
    /// Reads status and body of an answer whose success has the status `success`.
    pub(crate) fn read(success: u16, status: u16, body: &[u8]) -> Self {
        let understood = if status == success { Self::ticket(body) } else { Self::problem(status, body) };
        understood.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
            Self::Undocumented(format!("status {status}: {text}"))
        })
    }

    fn ticket(body: &[u8]) -> Option<Self> {
        let body: TicketBody<'_> = serde_json::from_slice(body).ok()?;
        Some(Self::Ticket(TicketAnswer {
            ticket: TicketId::parse(&body.ticket)?,
            status: body.status,
            version: body.version,
            quantity: body.quantity,
            won_at_ms: body.won_at_ms,
        }))
    }

    fn problem(status: u16, body: &[u8]) -> Option<Self> {
        let body: ProblemBody<'_> = serde_json::from_slice(body).ok()?;
        let problem = ProblemType::from_slug(&body.kind)?;
        if problem.status() != status || problem == ProblemType::Internal {
            return None;
        }
        let ticket = body.ticket.as_ref().and_then(serde_json::Value::as_str).and_then(TicketId::parse);
        Some(match ticket.filter(|_| status == 503) {
            Some(ticket) => Self::NotYet(problem, ticket),
            None => match (problem, body.retry_after_ms) {
                (ProblemType::SaleNotOpen | ProblemType::ClientQuota, Some(ms)) => Self::Later(problem, ms),
                _ => Self::Refused(problem),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "01K00000000000000000000001";

    #[test]
    fn a_documented_answer_is_understood() {
        let body = format!(
            r#"{{"ticket":"{TICKET}","sale":"s","item":"i","buyer":"b1","quantity":1,"status":"queued","version":1,
            "won_at_ms":5,"deadline_ms":9,"updated_at_ms":5}}"#
        );
        let Answer::Ticket(ticket) = Answer::read(202, 202, body.as_bytes()) else { panic!() };
        assert_eq!((ticket.ticket.as_str(), ticket.version, ticket.won_at_ms), (TICKET, 1, 5));
        let sold_out = br#"{"type":"sold-out","title":"Sold out","status":410}"#;
        assert_eq!(Answer::read(202, 410, sold_out), Answer::Refused(ProblemType::SoldOut));
    }

    #[test]
    fn a_503_with_a_ticket_is_not_known_yet() {
        let body = format!(r#"{{"type":"ledger-unavailable","status":503,"ticket":"{TICKET}"}}"#);
        let ticket = TicketId::parse(TICKET).unwrap();
        let expected = Answer::NotYet(ProblemType::LedgerUnavailable, ticket);
        assert_eq!(Answer::read(202, 503, body.as_bytes()), expected);
    }

    #[test]
    fn anything_else_is_undocumented() {
        let cases: [(u16, &[u8]); 5] = [
            (500, br#"{"type":"internal"}"#),
            (404, br#"{"type":"sold-out"}"#),
            (410, br#"{"type":"sold-off"}"#),
            (410, b"<html>"),
            (202, br#"{"ticket":"short"}"#),
        ];
        for (status, body) in cases {
            assert!(matches!(Answer::read(202, status, body), Answer::Undocumented(_)), "{status}");
        }
    }
}
