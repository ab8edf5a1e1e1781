//! `GET /healthz` (the process answers), `GET /readyz` (it is able to sell), `GET /v1/gateways`.

use crate::http::{Answer, Refusal, answer};
use crate::pipeline::refused;
use crate::state::Core;
use http::StatusCode;
use serde::Serialize;
use tidegate_stock::JournalError;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct Gateways<'a> {
    gateways: [Gateway<'a>; 1],
}

#[derive(Serialize)]
struct Gateway<'a> {
    /// This one answers.
    this: bool,
    version: &'a str,
    ready: bool,
    started_at_ms: u64,
    now_ms: u64,
    sales: usize,
    live_tickets: u64,
    connections: usize,
}

pub(in crate::api) fn healthz() -> Answer {
    answer::json(StatusCode::OK, &Health { status: "alive" })
}

pub(in crate::api) fn readyz(core: &Core) -> Result<Answer, Refusal> {
    let app = &core.app;
    if app.durable.is_poisoned() {
        return Err(Refusal::Journal(JournalError::Poisoned));
    }
    if app.stopping.is_set() {
        return Err(Refusal::QueueBusy("the gateway is shutting down"));
    }
    app.queue.takes_new().map_err(refused)?;
    Ok(answer::json(StatusCode::OK, &Health { status: "ready" }))
}

pub(in crate::api) fn gateways(core: &Core) -> Answer {
    let app = &core.app;
    let gateway = Gateway {
        this: true,
        version: env!("CARGO_PKG_VERSION"),
        ready: readyz(core).is_ok(),
        started_at_ms: app.started_at_ms,
        now_ms: app.clock.now_ms(),
        sales: app.sales.all().len(),
        live_tickets: app.ledger.live_tickets(),
        connections: app.connections.all(),
    };
    answer::json(StatusCode::OK, &Gateways { gateways: [gateway] })
}
