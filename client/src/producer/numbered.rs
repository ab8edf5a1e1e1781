//! A producer that numbers its batches: one that is sent again is in the log once.

use crate::client::Backoff;
use crate::wire::{Ack, PublishMessage, PublishRequest, Published};
use crate::{Client, ClientError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Sends numbered batches to one topic of one gateway, one after the other, and each again until it is answered.
///
/// The number is what makes a repeat harmless, also across restarts of either side. So the id must be this
/// producer's alone, and a number must never be used for other messages: keep the next one with whatever you send, or let a
/// row of your own be the number (an outbox table's key).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate_client::wire::PublishMessage;
/// use tidegate_client::{Client, Producer};
///
/// let client = Client::new("http://127.0.0.1:8081")?;
/// let producer = Producer::new(&client, "mail", "till-7", 1);
/// let mut message = PublishMessage::json(&"your order is on its way")?;
/// message.keys = vec!["order-1".to_owned()];
/// let sent = producer.send(vec![message]).await?;
/// println!("number {} is message {}", sent.sequence, sent.results[0].id);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Producer {
    client: Client,
    topic: String,
    id: String,
    ack: Option<Ack>,
    patience: Duration,
    /// Held while a batch is under way: the gateway knows the last 32 numbers, and batches keep their order.
    next: Mutex<u64>,
}

/// A batch that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub sequence: u64,
    /// One for each message. The first time or again: the same.
    pub results: Vec<Published>,
}

/// A batch that was not answered well. If the error [is transient](ClientError::is_transient), it may be in the log or not:
/// send the same messages again with [`Producer::send_as`] and this number to learn.
#[derive(Debug, thiserror::Error)]
#[error("batch {sequence} of producer {producer}: {source}")]
pub struct SendError {
    /// Whose.
    pub producer: String,
    /// Its number.
    pub sequence: u64,
    /// The last attempt's error.
    pub source: ClientError,
}

impl Producer {
    /// `next` is the number of the next batch: above all that this id has used. Batches are answered when they are
    /// durable as the gateway's flush mode has it, and sent again for up to a minute.
    pub fn new(client: &Client, topic: &str, id: &str, next: u64) -> Self {
        Self {
            client: client.clone(),
            topic: topic.to_owned(),
            id: id.to_owned(),
            ack: None,
            patience: Duration::from_mins(1),
            next: Mutex::new(next),
        }
    }

    /// When a batch is answered. With less than [`Ack::Disk`] a crash of the gateway may take a batch that was answered.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = Some(ack);
        self
    }

    /// How long one batch is sent again while the gateway is away or busy.
    #[must_use]
    pub fn patience(mut self, bound: Duration) -> Self {
        self.patience = bound;
        self
    }

    /// The number that the next [`Producer::send`] takes. Waits for the batch under way.
    pub async fn next_sequence(&self) -> u64 {
        *self.next.lock().await
    }

    /// Sends one atomic batch under the next number.
    ///
    /// Cancel safety: the number is used up, and the batch may be in the log or not. Where that matters, choose the
    /// number yourself: [`Producer::send_as`].
    pub async fn send(&self, messages: Vec<PublishMessage<'_>>) -> Result<Sent, SendError> {
        let mut next = self.next.lock().await;
        let sequence = *next;
        *next += 1;
        self.send_numbered(sequence, messages).await
    }

    /// Sends one atomic batch under this number, or learns what became of it. The gateway knows the highest 32 numbers of a
    /// producer; one below them is refused as `sequence-too-old`, one that came with other messages as
    /// `sequence-mismatch`.
    ///
    /// Cancel safety: repeat it with the same number and messages.
    pub async fn send_as(&self, sequence: u64, messages: Vec<PublishMessage<'_>>) -> Result<Sent, SendError> {
        let mut next = self.next.lock().await;
        *next = (*next).max(sequence.saturating_add(1));
        self.send_numbered(sequence, messages).await
    }

    async fn send_numbered(
        &self,
        sequence: u64,
        messages: Vec<PublishMessage<'_>>,
    ) -> Result<Sent, SendError> {
        let request = PublishRequest {
            messages,
            ack: self.ack,
            producer_id: Some(self.id.as_str().into()),
            sequence: Some(sequence),
        };
        let end = Instant::now() + self.patience;
        let policy = self.client.retry();
        let mut backoff = Backoff::new(policy.delay_base, policy.delay_max);
        loop {
            match self.client.publish(&self.topic, &request).await {
                Ok(results) => return Ok(Sent { sequence, results }),
                Err(error) if error.is_transient() && Instant::now() < end => {
                    tracing::debug!(producer = self.id, sequence, %error, "batch is sent again");
                    tokio::time::sleep(backoff.next_delay(Duration::ZERO)).await;
                }
                Err(source) => return Err(SendError { producer: self.id.clone(), sequence, source }),
            }
        }
    }
}
