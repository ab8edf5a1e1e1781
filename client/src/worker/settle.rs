//! Acks and nacks, batched: while one call is under way the next batch collects. A gateway that is away holds
//! this task up, then the verdicts' channel fills, then nothing more is received from it: nothing grows.

use super::lease::Shared;
use crate::ClientError;
use crate::wire::LeaseResult;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Receipts in one call, at most.
const BATCH_MAX: usize = 256;

pub(super) struct Settlement {
    pub(super) receipt: String,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ack,
    Nack { delay_ms: Option<u64> },
}

/// Until every sender is gone.
pub(super) async fn run(shared: Arc<Shared>, mut incoming: mpsc::Receiver<Settlement>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while incoming.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut acks = Vec::new();
        let mut nacks = BTreeMap::<Option<u64>, Vec<String>>::new();
        for Settlement { receipt, verdict } in batch.drain(..) {
            match verdict {
                Verdict::Ack => acks.push(receipt),
                Verdict::Nack { delay_ms } => nacks.entry(delay_ms).or_default().push(receipt),
            }
        }
        let (topic, group, stats) = (&*shared.topic, &*shared.group, &shared.stats);
        if !acks.is_empty() {
            let answer = shared.client.ack(topic, group, &acks).await;
            stats.acked.add(shared.count(answer, acks.len()));
        }
        for (delay_ms, receipts) in nacks {
            let answer = shared.client.nack(topic, group, &receipts, delay_ms).await;
            stats.nacked.add(shared.count(answer, receipts.len()));
        }
    }
}

impl Shared {
    /// How many of `asked` the gateway took; the others are counted as what they are.
    fn count(&self, answer: Result<Vec<LeaseResult<'static>>, ClientError>, asked: usize) -> u64 {
        match answer {
            Ok(results) => {
                let taken = results.iter().filter(|result| result.ok).count();
                self.stats.refused.add(asked.saturating_sub(taken) as u64);
                taken as u64
            }
            Err(error) => {
                tracing::warn!(topic = %self.topic, group = %self.group, messages = asked, %error,
                    "messages stay unsettled and come again when their leases end");
                self.stats.unsettled.add(asked as u64);
                0
            }
        }
    }
}
