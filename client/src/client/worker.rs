//! Worker API: messages under lease, publishing, ticket transitions, topics and groups.

use super::transport::{Call, Repeat, segment};
use super::{Client, ClientError};
use crate::wire::{
    BeginTransaction, Begun, CancelledRequest, ChecksAnswer, ChecksRequest, CreatedRequest, GroupOffsets,
    LeaseAnswer, LeaseResult, Message, PaidRequest, ProblemTicket, ProblemType, PublishAnswer,
    PublishMessage, PublishRequest, Published, PutGroup, PutTopic, ReceiveAnswer, ReceiveRequest,
    RejectedRequest, ResetGroup, Resolution, ResolveTransaction, Resolved, StartFrom, Ticket,
    TransactionCheck,
};
use serde::Serialize;
use serde::de::IgnoredAny;
use std::time::Duration;

/// What became of a ticket transition that reached the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transitioned {
    /// It took effect, now or when it was sent before. The ticket is as it stands now: a repeat may find it
    /// further on, even released.
    Done(Ticket<'static>),
    /// The ticket's state does not allow it (`wrong-state`).
    Refused(Refusal),
}

/// See [`Transitioned::Refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As it stands.
    pub ticket: Option<Ticket<'static>>,
    /// Money came for a ticket that is not payable: give it back.
    pub refund_required: bool,
    /// The gateway's words.
    pub detail: String,
}

#[derive(Serialize)]
struct LeaseChange<'a> {
    receipts: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
}

impl Client {
    /// Leases up to `request.max` messages, waiting up to `request.wait_ms` for the first one; empty after that.
    ///
    /// Cancel safety: a message that was leased while the answer was lost comes again when its lease ends.
    pub async fn receive(
        &self,
        topic: &str,
        group: &str,
        request: &ReceiveRequest,
    ) -> Result<Vec<Message<'static>>, ClientError> {
        let call = Call::post(group_path(topic, group, "/receive"))
            .json(request)
            .wait(Duration::from_millis(request.wait_ms));
        let answer: ReceiveAnswer<'static> = self.shared.call(call).await?;
        Ok(answer.messages)
    }

    /// Settles messages for good; results in the order of the receipts. Cancel safety: repeat it.
    pub async fn ack(
        &self,
        topic: &str,
        group: &str,
        receipts: &[String],
    ) -> Result<Vec<LeaseResult<'static>>, ClientError> {
        self.leases(topic, group, "/ack", &LeaseChange { receipts, delay_ms: None, lease_ms: None }).await
    }

    /// Gives messages back, to be delivered again after `delay_ms`, or after the group's back-off. Cancel
    /// safety: repeat it; a second one is refused as expired and does no harm.
    pub async fn nack(
        &self,
        topic: &str,
        group: &str,
        receipts: &[String],
        delay_ms: Option<u64>,
    ) -> Result<Vec<LeaseResult<'static>>, ClientError> {
        self.leases(topic, group, "/nack", &LeaseChange { receipts, delay_ms, lease_ms: None }).await
    }

    /// Prolongs leases to `lease_ms` from now; each result carries the new receipt, the old one is void.
    ///
    /// Cancel safety: where the answer is lost, so may be the new receipt; the message then comes again when
    /// its lease ends.
    pub async fn extend(
        &self,
        topic: &str,
        group: &str,
        receipts: &[String],
        lease_ms: u64,
    ) -> Result<Vec<LeaseResult<'static>>, ClientError> {
        self.leases(
            topic,
            group,
            "/extend",
            &LeaseChange { receipts, delay_ms: None, lease_ms: Some(lease_ms) },
        )
        .await
    }

    async fn leases(
        &self,
        topic: &str,
        group: &str,
        verb: &str,
        body: &LeaseChange<'_>,
    ) -> Result<Vec<LeaseResult<'static>>, ClientError> {
        let answer: LeaseAnswer<'static> =
            self.shared.call(Call::post(group_path(topic, group, verb)).json(body)).await?;
        Ok(answer.results)
    }

    /// Appends one atomic batch. With `producer_id` and `sequence` a repeat answers the first offsets, so it is
    /// retried like any call; without them only where no connection came about.
    ///
    /// Cancel safety: without a producer id the batch may or may not be in the log.
    pub async fn publish(
        &self,
        topic: &str,
        request: &PublishRequest<'_>,
    ) -> Result<Vec<Published>, ClientError> {
        let known_producer = request.producer_id.is_some() && request.sequence.is_some();
        let repeat = if known_producer { Repeat::Always } else { Repeat::IfRefused };
        let path = format!("/v1/topics/{}/messages", segment(topic));
        let answer: PublishAnswer = self.shared.call(Call::post(path).json(request).repeat(repeat)).await?;
        Ok(answer.results)
    }

    /// Begins a transaction; answers its id. The message is on disk, and nobody sees it before the commit. Sent again only
    /// where no connection came about: two beginnings are two transactions.
    ///
    /// Cancel safety: there may be a half message that nobody knows; the producer group is asked for it.
    pub async fn begin_transaction(
        &self,
        topic: &str,
        producer_group: &str,
        message: PublishMessage<'_>,
    ) -> Result<String, ClientError> {
        let body = BeginTransaction { message, producer_group: producer_group.into() };
        let path = format!("/v1/topics/{}/transactions", segment(topic));
        let begun: Begun = self.shared.call(Call::post(path).json(&body).repeat(Repeat::IfRefused)).await?;
        Ok(begun.transaction)
    }

    /// Commits a transaction, rolls it back, or says that it is not known yet. Refused as `already-resolved` when it was
    /// resolved the other way. At the gateway where it was begun. Cancel safety: repeat it.
    pub async fn resolve_transaction(
        &self,
        transaction: &str,
        resolution: Resolution,
    ) -> Result<Resolved, ClientError> {
        let path = format!("/v1/transactions/{}", segment(transaction));
        self.shared.call(Call::post(path).json(&ResolveTransaction { resolution })).await
    }

    /// Transactions of a producer group that nobody has resolved in time, waiting up to `request.wait_ms` for the first
    /// one. Cancel safety: what was lost on its way is asked again at the next check.
    pub async fn transaction_checks(
        &self,
        producer_group: &str,
        request: &ChecksRequest,
    ) -> Result<Vec<TransactionCheck<'static>>, ClientError> {
        let path = format!("/v1/producer-groups/{}/checks", segment(producer_group));
        let call = Call::post(path).json(request).wait(Duration::from_millis(request.wait_ms));
        let answer: ChecksAnswer<'static> = self.shared.call(call).await?;
        Ok(answer.checks)
    }

    /// Tells that the order row exists. Cancel safety: repeat it with the same `order_id`.
    pub async fn created(&self, ticket: &str, order_id: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "created", &CreatedRequest { order_id: order_id.into() }).await
    }

    /// Tells that no order can be created. Cancel safety: repeat it.
    pub async fn rejected(&self, ticket: &str, reason: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "rejected", &RejectedRequest { reason: reason.into() }).await
    }

    /// Tells that money came. Refused with `refund_required` when the ticket is not payable. Cancel safety:
    /// repeat it with the same `payment_id`.
    pub async fn paid(&self, ticket: &str, payment_id: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "paid", &PaidRequest { payment_id: payment_id.into() }).await
    }

    /// Tells that buyer or shop cancelled. Cancel safety: repeat it.
    pub async fn cancelled(&self, ticket: &str, reason: &str) -> Result<Transitioned, ClientError> {
        self.transition(ticket, "cancelled", &CancelledRequest { reason: reason.into() }).await
    }

    pub(crate) async fn transition(
        &self,
        ticket: &str,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<Transitioned, ClientError> {
        let call = Call::post(format!("/v1/tickets/{}/{verb}", segment(ticket))).json(body);
        match self.shared.call(call).await {
            Ok(ticket) => Ok(Transitioned::Done(ticket)),
            Err(ClientError::Problem { problem, .. })
                if problem.problem_type() == Some(ProblemType::WrongState) =>
            {
                let ticket = match problem.ticket {
                    Some(ProblemTicket::Object(ticket)) => Some(*ticket),
                    Some(ProblemTicket::Id(_)) | None => None,
                };
                Ok(Transitioned::Refused(Refusal {
                    ticket,
                    refund_required: problem.refund_required,
                    detail: problem.detail.into_owned(),
                }))
            }
            Err(error) => Err(error),
        }
    }

    /// Creates a topic, or gives it more queues. Cancel safety: repeat it.
    pub async fn put_topic(&self, topic: &str, queues: u32) -> Result<(), ClientError> {
        let call = Call::put(format!("/v1/topics/{}", segment(topic))).json(&PutTopic { queues });
        self.shared.call::<IgnoredAny>(call).await.map(drop)
    }

    /// Forgets a group with all that it was owed, or a broadcast with its consumers; a single consumer is the group
    /// `GROUP%CONSUMER`. Refused as `group-not-found` when there is none. Cancel safety: repeat it.
    pub async fn delete_group(&self, topic: &str, group: &str) -> Result<(), ClientError> {
        self.shared.call::<IgnoredAny>(Call::delete(group_path(topic, group, ""))).await.map(drop)
    }

    /// Creates a group, or changes its mode, attempts and delays. Cancel safety: repeat it.
    pub async fn put_group(&self, topic: &str, group: &str, settings: &PutGroup) -> Result<(), ClientError> {
        let call = Call::put(group_path(topic, group, "")).json(settings);
        self.shared.call::<IgnoredAny>(call).await.map(drop)
    }

    /// Moves a group. Cancel safety: repeat it.
    pub async fn reset_group(&self, topic: &str, group: &str, to: StartFrom) -> Result<(), ClientError> {
        let call = Call::post(group_path(topic, group, "/reset")).json(&ResetGroup { to });
        self.shared.call::<IgnoredAny>(call).await.map(drop)
    }

    /// The message of that id, as a list of none or one. Reads only.
    pub async fn messages_by_id(&self, topic: &str, id: &str) -> Result<Vec<Message<'static>>, ClientError> {
        self.find(topic, "id", id).await
    }

    /// Messages with that key. Reads only.
    pub async fn messages_by_key(
        &self,
        topic: &str,
        key: &str,
    ) -> Result<Vec<Message<'static>>, ClientError> {
        self.find(topic, "key", key).await
    }

    async fn find(&self, topic: &str, by: &str, value: &str) -> Result<Vec<Message<'static>>, ClientError> {
        let path = format!("/v1/topics/{}/messages?{by}={}", segment(topic), segment(value));
        let answer: ReceiveAnswer<'static> = self.shared.call(Call::get(path)).await?;
        Ok(answer.messages)
    }

    /// What became of every offset in a group, for loss detection. Reads only.
    pub async fn offsets(&self, topic: &str, group: &str) -> Result<GroupOffsets, ClientError> {
        self.shared.call(Call::get(group_path(topic, group, "/offsets"))).await
    }
}

pub(super) fn group_path(topic: &str, group: &str, rest: &str) -> String {
    format!("/v1/topics/{}/groups/{}{rest}", segment(topic), segment(group))
}
