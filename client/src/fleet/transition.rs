//! A ticket transition on one gateway, or on another when that one does not answer.

use super::{Fleet, Member};
use crate::client::{ClientError, RetryPolicy, Transitioned};
use crate::wire::{CancelledRequest, CreatedRequest, PaidRequest, ProblemType, RejectedRequest};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// How long a gateway is given while there is another one to turn to; a busy one that says when to come again is
/// asked again within this.
const PATIENCE: Duration = Duration::from_secs(3);

/// Each is tried on the gateway preferred ([`Fleet::preferring`]), then on the others, those that answer first. The
/// next one is asked when a gateway does not answer, stays busy for 3 s, or does not know the ticket; what any of
/// them decides holds. The last one has the whole time of the client's [`RetryPolicy`]; whoever is asked after
/// that time is the last one. `ticket-not-found` is told only when all who were asked said so.
///
/// Transitions are idempotent on the ledger that the gateways share, so an attempt whose answer was lost on one
/// gateway is safely repeated on another.
///
/// Cancel safety: the transition may or may not take effect; repeat it with the same data to learn.
impl Fleet {
    /// As [`crate::Client::created`].
    pub async fn created(&self, ticket: &str, order_id: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "created", &CreatedRequest { order_id: order_id.into() }).await
    }

    /// As [`crate::Client::rejected`].
    pub async fn rejected(&self, ticket: &str, reason: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "rejected", &RejectedRequest { reason: reason.into() }).await
    }

    /// As [`crate::Client::paid`].
    pub async fn paid(&self, ticket: &str, payment_id: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "paid", &PaidRequest { payment_id: payment_id.into() }).await
    }

    /// As [`crate::Client::cancelled`].
    pub async fn cancelled(&self, ticket: &str, reason: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "cancelled", &CancelledRequest { reason: reason.into() }).await
    }

    async fn transition(
        &self,
        ticket: &str,
        verb: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Transitioned, ClientError> {
        let started = Instant::now();
        let mut failed: Option<ClientError> = None;
        let mut candidates = self.candidates().into_iter().peekable();
        while let Some(member) = candidates.next() {
            let policy = member.client().retry();
            let last = candidates.peek().is_none() || started.elapsed() >= policy.total_max;
            let total_max = if last { policy.total_max } else { policy.total_max.min(PATIENCE) };
            let client = member.client().with_retry(RetryPolicy { total_max, ..policy });
            match client.transition(ticket, verb, body).await {
                Err(error) if error.is_transient() || is_unknown(&error) => {
                    if error.is_unreachable() {
                        member.set_answers(false);
                    }
                    // What may be mended by waiting says more than that the others do not know the ticket.
                    let error = failed.filter(|failed| !is_unknown(failed)).unwrap_or(error);
                    if last {
                        return Err(error);
                    }
                    tracing::debug!(gateway = member.name(), %error, "turning to another gateway");
                    failed = Some(error);
                }
                decided => return decided,
            }
        }
        unreachable!("a fleet has members, and the last one's answer is returned")
    }

    /// Everybody once, in the order in which to ask.
    fn candidates(&self) -> Vec<Member> {
        let members = self.members();
        let preferred = self.preferred.as_ref();
        let others = members.iter().filter(|member| Some(*member) != preferred);
        let mut candidates: Vec<Member> = preferred.into_iter().chain(others).cloned().collect();
        candidates.sort_by_key(|member| !member.answers());
        candidates
    }
}

fn is_unknown(error: &ClientError) -> bool {
    error.problem_type() == Some(ProblemType::TicketNotFound)
}
