//! One connection to one place, made anew when it is lost, and refused for a time when calls go unanswered.

use super::attempt::Attempt;
use super::connector::{Connection, Connector, Place};
use super::error::CallError;
use redis::{Cmd, Pipeline, RedisResult, ServerError, Value};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What is sent: one command, or several whose last but `trailing` reply is the call's.
pub(super) enum Packet {
    One(Cmd),
    Many { commands: Pipeline, count: usize },
}

/// Replies, in order.
pub(super) enum Replies {
    One(Value),
    Many(Vec<Value>),
}

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

    /// Sends, and waits until `deadline`. Errors are `Unknown`: it may have run. Cancelled: it may run.
    pub(super) async fn send(
        &self,
        connection: &Arc<Connection>,
        packet: &Packet,
        deadline: Instant,
    ) -> Result<Replies, CallError> {
        let mut handle = connection.handle();
        let exchange = async {
            RedisResult::Ok(match packet {
                Packet::One(command) => Replies::One(handle.send_packed_command(command).await?),
                Packet::Many { commands, count } => {
                    Replies::Many(handle.send_packed_commands(commands, 0, *count).await?)
                }
            })
        };
        match timeout_at(deadline, exchange).await {
            Ok(Ok(replies)) => {
                self.unanswered.set(0);
                Ok(replies)
            }
            Ok(Err(lost)) => {
                self.leave(connection);
                Err(CallError::Unknown(format!(
                    "the connection to Redis at {} was lost before the answer: {lost}",
                    connection.address
                )))
            }
            Err(_) => {
                self.timed_out(connection);
                Err(CallError::Unknown(format!(
                    "Redis at {} did not answer within {:?} (call_timeout)",
                    connection.address, self.connector.options.call_timeout
                )))
            }
        }
    }

    /// Drops this connection, if it is still the one in use: the next call makes another.
    pub(super) fn leave(&self, connection: &Arc<Connection>) {
        if self.uses(connection) {
            self.connection.forget();
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
