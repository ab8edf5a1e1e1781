//! Routes of the inner listener, and who may take them.

use super::{admin, worker};
use crate::admission::bearer;
use crate::http::request::percent_decode;
use crate::http::{Answer, Refusal, request};
use crate::state::{Core, Live};
use http::header::{HOST, HeaderMap, ORIGIN};
use http::{Method, Request};
use hyper::body::Incoming;
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a token allows. The admin token may do what the worker token may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Probes, the empty dashboard page, the interface: nothing to hide.
    Open,
    Worker,
    Admin,
}

/// Answers one request. Never fails: every refusal is an answer.
pub async fn serve(core: Rc<Core>, request: Request<Incoming>, _peer: IpAddr) -> Answer {
    match route(&core, request).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.answer(),
    }
}

async fn route(core: &Rc<Core>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let segments = request::segments(head.uri.path()).ok_or(Refusal::NotFound)?;
    let decoded: smallvec::SmallVec<[Cow<'_, str>; 8]> = segments.iter().map(|s| percent_decode(s)).collect();
    let path: smallvec::SmallVec<[&str; 8]> = decoded.iter().map(AsRef::as_ref).collect();
    let (scope, methods) = place(&path).ok_or(Refusal::NotFound)?;
    let live = core.live();
    authorize(&live, &head.headers, scope)?;
    let query = head.uri.query();
    let listen = &live.config.listen;
    let time_max = Duration::from_millis(listen.header_timeout_ms);
    let body = Body { incoming: body, bytes_max: listen.inner_body_bytes_max, time_max };
    match (&head.method, path.as_slice()) {
        (&Method::POST, ["v1", "topics", topic, "groups", group, "receive"]) => {
            worker::receive(core, topic, group, &body.read().await?).await
        }
        (&Method::POST, ["v1", "topics", topic, "groups", group, "ack"]) => {
            worker::ack(core, topic, group, &body.read().await?)
        }
        (&Method::POST, ["v1", "topics", topic, "groups", group, "nack"]) => {
            worker::nack(core, topic, group, &body.read().await?)
        }
        (&Method::POST, ["v1", "topics", topic, "groups", group, "extend"]) => {
            worker::extend(core, topic, group, &body.read().await?)
        }
        (&Method::POST, ["v1", "topics", topic, "groups", group, "reset"]) => {
            worker::reset_group(core, topic, group, &body.read().await?)
        }
        (&Method::PUT, ["v1", "topics", topic, "groups", group]) => {
            worker::put_group(core, topic, group, &body.read().await?).await
        }
        (&Method::DELETE, ["v1", "topics", topic, "groups", group]) => {
            worker::delete_group(core, topic, group).await
        }
        (&Method::GET, ["v1", "topics", topic, "groups", group, "offsets"]) => {
            worker::offsets(core, topic, group)
        }
        (&Method::POST, ["v1", "topics", topic, "messages"]) => {
            worker::publish(core, topic, &body.read().await?).await
        }
        (&Method::GET, ["v1", "topics", topic, "messages"]) => worker::look_up(core, topic, query).await,
        (&Method::PUT, ["v1", "topics", topic]) => worker::put_topic(core, topic, &body.read().await?).await,
        (&Method::POST, ["v1", "topics", topic, "transactions"]) => {
            worker::begin(core, topic, &body.read().await?).await
        }
        (&Method::POST, ["v1", "transactions", transaction]) => {
            worker::resolve(core, transaction, &body.read().await?).await
        }
        (&Method::POST, ["v1", "producer-groups", group, "checks"]) => {
            worker::checks(core, group, &body.read().await?).await
        }
        (&Method::POST, ["v1", "tickets", ticket, verb]) => {
            worker::transition(core, ticket, verb, &body.read().await?).await
        }
        (&Method::GET, ["v1", "sales"]) => admin::list_sales(core).await,
        (&Method::GET, ["v1", "sales", sale]) => admin::get_sale(core, sale).await,
        (&Method::PUT, ["v1", "sales", sale]) => admin::put_sale(core, sale, &body.read().await?).await,
        (&Method::GET, ["v1", "sales", sale, "audit"]) => admin::audit_sale(core, sale).await,
        (&Method::POST, ["v1", "sales", sale, "open"]) => {
            admin::switch_sale(core, sale, admin::Switch::Open, &body.read().await?).await
        }
        (&Method::POST, ["v1", "sales", sale, "close"]) => {
            admin::switch_sale(core, sale, admin::Switch::Close, &body.read().await?).await
        }
        (&Method::POST, ["v1", "sales", sale, "restock"]) => {
            admin::restock(core, sale, &body.read().await?).await
        }
        (&Method::GET, ["v1", "sales", sale, "recovery"]) => admin::recovery(core, sale).await,
        (&Method::POST, ["v1", "sales", sale, "resume"]) => {
            admin::resume(core, sale, &body.read().await?).await
        }
        (&Method::GET, ["v1", "sales", sale, "excess"]) => admin::excess(core, sale).await,
        (&Method::POST, ["v1", "sales", sale, "excess"]) => {
            admin::release_excess(core, sale, &body.read().await?).await
        }
        (&Method::GET, ["v1", "audit"]) => admin::audit_all(core).await,
        (&Method::GET, ["v1", "topics"]) => Ok(admin::list_topics(core)),
        (&Method::GET, ["v1", "topics", topic, "groups", group, "dead-letters"]) => {
            admin::dead_letters(core, topic, group)
        }
        (&Method::POST, ["v1", "topics", topic, "groups", group, "dead-letters", "redrive"]) => {
            admin::redrive(core, topic, group, &body.read().await?).await
        }
        (&Method::POST, ["v1", "reload"]) => admin::reload(core, &body.read().await?).await,
        (&Method::GET, ["v1", "blacklist"]) => Ok(admin::list_bans(core)),
        (&Method::PUT, ["v1", "blacklist", client]) => {
            admin::put_ban(core, client, &body.read().await?).await
        }
        (&Method::DELETE, ["v1", "blacklist", client]) => admin::lift_ban(core, client).await,
        (&Method::GET, ["v1", "gateways"]) => Ok(admin::gateways(core)),
        (&Method::POST, ["v1", "gateways", gateway, "forget"]) => admin::forget(core, gateway).await,
        (&Method::DELETE, ["v1", "cache", route]) => admin::forget_cache(core, route, query).await,
        (&Method::GET, ["metrics"]) => Ok(crate::metrics::answer(&core.app)),
        (&Method::GET, ["healthz"]) => Ok(admin::healthz()),
        (&Method::GET, ["readyz"]) => admin::readyz(core),
        (&Method::GET, ["openapi.json"]) => Ok(admin::openapi(core)),
        (&Method::GET, [""]) => Ok(admin::dashboard()),
        _ => Err(Refusal::MethodNotAllowed(methods)),
    }
}

/// Scope and methods of a path; `None`: there is no such path.
pub(super) fn place(path: &[&str]) -> Option<(Scope, &'static str)> {
    Some(match path {
        ["v1", "topics", _, "groups", _, "receive" | "ack" | "nack" | "extend" | "reset"]
        | ["v1", "topics", _, "transactions"]
        | ["v1", "transactions", _]
        | ["v1", "producer-groups", _, "checks"]
        | ["v1", "tickets", _, "created" | "rejected" | "paid" | "cancelled"] => (Scope::Worker, "POST"),
        ["v1", "topics", _, "groups", _] => (Scope::Worker, "DELETE, PUT"),
        ["v1", "topics", _] => (Scope::Worker, "PUT"),
        ["v1", "topics", _, "messages"] => (Scope::Worker, "GET, POST"),
        // Prometheus gets by with either token; workers find the other gateways.
        ["v1", "topics", _, "groups", _, "offsets"] | ["v1", "gateways"] | ["metrics"] => {
            (Scope::Worker, "GET")
        }
        ["v1", "cache", _] => (Scope::Admin, "DELETE"),
        ["v1", "sales", _] => (Scope::Admin, "GET, PUT"),
        ["v1", "blacklist", _] => (Scope::Admin, "DELETE, PUT"),
        ["v1", "sales", _, "excess"] => (Scope::Admin, "GET, POST"),
        ["v1", "reload"]
        | ["v1", "sales", _, "open" | "close" | "restock" | "resume"]
        | ["v1", "gateways", _, "forget"]
        | ["v1", "topics", _, "groups", _, "dead-letters", "redrive"] => (Scope::Admin, "POST"),
        ["v1", "sales" | "audit" | "topics" | "blacklist"]
        | ["v1", "sales", _, "audit" | "recovery"]
        | ["v1", "topics", _, "groups", _, "dead-letters"] => (Scope::Admin, "GET"),
        ["healthz" | "readyz" | "openapi.json" | ""] => (Scope::Open, "GET"),
        _ => return None,
    })
}

fn authorize(live: &Live, headers: &HeaderMap, scope: Scope) -> Result<(), Refusal> {
    if scope == Scope::Open {
        return Ok(());
    }
    let Some(tokens) = &live.config.inner_tokens else {
        // No token, only loopback: but a browser on this machine would carry any site's form here.
        return if from_another_site(headers) { Err(Refusal::Forbidden) } else { Ok(()) };
    };
    let token = bearer(headers).map_err(|_| Refusal::TokenMissing)?.as_bytes();
    if tokens.admin.matches(token) {
        Ok(())
    } else if tokens.worker.matches(token) {
        if scope == Scope::Worker { Ok(()) } else { Err(Refusal::Forbidden) }
    } else {
        Err(Refusal::TokenMissing)
    }
}

/// Whether a browser says that another site's page sent this.
fn from_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    match (text(ORIGIN), text(HOST)) {
        (None, _) => false,
        (Some(origin), host) => origin.strip_prefix("http://") != host,
    }
}

/// A request's body, read when its handler is known.
struct Body {
    incoming: Incoming,
    bytes_max: usize,
    time_max: Duration,
}

impl Body {
    async fn read(self) -> Result<bytes::Bytes, Refusal> {
        Ok(crate::http::body::read(self.incoming, self.bytes_max, self.time_max).await?)
    }
}
