//! `GET /healthz` (the process answers), `GET /readyz` (it is able to sell), `GET /v1/gateways`.

use crate::http::{Answer, Refusal, answer};
use crate::ledger::redis::Tells;
use crate::pipeline::refused;
use crate::state::Core;
use http::StatusCode;
use serde::Serialize;
use std::borrow::Cow;
use tidegate_client::wire;
use tidegate_stock::JournalError;

#[derive(Serialize)]
struct Health {
    status: &'static str,
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
    if let Some(shared) = app.stock.shared()
        && let Some(why) = shared.unready()
    {
        let detail = shared.trouble.detail();
        let why = detail.map_or(Cow::Borrowed(why), |detail| Cow::Owned(detail.to_string()));
        return Err(Refusal::LedgerUnavailable(why));
    }
    Ok(answer::json(StatusCode::OK, &Health { status: "ready" }))
}

/// Those with a heartbeat; this one also when it has none, and alone with a ledger of its own.
pub(in crate::api) fn gateways(core: &Core) -> Answer {
    let app = &core.app;
    let shared = app.stock.shared();
    let this = wire::Gateway {
        gateway: shared.map_or_else(String::new, |shared| shared.gateway.to_string()),
        inner: Some(app.urls.inner.clone()),
        public: Some(app.urls.public.clone()),
        this: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: readyz(core).is_ok(),
        started_at_ms: app.started_at_ms,
        seen_ms_ago: 0,
        now_ms: Some(app.clock.now_ms()),
        sales: Some(app.sales.all().len() as u64),
        live_tickets: Some(app.stock.live_tickets()),
        connections: Some(app.connections.all() as u64),
    };
    let (mut gateways, mut away) = (vec![this], Vec::new());
    if let Some(shared) = shared
        && let Some(fleet) = shared.fleet()
    {
        let dead_after = shared.options.dead_after;
        let others =
            fleet.seen.iter().filter(|seen| *seen.gateway != *shared.gateway && seen.age < dead_after);
        gateways.extend(others.filter_map(|seen| {
            let tells: Tells = serde_json::from_str(&seen.tells).ok()?;
            Some(wire::Gateway {
                gateway: seen.gateway.clone(),
                inner: Some(tells.inner),
                public: Some(tells.public),
                this: false,
                version: tells.version,
                ready: tells.ready,
                started_at_ms: tells.started_at_ms,
                seen_ms_ago: seen.age.as_millis() as u64,
                now_ms: None,
                sales: None,
                live_tickets: None,
                connections: None,
            })
        }));
        away = shared.members();
        away.retain(|member| gateways.iter().all(|living| living.gateway != *member));
    }
    answer::json(StatusCode::OK, &wire::Gateways { gateways, away })
}
