//! Answers for transactions whose producer is gone, at all gateways.

use super::TransactionProducer;
use crate::client::Backoff;
use crate::wire::{ChecksRequest, ProblemType, Resolution, TransactionCheck};
use crate::{Client, ClientError, Member};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Pause after an answer that came back empty sooner than this.
const EMPTY_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause while a gateway is away.
const AWAY_DELAY_MAX: Duration = Duration::from_secs(5);

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChecksSummary {
    /// Checks that came.
    pub asked: u64,
    /// Committed or rolled back by their answers.
    pub resolved: u64,
}

#[derive(Debug, Default)]
struct Counts {
    asked: AtomicU64,
    resolved: AtomicU64,
}

impl TransactionProducer {
    /// Answers the checks of the group from every gateway of the fleet, one after the other at each, until `shutdown` is
    /// ready, or until every gateway refuses in a way that waiting does not mend. `check` looks up what became of the work
    /// and says so; [`Resolution::Unknown`] is asked again later. A check may come more than once, and at several
    /// processes of the group at the same time.
    ///
    /// Cancel safety: a check that is not answered comes again.
    pub async fn answer_checks<H, F>(
        &self,
        check: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<ChecksSummary, ClientError>
    where
        H: Fn(TransactionCheck<'static>) -> F + Send + Sync + 'static,
        F: Future<Output = Resolution> + Send + 'static,
    {
        tokio::pin!(shutdown);
        let (check, counts) = (Arc::new(check), Arc::new(Counts::default()));
        let summary = |counts: &Counts| ChecksSummary {
            asked: counts.asked.load(Ordering::Relaxed),
            resolved: counts.resolved.load(Ordering::Relaxed),
        };
        let mut following = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(summary(&counts)),
            following = self.fleet.follow() => following,
        };
        // Dropped, they end: what they were asked comes again.
        let mut tasks: JoinSet<(String, ClientError)> = JoinSet::new();
        let mut running: BTreeMap<String, (Member, AbortHandle)> = BTreeMap::new();
        let mut refused: BTreeSet<String> = BTreeSet::new();
        loop {
            let members = following.members();
            running.retain(|_, (member, task)| {
                let stays = members.contains(member);
                if !stays {
                    task.abort();
                }
                stays
            });
            for member in members.iter() {
                let url = member.url().to_owned();
                if running.contains_key(&url) || refused.contains(&url) {
                    continue;
                }
                let (client, group) = (member.client().clone(), Arc::clone(&self.group));
                let (check, counts, name) = (Arc::clone(&check), Arc::clone(&counts), url.clone());
                let task =
                    tasks.spawn(async move { (name, answer(&client, &group, &*check, &counts).await) });
                running.insert(url, (member.clone(), task));
            }
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(summary(&counts)),
                Some(ended) = tasks.join_next() => match ended {
                    Ok((url, error)) => {
                        tracing::warn!(gateway = url, %error, "a gateway refuses to be asked for checks");
                        running.remove(&url);
                        refused.insert(url);
                        if running.is_empty() {
                            return Err(error);
                        }
                    }
                    Err(aborted) if aborted.is_cancelled() => {}
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                () = following.changed() => refused.clear(),
            }
        }
    }
}

/// Answers the checks of one gateway until it refuses.
async fn answer<H, F>(client: &Client, group: &str, check: &H, counts: &Counts) -> ClientError
where
    H: Fn(TransactionCheck<'static>) -> F,
    F: Future<Output = Resolution>,
{
    let mut away = Backoff::new(Duration::from_millis(100), AWAY_DELAY_MAX);
    loop {
        let asked_at = Instant::now();
        let checks = match client.transaction_checks(group, &ChecksRequest::default()).await {
            Ok(checks) => {
                away.reset();
                checks
            }
            Err(error) if error.is_transient() => {
                tokio::time::sleep(away.next_delay(Duration::ZERO)).await;
                continue;
            }
            Err(error) => return error,
        };
        if checks.is_empty() && asked_at.elapsed() < EMPTY_PAUSE {
            // A gateway that drains answers at once.
            tokio::time::sleep(EMPTY_PAUSE).await;
        }
        for asked in checks {
            counts.asked.fetch_add(1, Ordering::Relaxed);
            let transaction = asked.transaction.clone().into_owned();
            let resolution = check(asked).await;
            match client.resolve_transaction(&transaction, resolution).await {
                Ok(_) if resolution == Resolution::Unknown => {}
                Ok(_) => _ = counts.resolved.fetch_add(1, Ordering::Relaxed),
                // Somebody was quicker.
                Err(error)
                    if matches!(
                        error.problem_type(),
                        Some(ProblemType::AlreadyResolved | ProblemType::TransactionNotFound)
                    ) => {}
                Err(error) => tracing::warn!(transaction, %error, "a check is not answered; it comes again"),
            }
        }
    }
}
