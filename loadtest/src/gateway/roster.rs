//! The address list: which gateways buyers, workers and observers may turn to. Faults change it, all others read it.
//!
//! A gateway that is down for a while stays on it, as it would behind a load balancer; one that never comes back is
//! taken off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tidegate_client::client::{BuildError, Client, ClientError, RetryPolicy};
use tokio::sync::watch;

/// One attempt of a call, without its own wait: short of a worker's lease, so that a gateway which stands still costs
/// nobody else's orders.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two rounds over all gateways.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_millis(250);

/// One gateway on the list.
#[derive(Debug)]
pub(crate) struct Member {
    /// Never given twice: a gateway that begins anew with an empty folder is another member.
    pub(crate) number: u32,
    pub(crate) public: SocketAddr,
    /// Value of the `Host` header at the buyers' listener.
    pub(crate) host: String,
    /// Inner listener; one attempt a call.
    pub(crate) client: Client,
    /// How long a call is repeated.
    patience: Duration,
    retired: AtomicBool,
}

/// The members of one moment, in order of their numbers. Never empty.
pub(crate) type Members = Arc<Vec<Arc<Member>>>;

/// Shared by everybody.
#[derive(Debug)]
pub(crate) struct Roster {
    list: watch::Sender<Members>,
    token: Option<String>,
    patience: Duration,
}

impl Roster {
    /// Without members; `patience` bounds how long a call is repeated.
    pub(crate) fn new(token: Option<String>, patience: Duration) -> Self {
        Self { list: watch::Sender::new(Arc::default()), token, patience }
    }

    /// Puts a gateway on the list.
    pub(crate) fn join(&self, number: u32, public: SocketAddr, inner: &str) -> Result<(), BuildError> {
        let builder = Client::builder(inner).retry(RetryPolicy::none()).request_timeout(REQUEST_TIMEOUT);
        let builder = match &self.token {
            Some(token) => builder.token(token),
            None => builder,
        };
        let (client, host, patience) = (builder.build()?, public.to_string(), self.patience);
        let member =
            Arc::new(Member { number, public, host, client, patience, retired: AtomicBool::new(false) });
        self.list.send_modify(|list| {
            let mut members = list.as_ref().clone();
            members.push(member);
            *list = Arc::new(members);
        });
        Ok(())
    }

    /// Takes a gateway off the list for good; the last one stays.
    pub(crate) fn retire(&self, number: u32) {
        self.list.send_modify(|list| {
            let kept: Vec<_> = list.iter().filter(|member| member.number != number).cloned().collect();
            if !kept.is_empty() {
                list.iter()
                    .filter(|member| member.number == number)
                    .for_each(|member| member.retired.store(true, Relaxed));
                *list = Arc::new(kept);
            }
        });
    }

    /// The list as it is now.
    pub(crate) fn members(&self) -> Members {
        self.list.borrow().clone()
    }

    /// The list as it is now and each change of it.
    pub(crate) fn watch(&self) -> watch::Receiver<Members> {
        self.list.subscribe()
    }

    /// A call that any gateway may take: one after the other from the `first` on, until one answers for good or
    /// patience is at its end.
    pub(crate) async fn anywhere<T, F>(
        &self,
        first: u64,
        call: impl Fn(Client) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let ends = tokio::time::Instant::now() + self.patience;
        let mut pause = PAUSE_FIRST;
        let mut turn = first as usize;
        loop {
            let members = self.members();
            for _ in 0..members.len() {
                turn = turn.wrapping_add(1);
                match call(members[turn % members.len()].client.clone()).await {
                    Err(error) if error.is_transient() && tokio::time::Instant::now() < ends => {}
                    answer => return answer,
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }
}

impl Member {
    /// It never comes back.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// A call that only this gateway can take, until it answers for good, is gone for good, or patience is at its end.
    pub(crate) async fn insist<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let ends = tokio::time::Instant::now() + self.patience;
        let mut pause = PAUSE_FIRST;
        loop {
            match call(self.client.clone()).await {
                Err(error)
                    if error.is_transient() && !self.is_retired() && tokio::time::Instant::now() < ends =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_LAST);
                }
                answer => return answer,
            }
        }
    }
}
