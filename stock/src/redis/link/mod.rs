//! Connections to Redis that never come back silently.
//!
//! ```text
//! mod.rs        `Link`: calls, and what may be repeated
//! error.rs      what can come of a call
//! call.rs       what is sent for a call
//! script.rs     a script and its digest
//! lineage.rs    which server, and which life of its data
//! handshake.rs  the check of every fresh connection
//! info.rs       the reply to INFO
//! reply.rs      single replies
//! stream.rs     TCP and TLS
//! connector.rs  from a place to a checked connection
//! sentinel.rs   asks the Sentinels who is master
//! slots.rs      slots of a Cluster
//! route.rs      which node a key is on
//! lane.rs       one connection, its loss, its circuit breaker
//! attempt.rs    something got by one attempt at a time
//! backoff.rs    pauses between attempts
//! subscribe.rs  one channel, until dropped
//! ```
//!
//! **Order.** A stream reaches the rest of the code only as `Checked`: logged in and compared by INFO. A call that
//! names a lineage is sent only on a connection whose check found that lineage.
//!
//! **Repeats.** A call is sent again only when Redis said that it did not run: NOSCRIPT, MOVED, ASK, TRYAGAIN. After
//! a timeout or a lost connection the outcome is `Unknown`, and the caller's to resolve.
//!
//! **Rights.** [`MINIMAL_ACL`] is enough.

mod attempt;
mod backoff;
mod call;
mod connector;
mod error;
mod handshake;
mod info;
mod lane;
mod lineage;
mod reply;
mod route;
mod script;
mod sentinel;
mod slots;
mod stream;
mod subscribe;

pub use error::CallError;
pub use lineage::Lineage;
pub use script::Script;
pub use subscribe::{PubSubEvent, subscribe};

use super::options::{Address, RedisOptions, Topology};
use call::Call;
use connector::{Connection, Connector};
use handshake::{Wanted, handshake};
use lane::Lane;
use redis::{Cmd, ServerError, Value};
use route::{Node, Route};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// All rights that a gateway needs with prefix `tidegate:`, as `ACL SETUSER` takes them: of the connections, of the
/// scripts, whose commands are checked against the same user, and of what is sent without a script. `cluster|slots` and
/// `asking` are for a Cluster, `wait` is for `wait_replicas`.
pub const MINIMAL_ACL: &str = "~tidegate:* &tidegate:* -@all \
    +info +ping +select +subscribe +evalsha +eval +wait +asking +cluster|slots \
    +time +publish +del +get +set +pttl \
    +hget +hmget +hset +hsetnx +hdel +hexists +hgetall +hincrby +hkeys +hlen +hscan +hvals \
    +llen +lrange +rpush \
    +sadd +scard +sdiff +sismember +smembers +srem \
    +zadd +zrange +zrangebyscore +zrem +zrevrange +zscan +zscore";

/// Redirects and repeats of one call, at most.
const STEPS: usize = 16;
/// What a patient call may take: an audit of ten million tickets.
const PATIENT: Duration = Duration::from_secs(10);
/// Before a call that met a moving slot is repeated.
const MOVING: Duration = Duration::from_millis(10);
/// A connection that was checked so lately is not checked again when its lineage is not the expected one.
const FRESH: Duration = Duration::from_secs(1);

/// The connections of one thread. Cheap to clone; clones share them.
///
/// Lives on a single-threaded tokio runtime. Connects when first used.
#[derive(Clone)]
pub struct Link(Rc<Shared>);

struct Shared {
    options: Arc<RedisOptions>,
    route: Route,
}

/// Why a Redis that answers cannot be used at all (version, login, eviction …), for a start to say so instead of waiting
/// for ever. `None`: it can be, or it does not answer now, or it is not one address: then only calls tell.
/// Bounded by `connect_timeout`. Cancel safe.
pub async fn unfit(options: &RedisOptions) -> Option<String> {
    let Topology::Single(address) = &options.topology else { return None };
    let checked = async {
        let mut stream = stream::connect(address, options.tls.as_ref()).await.ok()?;
        handshake(&mut stream, options, Wanted::Master).await.err()
    };
    let why = timeout(options.connect_timeout, checked).await.ok()??;
    Some(format!("Redis at {address} cannot be used: {why}"))
}

impl Link {
    /// Connects to nothing yet.
    pub fn new(options: Arc<RedisOptions>) -> Self {
        let connector = Arc::new(Connector::new(options.clone()));
        Self(Rc::new(Shared { route: Route::new(&connector), options }))
    }

    /// Lineage of the node that owns `key`, as of the check of its connection; connects if there is none, and waits
    /// up to `connect_timeout` for that. `Unavailable` otherwise. Cancel safe.
    pub async fn lineage(&self, key: &str) -> Result<Lineage, CallError> {
        let patience = self.0.options.connect_timeout;
        let node = self.0.route.node(key, patience).await?;
        let connection = node.plain.connection(patience).await.inspect_err(|_| self.0.route.suspect())?;
        Ok(connection.lineage.clone())
    }

    /// As [`Link::lineage`], and found out within the last second: a connection that was checked before that is left, and
    /// another one is made. For decisions: the lineage of a connection that stands says nothing of what its server has
    /// become since, such as a replica for a while. Calls under way on the connection that is left are answered.
    pub async fn lineage_fresh(&self, key: &str) -> Result<Lineage, CallError> {
        let (route, patience) = (&self.0.route, self.0.options.connect_timeout);
        let node = if route.was_read_within(FRESH) {
            route.node(key, patience).await?
        } else {
            route.node_read_anew(key, patience).await?
        };
        let suspect = |_: &CallError| route.suspect();
        let mut connection = node.plain.connection(patience).await.inspect_err(suspect)?;
        if connection.checked_at.elapsed() >= FRESH {
            node.plain.leave(&connection);
            connection = node.plain.connection(patience).await.inspect_err(suspect)?;
        }
        Ok(connection.lineage.clone())
    }

    /// Runs a script on the node that owns `keys[0]` (the slot of no key, if there is none). Bounded by `call_timeout`.
    ///
    /// `expected`: nothing is sent to a server of another lineage. Cancelled: it may have run.
    pub async fn script(
        &self,
        script: &Script,
        expected: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        let key = keys.first().copied().unwrap_or_default();
        self.0.call(key, expected, Call::Script { script, keys, args }, Manner::Plain).await
    }

    /// As [`Link::script`], for a script that answers one text.
    pub async fn script_text(
        &self,
        script: &Script,
        expected: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<String, CallError> {
        match self.script(script, expected, keys, args).await? {
            Value::BulkString(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            Value::SimpleString(text) => Ok(text),
            _ => Err(CallError::Unknown(format!("the script {} answered no text", script.name()))),
        }
    }

    /// As [`Link::script`], and until `wait_replicas` replicas have what it wrote; `Unreplicated` when they have not
    /// within `wait_timeout`. All of it is bounded by `call_timeout`.
    pub async fn script_replicated(
        &self,
        script: &Script,
        expected: Option<&Lineage>,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        let key = keys.first().copied().unwrap_or_default();
        self.0.call(key, expected, Call::Script { script, keys, args }, Manner::Replicated).await
    }

    /// As [`Link::script`], for one that may take Redis its time: bounded by 10 s, over a connection of its own, and no
    /// reason to think that Redis does not answer.
    pub async fn script_patient(
        &self,
        script: &Script,
        keys: &[&str],
        args: &[&[u8]],
    ) -> Result<Value, CallError> {
        let key = keys.first().copied().unwrap_or_default();
        self.0.call(key, None, Call::Script { script, keys, args }, Manner::Patient).await
    }

    /// Runs a plain command on the node that owns `key`. Bounds and errors as of [`Link::script`].
    pub async fn command(
        &self,
        key: &str,
        expected: Option<&Lineage>,
        command: &Cmd,
    ) -> Result<Value, CallError> {
        self.0.call(key, expected, Call::Command(command), Manner::Plain).await
    }
}

impl Shared {
    async fn call(
        &self,
        key: &str,
        expected: Option<&Lineage>,
        call: Call<'_>,
        manner: Manner,
    ) -> Result<Value, CallError> {
        let limit = if manner == Manner::Patient { PATIENT } else { self.options.call_timeout };
        let replicas = if manner == Manner::Replicated { self.options.wait_replicas } else { 0 };
        let deadline = Instant::now() + limit;
        // A call sent just before its deadline would have an unknown outcome for nothing: half of the time for the
        // connection, the rest for the answer.
        let patience = self.options.call_timeout / 2;
        let mut node = self.route.node(key, patience).await?;
        let mut with_text = false;
        let mut asking = false;
        let mut refusal = String::from("Redis sent the call from node to node without an end");
        for _ in 0..STEPS {
            let lane = match manner {
                Manner::Patient => &node.patient,
                _ if replicas > 0 => &node.replicated,
                _ => &node.plain,
            };
            let connection = match lane.connection(patience).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.route.suspect();
                    return Err(error);
                }
            };
            if let Some(expected) = expected
                && *expected != connection.lineage
            {
                let fresh = connection.checked_at.elapsed() < FRESH;
                if fresh && self.route.was_read_within(FRESH) {
                    return Err(CallError::LineageChanged { now: connection.lineage.clone() });
                }
                // The caller may know of a change that this connection, or this map of the slots, has missed.
                if !fresh {
                    lane.leave(&connection);
                }
                (node, asking) = (self.route.node_read_anew(key, patience).await?, false);
                continue;
            }
            let packet = call.pack(with_text, asking);
            let error = match lane.send(&connection, &packet, replicas, deadline).await {
                Ok(Value::ServerError(error)) => error,
                Ok(value) => return Ok(value),
                Err(error) => {
                    self.route.suspect();
                    return Err(error);
                }
            };
            refusal = format!(
                "Redis at {} refused {}: {}",
                connection.address,
                call.name(),
                reply::error_text(&error)
            );
            match self.next(&error, &connection, lane, &refusal) {
                Next::WithText if !with_text => with_text = true,
                Next::Node(to) => (node, asking) = (to, false),
                Next::Ask(to) => (node, asking) = (to, true),
                Next::Later => {
                    if timeout_at(deadline, sleep(MOVING)).await.is_err() {
                        break;
                    }
                    asking = false;
                    node = self.route.node(key, patience).await?;
                }
                Next::WithText | Next::Refused => break,
            }
        }
        Err(CallError::Refused(refusal))
    }

    /// What an error of Redis means for the call, which did not run.
    fn next(&self, error: &ServerError, connection: &Arc<Connection>, lane: &Lane, refusal: &str) -> Next {
        let redirect = || slots::redirect_of(error.details()?, &connection.address);
        match (error.code(), &self.route) {
            ("NOSCRIPT", _) => Next::WithText,
            ("MOVED", Route::Slots(slots)) => {
                redirect().map_or(Next::Refused, |(slot, to): (u16, Address)| {
                    slots.moved(slot, &to);
                    Next::Node(slots.at(&to))
                })
            }
            ("ASK", Route::Slots(slots)) => {
                redirect().map_or(Next::Refused, |(_, to)| Next::Ask(slots.at(&to)))
            }
            ("TRYAGAIN", Route::Slots(_)) => Next::Later,
            _ => {
                if Lane::leads_astray(error) {
                    lane.leave_for_a_moment(connection, refusal);
                    self.route.suspect();
                }
                Next::Refused
            }
        }
    }
}

/// How a call is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Plain,
    /// Until replicas have it, if any must.
    Replicated,
    /// Redis may take its time.
    Patient,
}

enum Next {
    /// Redis does not know the script: send its text.
    WithText,
    /// The slot is there now.
    Node(Rc<Node>),
    /// The key is there already, its slot not yet.
    Ask(Rc<Node>),
    /// The keys are between two nodes.
    Later,
    Refused,
}
