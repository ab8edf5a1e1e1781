//! Follows the fleet: a source for each gateway that is a member, none for those that are no more; the stop.

use super::room::Room;
use super::source::{Common, Source};
use super::{Retry, Worker, WorkerSummary};
use crate::wire::Message;
use crate::{ClientError, Member};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

impl Worker {
    /// Runs until `shutdown` is ready, or until no gateway is left that does not refuse in a way that waiting does
    /// not mend (bad token, bad request). `Ok(())` from the handler acks the message, [`Retry`] gives it back; so
    /// does a panic.
    ///
    /// Gateways that join are received from within a refresh of the fleet's list; those that do not answer are tried
    /// again and again, as long as they are members; one that refuses is tried again at the next refresh. Handlers
    /// of a gateway that left run to their end.
    ///
    /// The stop is graceful: no further receive; what the last ones still bring is given back; running handlers get
    /// `stop_within`, then they are aborted and their messages given back at once; acks under way are waited for.
    ///
    /// Cancel safety: dropping this future aborts the handlers and settles nothing; the messages come again
    /// when their leases end. Use `shutdown` instead.
    pub async fn run<H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<WorkerSummary, ClientError>
    where
        H: Fn(Message<'static>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Retry>> + Send + 'static,
    {
        self.run_from(move |message, _| handler(message), shutdown).await
    }

    /// As [`Worker::run`], for a handler that wants to know which gateway delivered, to report to it first
    /// ([`crate::Fleet::preferring`]).
    pub async fn run_from<H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<WorkerSummary, ClientError>
    where
        H: Fn(Message<'static>, Member) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Retry>> + Send + 'static,
    {
        tokio::pin!(shutdown);
        let stats = Arc::clone(&self.stats);
        let mut following = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(stats.summary()),
            following = self.fleet.follow() => following,
        };
        let (stop, stopping) = watch::channel(false);
        let room = Room::new(self.concurrency);
        let mut sources = Sources {
            common: Arc::new(Common { worker: self, handler, room, stopping }),
            tasks: JoinSet::new(),
            entries: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        let outcome = loop {
            sources.align(&following.members());
            tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                ended = sources.ended() => {
                    if let Err(error) = ended {
                        if sources.receiving() == 0 {
                            break Err(error);
                        }
                        tracing::warn!(%error, "a gateway refuses; the others go on");
                    }
                }
                () = following.changed() => sources.refused.clear(),
            }
        };
        stop.send_replace(true);
        sources.common.room.close();
        sources.entries.values_mut().for_each(|entry| entry.leave = None);
        while !sources.tasks.is_empty() {
            // What they refuse now changes nothing.
            let _ended = sources.ended().await;
        }
        outcome.map(|()| stats.summary())
    }
}

/// By address: at most one source each, so that a gateway that comes and goes piles nothing up.
struct Sources<H> {
    common: Arc<Common<H>>,
    tasks: JoinSet<(String, Result<(), ClientError>)>,
    entries: BTreeMap<String, Entry>,
    /// Not tried again before the next refresh.
    refused: BTreeSet<String>,
}

struct Entry {
    member: Member,
    /// Dropped to end it; then it only finishes what it has begun.
    leave: Option<oneshot::Sender<()>>,
}

impl<H, F> Sources<H>
where
    H: Fn(Message<'static>, Member) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), Retry>> + Send + 'static,
{
    fn align(&mut self, members: &[Member]) {
        for entry in self.entries.values_mut().filter(|entry| !members.contains(&entry.member)) {
            entry.leave = None;
        }
        for member in members {
            let url = member.url();
            if self.entries.contains_key(url) || self.refused.contains(url) {
                continue;
            }
            let (leave, left) = oneshot::channel();
            let source = Source::new(Arc::clone(&self.common), member.clone());
            let name = url.to_owned();
            self.tasks.spawn(async move { (name, source.run(left).await) });
            self.entries.insert(url.to_owned(), Entry { member: member.clone(), leave: Some(leave) });
        }
        self.common.room.share_among(self.receiving());
    }

    fn receiving(&self) -> usize {
        self.entries.values().filter(|entry| entry.leave.is_some()).count()
    }

    /// Waits for a source to end; never ready while there is none. Cancel safe.
    async fn ended(&mut self) -> Result<(), ClientError> {
        let Some(joined) = self.tasks.join_next().await else { return std::future::pending().await };
        let (url, ended) = joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.entries.remove(&url);
        if ended.is_err() {
            self.refused.insert(url);
        }
        ended
    }
}
