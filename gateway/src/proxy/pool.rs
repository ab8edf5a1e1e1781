//! Connections of one core to the upstreams: made when none is idle, kept for the next request.
//!
//! hyper-util's pool races a new connection against an idle one, and does not tell which of the two a request went out
//! on. Here a request never opens more than the one connection that it uses, so what the upstream sees is bounded by the
//! requests in flight; and it is known whether a connection was used before, so only then a failure may mean that the
//! upstream had closed it meanwhile.

use super::connect::connect;
use super::routes::Route;
use super::upload::Upload;
use super::upstream::Upstream;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::debug;

/// Between two looks for connections that were idle too long.
const SWEEP: Duration = Duration::from_secs(1);

/// Idle connections of one core.
#[derive(Debug, Default)]
pub struct Pool {
    /// By id of the upstream, the one used last at the end.
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    until: Instant,
}

/// A connection that a request has to itself.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    /// It carried a request before.
    pub(super) reused: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    #[error("no connection within the time allowed")]
    TimedOut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

impl Pool {
    /// An idle connection that still stands.
    pub(super) fn take(&self, upstream: &Upstream) -> Option<Connection> {
        let mut all = self.idle.borrow_mut();
        let idle = all.get_mut(&upstream.id)?;
        let now = Instant::now();
        let mut place = idle.len();
        while place > 0 {
            place -= 1;
            let last = &idle[place];
            if last.until <= now || last.sender.is_closed() {
                idle.remove(place);
            } else if last.sender.is_ready() {
                return Some(Connection { sender: idle.remove(place).sender, reused: true });
            }
            // Else it has not noticed yet that its last answer is over.
        }
        None
    }

    /// A new connection, within the route's bound on time. Cancelled: it is given up.
    pub(super) async fn open(&self, route: &Route, upstream: &Upstream) -> Result<Connection, NoConnection> {
        let time_max = Duration::from_millis(route.settings.connect_timeout_ms);
        let stream = tokio::time::timeout(time_max, connect(&upstream.address, route.settings.tls.as_ref()))
            .await
            .map_err(|_| NoConnection::TimedOut)??;
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to an upstream ended");
            }
        });
        Ok(Connection { sender, reused: false })
    }

    /// A connection whose request is answered. Too many: the new one is closed.
    pub(super) fn put(&self, route: &Route, upstream: &Upstream, sender: SendRequest<Upload>) {
        if sender.is_closed() {
            return;
        }
        let mut all = self.idle.borrow_mut();
        let idle = all.entry(upstream.id).or_default();
        if idle.len() < route.settings.pool_idle_max {
            let until = Instant::now() + Duration::from_millis(route.settings.pool_idle_ms);
            idle.push(Idle { sender, until });
        }
    }

    /// Closes what was idle too long, until dropped.
    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            self.idle.borrow_mut().retain(|_, idle| {
                idle.retain(|idle| idle.until > now && !idle.sender.is_closed());
                !idle.is_empty()
            });
        }
    }
}
