//! Asks every known address for the list of gateways, as long as somebody follows the fleet.

use super::book::Heard;
use super::{Discovery, Fleet, Member, Shared};
use crate::Client;
use crate::client::RetryPolicy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The members after so many rounds.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) rounds: u64,
    pub(super) members: Arc<[Member]>,
}

/// The task; it ends when the last follower is gone.
#[derive(Debug)]
pub(super) struct Refreshing(AbortHandle);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sees the fleet change. While there is one, the list is kept up to date by a task of its own.
#[derive(Debug, Clone)]
pub struct Following {
    snapshots: watch::Receiver<Snapshot>,
    /// Keeps the sender, so that [`Following::changed`] waits rather than fails.
    _fleet: Arc<Shared>,
    _refreshing: Option<Arc<Refreshing>>,
}

impl Following {
    /// The members now; [`Following::changed`] waits for a round after this one.
    pub fn members(&mut self) -> Arc<[Member]> {
        Arc::clone(&self.snapshots.borrow_and_update().members)
    }

    /// Ready after each round, whether it brought anything new or not; never in a fleet that looks for no others.
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) {
        // Cannot fail: the sender is kept here.
        let _kept = self.snapshots.changed().await;
    }
}

impl Fleet {
    /// Keeps the list up to date as long as the answer lives; ready once the first round is over, which takes two
    /// probes at most. Must be called within a Tokio runtime.
    ///
    /// Cancel safe: without a follower the list is left as it is.
    pub async fn follow(&self) -> Following {
        let mut following = Following {
            snapshots: self.shared.members.subscribe(),
            _fleet: Arc::clone(&self.shared),
            _refreshing: Shared::refreshing(&self.shared),
        };
        drop(following.snapshots.wait_for(|snapshot| snapshot.rounds > 0).await);
        following
    }
}

impl Shared {
    /// The task that refreshes, started where there is none.
    fn refreshing(shared: &Arc<Self>) -> Option<Arc<Refreshing>> {
        shared.discovery.as_ref()?;
        let mut refreshing = shared.refreshing.lock();
        if let Some(running) = refreshing.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Refreshing(tokio::spawn(run(Arc::clone(shared))).abort_handle()));
        *refreshing = Arc::downgrade(&started);
        Some(started)
    }

    async fn round(&self, discovery: &Discovery) {
        let mut to_ask = self.book.lock().addresses();
        // Whom the known ones name is asked in the same round; whom those name, in the next one.
        for _ in 0..2 {
            let heard = ask_all(to_ask, discovery.probe_within).await;
            let mut book = self.book.lock();
            let reach = |url: &str| discovery.client.clone().at(url).build().ok();
            to_ask = heard.into_iter().flat_map(|(url, heard)| book.note(&url, heard, reach)).collect();
        }
        let members = self.book.lock().close_round();
        self.members.send_modify(|snapshot| {
            tell_changes(&snapshot.members, &members);
            snapshot.rounds += 1;
            snapshot.members = members;
        });
    }
}

async fn run(shared: Arc<Shared>) {
    let Some(discovery) = &shared.discovery else { return };
    loop {
        let jitter = 0.8 + 0.4 * rand::random::<f64>();
        let due = Instant::now() + discovery.every.mul_f64(jitter);
        shared.round(discovery).await;
        sleep_until(due).await;
    }
}

async fn ask_all(clients: Vec<Client>, within: Duration) -> Vec<(String, Heard)> {
    let mut asking = JoinSet::new();
    for client in clients {
        let once = RetryPolicy { total_max: within, ..RetryPolicy::none() };
        asking.spawn(async move {
            let heard = match client.with_retry(once).gateways().await {
                Ok(list) => Heard::List(list),
                Err(error) if error.is_unreachable() => Heard::Silence,
                Err(error) => {
                    tracing::debug!(%error, "no list of gateways");
                    Heard::Refusal
                }
            };
            (client.base_url().to_owned(), heard)
        });
    }
    asking.join_all().await
}

fn tell_changes(before: &[Member], after: &[Member]) {
    for member in after.iter().filter(|member| !before.contains(member)) {
        tracing::info!(gateway = member.name(), url = member.url(), "gateway found");
    }
    for member in before.iter().filter(|member| !after.iter().any(|now| now.url() == member.url())) {
        tracing::info!(
            gateway = member.name(),
            url = member.url(),
            "gateway no longer among those received from"
        );
    }
}
