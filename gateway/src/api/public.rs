//! Routes of the public listener.

use super::{orders, passes, sales, tickets};
use crate::http::{Answer, Refusal, request};
use crate::proxy;
use crate::state::Core;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Method, Request};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::rc::Rc;

/// Answers one request. Never fails: every refusal is an answer.
pub async fn serve(core: Rc<Core>, request: Request<Incoming>, peer: IpAddr) -> Answer {
    let is_get = request.method() == Method::GET;
    match route(&core, request, peer).await {
        Ok(answer) => answer,
        Err(refusal) => {
            core.app.outcomes.count(core.index, refusal.problem_type());
            let mut answer = refusal.answer();
            if is_get {
                // A cache may keep a 404 that says nothing of itself, and a sale may be there a moment later.
                answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            answer
        }
    }
}

async fn route(core: &Rc<Core>, request: Request<Incoming>, peer: IpAddr) -> Result<Answer, Refusal> {
    // No path of the gateway's own begins otherwise, and none of an upstream's does.
    if !request.uri().path().starts_with("/v1/") {
        return proxy::serve(core, request, peer).await;
    }
    let (head, body) = request.into_parts();
    let segments = request::segments(head.uri.path()).ok_or(Refusal::NotFound)?;
    match (&head.method, segments.as_slice()) {
        (&Method::POST, ["v1", "sales", sale, "orders"]) => {
            orders::place(core, sale, &head.headers, body, peer).await
        }
        (&Method::POST, ["v1", "sales", sale, "challenge"]) => {
            passes::challenge(core, sale, &head.headers, body, peer).await
        }
        (&Method::POST, ["v1", "sales", sale, "pass"]) => {
            passes::pass(core, sale, &head.headers, body, peer).await
        }
        (&Method::GET, ["v1", "tickets", ticket]) => {
            tickets::get(core, ticket, head.uri.query(), &head.headers, peer).await
        }
        (&Method::GET, ["v1", "tickets", ticket, "events"]) => {
            tickets::events(core, ticket, &head.headers, peer).await
        }
        (&Method::GET, ["v1", "sales", sale]) => sales::get(core, sale, &head.headers),
        (&Method::GET, ["v1", "sales", sale, "tickets"]) => {
            tickets::own(core, sale, &head.headers, peer).await
        }
        (_, ["v1", "sales", _, "orders" | "challenge" | "pass"]) => Err(Refusal::MethodNotAllowed("POST")),
        (
            _,
            ["v1", "tickets" | "sales", _] | ["v1", "tickets", _, "events"] | ["v1", "sales", _, "tickets"],
        ) => Err(Refusal::MethodNotAllowed("GET")),
        _ => Err(Refusal::NotFound),
    }
}
