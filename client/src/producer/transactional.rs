//! Messages that go out if, and only if, something else has happened.

use crate::wire::{PublishMessage, Resolution, Resolved};
use crate::{Client, ClientError, Fleet};
use std::sync::Arc;

/// Sends messages whose fate hangs on work of one's own: the message is on disk, unseen, before the work begins, and is
/// delivered once the work says so. Whoever of the group runs [`TransactionProducer::answer_checks`] is asked for those
/// whose producer has died on the way.
///
/// ```no_run
/// # async fn paid(order: &str, transaction: &str) -> bool { true }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate_client::wire::{PublishMessage, Resolution};
/// use tidegate_client::{Client, Fleet, TransactionProducer};
///
/// let client = Client::new("http://127.0.0.1:8081")?;
/// let producer = TransactionProducer::new(client.clone(), "tills");
///
/// // In the background, in at least one process of the group.
/// let answering = producer.clone();
/// tokio::spawn(async move {
///     let check = |check: tidegate_client::wire::TransactionCheck<'static>| async move {
///         // The row that the work writes in its own transaction tells.
///         if paid("order-1", &check.transaction).await { Resolution::Commit } else { Resolution::Rollback }
///     };
///     answering.answer_checks(check, std::future::pending()).await
/// });
///
/// let message = PublishMessage::json(&"order-1 is paid")?;
/// let done = producer
///     .send(&client, "mail", message, |transaction| async move {
///         // Take the money, and write down in the same database transaction that `transaction` did so.
///         if paid("order-1", &transaction).await { Resolution::Commit } else { Resolution::Rollback }
///     })
///     .await?;
/// println!("{:?}", done.resolution);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct TransactionProducer {
    pub(super) fleet: Fleet,
    pub(super) group: Arc<str>,
}

impl TransactionProducer {
    /// A member of this producer group. A [`Client`] is a fleet of one.
    pub fn new(fleet: impl Into<Fleet>, group: &str) -> Self {
        Self { fleet: fleet.into(), group: group.into() }
    }

    /// Begins at this gateway, does the work, resolves. The work is given the transaction's id; what it answers is told.
    ///
    /// After an error of the beginning the work was not done, and there may be a half message that is checked: it has to be
    /// found to be none, by its id. After an error of the resolution the work was done, and a check will ask for it.
    ///
    /// Cancel safety: the same; a check asks for whatever was begun.
    pub async fn send<W, F>(
        &self,
        gateway: &Client,
        topic: &str,
        message: PublishMessage<'_>,
        work: W,
    ) -> Result<Resolved, ClientError>
    where
        W: FnOnce(String) -> F,
        F: Future<Output = Resolution>,
    {
        let transaction = gateway.begin_transaction(topic, &self.group, message).await?;
        let resolution = work(transaction.clone()).await;
        gateway.resolve_transaction(&transaction, resolution).await
    }
}
