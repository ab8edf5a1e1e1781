//! Routes of the inner listener.

use crate::http::{Answer, Refusal};
use crate::state::Core;
use http::Request;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::rc::Rc;

/// Answers one request. Never fails: every refusal is an answer.
pub async fn serve(_core: Rc<Core>, _request: Request<Incoming>, _peer: IpAddr) -> Answer {
    Refusal::NotFound.answer()
}
