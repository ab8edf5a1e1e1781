//! `POST /v1/sales/{sale}/challenge` and `/pass`: how a buyer comes to a purchase pass. Memory and CPU only.

use super::clients;
use super::orders::{not_sold_out, unknown_sale};
use crate::admission::pass::{PassFault, Passes, Scope};
use crate::admission::{SaleGate, client_address};
use crate::http::{Answer, Refusal, answer, body, request};
use crate::state::{App, Core, Live};
use http::header::HeaderMap;
use http::{HeaderName, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::wire::{self, PassAnswer, PassRequest};
use tidegate_stock::{ReserveOutcome, Window, hash_of};

/// Carries the pass of an order.
const PASS: HeaderName = HeaderName::from_static("x-tidegate-pass");

/// A body without fields: nothing, or an empty object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `POST /v1/sales/{sale}/challenge`
pub(super) async fn challenge(
    core: &Core,
    sale: &str,
    headers: &HeaderMap,
    body: Incoming,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let app = &*core.app;
    let live = core.live();
    let (sale, buyer) = admitted(core, &live, sale, headers, peer)?;
    let body = read(&live, body).await?;
    if !body.is_empty() {
        request::parse_json::<Nothing>(&body)?;
    }
    let given = live.passes.challenge(&scope(&sale, &buyer), app.clock.now_ms());
    let told = wire::Challenge {
        challenge: given.text.into(),
        kind: given.kind.into(),
        question: given.question.into(),
        expires_at_ms: given.expires_at_ms,
    };
    Ok(answer::json(StatusCode::OK, &told))
}

/// `POST /v1/sales/{sale}/pass`
pub(super) async fn pass(
    core: &Core,
    sale: &str,
    headers: &HeaderMap,
    body: Incoming,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let app = &*core.app;
    let live = core.live();
    let (sale, buyer) = admitted(core, &live, sale, headers, peer)?;
    let body = read(&live, body).await?;
    let asked: PassRequest<'_> = request::parse_json(&body)?;
    let answer_text = match asked.answer {
        PassAnswer::Text(text) => text,
        PassAnswer::Number(number) => number.to_string().into(),
    };
    let closes_at_ms = sale.rules().spec.closes_at_ms;
    let scope = scope(&sale, &buyer);
    let given =
        live.passes.exchange(&scope, closes_at_ms, &asked.challenge, &answer_text, app.clock.now_ms())?;
    let told = wire::Pass { pass: given.text.into(), expires_at_ms: given.expires_at_ms };
    Ok(answer::json(StatusCode::OK, &told))
}

/// The gates of these two requests, cheapest first, with a quota of their own.
fn admitted<'h>(
    core: &Core,
    live: &Live,
    sale: &str,
    headers: &'h HeaderMap,
    peer: IpAddr,
) -> Result<(Arc<SaleGate>, Cow<'h, str>), Refusal> {
    let app = &*core.app;
    let sale = app.sales.find(sale).ok_or_else(|| unknown_sale(app, sale))?;
    passes_are_given(app, live, &sale)?;
    clients::address_not_banned(core, live, headers, peer)?;
    let buyer = live.identity.prove(headers, peer).map_err(Refusal::Unauthenticated)?;
    clients::buyer_not_banned(core, &buyer)?;
    let address = || client_address(headers, peer, live.config.identity.trusted_proxies());
    live.passes.quotas.check(&buyer, address).map_err(Refusal::ClientQuota)?;
    live.quotas.seen(&buyer, address);
    Ok((sale, buyer))
}

/// From `lead_ms` before the sale opens until it closes, and not while nothing is left.
fn passes_are_given(app: &App, live: &Live, sale: &SaleGate) -> Result<(), Refusal> {
    let now_ms = app.clock.now_ms();
    match sale.window(|| now_ms) {
        Window::Open => not_sold_out(sale),
        Window::Closed => Err(Refusal::SaleClosed),
        Window::NotOpen { opens_at_ms: None } => Ok(()),
        Window::NotOpen { opens_at_ms: Some(opens_at_ms) } => {
            match opens_at_ms.saturating_sub(live.passes.lead_ms()).saturating_sub(now_ms) {
                0 => Ok(()),
                wait_ms => Err(Refusal::SaleNotOpen {
                    opens_at_ms: Some(opens_at_ms),
                    retry_after: Duration::from_millis(wait_ms),
                }),
            }
        }
    }
}

async fn read(live: &Live, body: Incoming) -> Result<bytes::Bytes, Refusal> {
    let listen = &live.config.listen;
    let time_max = Duration::from_millis(listen.header_timeout_ms);
    Ok(body::read(body, listen.body_bytes_max, time_max).await?)
}

fn scope<'s>(sale: &'s SaleGate, buyer: &'s str) -> Scope<'s> {
    Scope { sale: &sale.sale, buyer, opens_at_ms: sale.opens_at_ms() }
}

/// The pass of an order, from gate 6 to its end. Gives the pass back unless the order keeps it.
pub(super) struct OrderPass<'a> {
    passes: &'a Passes,
    good: Option<crate::admission::pass::GoodPass>,
    /// The sale or a policy asks for it; a pass that nobody asks for is not spent.
    needed: bool,
    spent: bool,
}

impl<'a> OrderPass<'a> {
    /// Gate 6. A pass that nobody asked for is looked at too: a policy may ask for it.
    pub(super) fn of(
        app: &App,
        passes: &'a Passes,
        sale: &SaleGate,
        buyer: &str,
        headers: &HeaderMap,
    ) -> Result<Self, Refusal> {
        let required = sale.requires_pass();
        let good = match headers.get(PASS) {
            None if required => return Err(Refusal::PassRequired),
            None => None,
            Some(text) => {
                let text = text.to_str().unwrap_or("");
                match passes.check(&scope(sale, buyer), text, app.clock.now_ms()) {
                    Ok(good) => Some(good),
                    Err(fault) if required => return Err(fault.into()),
                    Err(_) => None,
                }
            }
        };
        Ok(Self { passes, good, needed: required, spent: false })
    }

    /// Whether a good pass came with the order.
    pub(super) fn is_good(&self) -> bool {
        self.good.is_some()
    }

    /// A policy asks for it.
    pub(super) fn need(&mut self) -> Result<(), Refusal> {
        self.needed = true;
        if self.is_good() { Ok(()) } else { Err(Refusal::PassRequired) }
    }

    /// Spends it, last of all gates: an order that was not let through keeps its pass. A repeat under the same key is
    /// the same order.
    pub(super) fn spend(&mut self, key: Option<&str>, now_ms: u64) -> Result<(), PassFault> {
        if let Some(good) = self.good.filter(|_| self.needed) {
            self.passes.spend(good, key.map_or_else(rand::random, hash_of), now_ms)?;
            self.spent = true;
        }
        Ok(())
    }

    /// What came of the order: one that certainly took nothing gives its pass back.
    pub(super) fn conclude(&self, outcome: &Result<ReserveOutcome, Refusal>) {
        let kept = matches!(
            outcome,
            Ok(ReserveOutcome::Won { .. } | ReserveOutcome::Repeat { .. }) | Err(Refusal::Unknown { .. })
        );
        if let Some(good) = self.good.filter(|_| self.spent && !kept) {
            self.passes.give_back(good);
        }
    }
}
