//! One connection to one place, made anew when it is lost, and refused for a time when calls go unanswered.

use super::attempt::Attempt;
use super::call::Packet;
use super::connector::{Connection, Connector, Place};
use super::error::CallError;
use super::reply::error_text;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, ServerError, Value};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

/// After a server said that it is the wrong one.
const MOMENT: Duration = Duration::from_millis(50);

/// A connection as its users see it.
pub(super) struct Lane {
    connector: Arc<Connector>,
    place: Place,
    connection: Attempt<Arc<Connection>>,
    unanswered: Cell<u32>,
}

impl Lane {
    pub(super) fn new(connector: Arc<Connector>, place: Place) -> Self {
        Self { connector, place, connection: Attempt::new(), unanswered: Cell::new(0) }
    }

    /// The connection, made if need be; nothing of the caller's is sent.
    pub(super) async fn connection(&self, patience: Duration) -> Result<Arc<Connection>, CallError> {
        if let Some(connection) = self.connection.ready() {
            if connection.is_open() {
                return Ok(connection);
            }
            tracing::warn!("the connection to Redis at {} was lost", connection.address);
            self.connection.forget();
        }
        let start = || {
            let (connector, place) = (self.connector.clone(), self.place.clone());
            async move { Connection::open(&connector, &place).await.map(Arc::new) }
        };
        self.connection.get(patience, start).await.map_err(|why| CallError::Unavailable(why.to_string()))
    }

    /// Sends, and waits for the reply until `deadline`; with `replicas`, also for so many to have what was written.
    /// Errors are `Unknown`: it may have run. Cancelled: it may run.
    pub(super) async fn send(
        &self,
        connection: &Arc<Connection>,
        packet: &Packet<'_>,
        replicas: u32,
        deadline: Instant,
    ) -> Result<Value, CallError> {
        let limit = self.connector.options.wait_timeout;
        let wait = (replicas > 0).then(|| {
            let mut wait = Cmd::new();
            // Zero would be for ever.
            wait.arg("WAIT").arg(replicas).arg(limit.as_millis().max(1) as u64);
            wait
        });
        let (mut own, mut waiting) = (connection.handle(), connection.handle());
        let mut own = pin!(exchange(&mut own, packet));
        let mut waiting = pin!(async {
            match &wait {
                Some(wait) => waiting.send_packed_command(wait).await,
                None => Ok(Value::Nil),
            }
        });
        let mut waited = None;
        // Both are handed over in one poll, in this order: WAIT follows on the wire without another round trip.
        let both = poll_fn(|context| {
            let reply = own.as_mut().poll(context);
            if waited.is_none()
                && let Poll::Ready(reached) = waiting.as_mut().poll(context)
            {
                waited = Some(reached);
            }
            reply
        });
        let reply = self.answered(connection, timeout_at(deadline, both).await)?;
        if wait.is_none() || matches!(reply, Value::ServerError(_)) {
            return Ok(reply);
        }
        let until = deadline.min(Instant::now() + limit);
        let reached = match waited {
            Some(reached) => Some(reached),
            None => timeout_at(until, waiting).await.ok(),
        };
        self.replicated(connection, reached, replicas).map(|()| reply)
    }

    fn answered(
        &self,
        connection: &Arc<Connection>,
        reply: Result<RedisResult<Value>, Elapsed>,
    ) -> Result<Value, CallError> {
        let address = &connection.address;
        match reply {
            Ok(Ok(reply)) => {
                self.unanswered.set(0);
                Ok(reply)
            }
            Ok(Err(lost)) => {
                self.leave(connection);
                let text = format!("the connection to Redis at {address} was lost before the answer: {lost}");
                Err(CallError::Unknown(text))
            }
            Err(_) => {
                self.timed_out(connection);
                let text = format!("Redis at {address} did not answer in time (call_timeout)");
                Err(CallError::Unknown(text))
            }
        }
    }

    /// Whether as many replicas have it as must; `reached` is what WAIT replied, if it did.
    fn replicated(
        &self,
        connection: &Arc<Connection>,
        reached: Option<RedisResult<Value>>,
        replicas: u32,
    ) -> Result<(), CallError> {
        let text = match reached {
            Some(Ok(Value::Int(count))) if count >= i64::from(replicas) => return Ok(()),
            Some(Ok(Value::ServerError(error))) => {
                self.leave(connection);
                format!("WAIT was refused: {}", error_text(&error))
            }
            Some(Ok(Value::Int(count))) => format!("{count} replicas have it"),
            Some(Ok(other)) => format!("WAIT replied {other:?}"),
            Some(Err(lost)) => {
                self.leave(connection);
                format!("the connection was lost before the replicas had it: {lost}")
            }
            None => "no replica said in time that it has it".to_owned(),
        };
        Err(CallError::Unreplicated(format!(
            "Redis at {} ran it, but {text}; {replicas} must have it within {:?} (wait_replicas, wait_timeout)",
            connection.address, self.connector.options.wait_timeout
        )))
    }

    /// Drops this connection, if it is still the one in use: the next call makes another.
    pub(super) fn leave(&self, connection: &Arc<Connection>) {
        if self.uses(connection) {
            self.connection.forget();
        }
    }

    /// Redis said that this connection leads to the wrong server, or to one that cannot serve yet: drops it, and
    /// refuses for a moment, so that a server that stays so is not asked anew by every call.
    pub(super) fn leave_for_a_moment(&self, connection: &Arc<Connection>, why: &str) {
        if self.uses(connection) {
            self.connection.pause(MOMENT, why.to_owned());
        }
    }

    /// Whether the error says that the connection leads to the wrong server, or to one that cannot serve yet.
    pub(super) fn leads_astray(error: &ServerError) -> bool {
        matches!(
            error.code(),
            "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "UNBLOCKED" | "NOAUTH" | "WRONGPASS"
        )
    }

    fn uses(&self, connection: &Arc<Connection>) -> bool {
        self.connection.ready().is_some_and(|now| Arc::ptr_eq(&now, connection))
    }

    /// The circuit breaker. After the pause a fresh connection's handshake is the probe, so that no caller's call
    /// has to be one: its outcome would be unknown if the probe failed.
    fn timed_out(&self, connection: &Arc<Connection>) {
        if !self.uses(connection) {
            return;
        }
        let unanswered = self.unanswered.get() + 1;
        self.unanswered.set(unanswered);
        let options = &self.connector.options;
        if unanswered >= options.breaker_failures.max(1) {
            self.unanswered.set(0);
            let why = format!(
                "Redis at {} left {unanswered} calls in a row unanswered; calls are refused for {:?} (breaker_pause)",
                connection.address, options.breaker_pause
            );
            tracing::warn!("{why}");
            self.connection.pause(options.breaker_pause, why);
        }
    }
}

/// One packet and the reply to the call in it.
async fn exchange(handle: &mut MultiplexedConnection, packet: &Packet<'_>) -> RedisResult<Value> {
    match packet {
        Packet::One(command) => handle.send_packed_command(command).await,
        Packet::Given(command) => handle.send_packed_command(command).await,
        Packet::Asking(both) => {
            let mut replies = handle.send_packed_commands(both, 0, 2).await?;
            Ok(replies.pop().unwrap_or(Value::Nil))
        }
    }
}
