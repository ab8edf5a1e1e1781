//! Consumers of a broadcast: each receives in a group of its own, `GROUP%CONSUMER`, which comes into being with its first
//! receive. Its receipts name it, because an ack names only the broadcast.

use super::off_the_loop;
use crate::http::Refusal;
use crate::state::Core;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tidegate_queue::{Queue, Receipt, ReceiptError};

/// Between receipt and consumer; no receipt of the queue holds it, nor does a name.
const BETWEEN: char = '~';

/// Who receives.
pub(super) struct Consumer<'a> {
    /// The group that it receives with.
    pub(super) group: Cow<'a, str>,
    /// Its name; `None` where the group is no broadcast.
    name: Option<&'a str>,
}

impl<'a> Consumer<'a> {
    /// Of a broadcast that sees this consumer for the first time it waits for the disk. Cancel safe.
    pub(super) async fn join(
        core: &Core,
        topic: &str,
        group: &'a str,
        name: Option<&'a str>,
    ) -> Result<Self, Refusal> {
        let queue = &core.app.queue;
        let Some(settings) = queue.broadcast(topic, group) else {
            return Ok(Self { group: Cow::Borrowed(group), name: None });
        };
        let Some(name) = name else {
            return Err(Refusal::BadRequest(
                "`consumer` is needed: this group is a broadcast, and each consumer sees every message"
                    .into(),
            ));
        };
        let own = format!("{group}%{name}");
        if queue.group_counts(topic, &own).is_none() {
            let (queue, topic) = (queue.clone(), topic.to_owned());
            let (broadcast, consumer) = (group.to_owned(), name.to_owned());
            off_the_loop(move || queue.join_broadcast(&topic, &broadcast, &consumer, settings)).await??;
        }
        Ok(Self { group: Cow::Owned(own), name: Some(name) })
    }

    /// Whether somebody has deleted the consumer meanwhile.
    pub(super) fn is_gone(&self, queue: &Queue, topic: &str) -> bool {
        self.name.is_some() && queue.group_counts(topic, &self.group).is_none()
    }

    /// The receipt as it is given out.
    pub(super) fn receipt(&self, receipt: Receipt) -> Receipt {
        match self.name {
            Some(name) => Receipt(format!("{}{BETWEEN}{name}", receipt.0)),
            None => receipt,
        }
    }
}

/// Does `each` with the receipts, each at the group that gave it out; results in the order of the receipts.
pub(super) fn at_their_groups<T>(
    group: &str,
    receipts: &[Receipt],
    mut each: impl FnMut(&str, &[Receipt]) -> Vec<Result<T, ReceiptError>>,
    renamed: impl Fn(T, &str) -> T,
) -> Vec<Result<T, ReceiptError>> {
    let mut by_consumer: BTreeMap<&str, (Vec<usize>, Vec<Receipt>)> = BTreeMap::new();
    for (index, receipt) in receipts.iter().enumerate() {
        if let Some((own, consumer)) = receipt.0.split_once(BETWEEN) {
            let (indexes, receipts) = by_consumer.entry(consumer).or_default();
            indexes.push(index);
            receipts.push(Receipt(own.to_owned()));
        }
    }
    if by_consumer.is_empty() {
        return each(group, receipts);
    }
    let mut results: Vec<_> = receipts.iter().map(|_| Err(ReceiptError::Expired)).collect();
    for (consumer, (indexes, receipts)) in by_consumer {
        let answers = each(&format!("{group}%{consumer}"), &receipts);
        for (index, answer) in indexes.into_iter().zip(answers) {
            results[index] = answer.map(|done| renamed(done, consumer));
        }
    }
    // Receipts without a consumer among others with one are of no group of the broadcast: they stay expired.
    results
}

/// A new receipt of the queue as it is given out.
pub(super) fn named(receipt: &Receipt, consumer: &str) -> Receipt {
    Receipt(format!("{}{BETWEEN}{consumer}", receipt.0))
}
