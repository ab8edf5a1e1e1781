//! A request to a route: the gates, in order, then [`fetch`].

use super::fetch::{Outgoing, fetch};
use super::forwarded::{Client, authority};
use super::headers;
use super::path::canonical;
use super::routes::Route;
use super::upload::Upload;
use crate::admission::client_address;
use crate::admission::pass::Scope;
use crate::api::clients;
use crate::cache::{self, Asked, Passed};
use crate::config::{HostRule, Identity, Needed};
use crate::http::{Answer, Refusal};
use crate::policy::{Facts, Judged};
use crate::state::{Core, Live};
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request};
use hyper::body::{Body as _, Incoming};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const PASS: HeaderName = HeaderName::from_static("x-tidegate-pass");

/// Answers a request that is none of the gateway's own: by its route, or 404. Cancel safe: when the client goes away, so
/// does the request to the upstream.
pub async fn serve(core: &Rc<Core>, request: Request<Incoming>, peer: IpAddr) -> Result<Answer, Refusal> {
    let live = core.live();
    if live.proxy.is_empty() {
        return Err(Refusal::NotFound);
    }
    let (head, body) = request.into_parts();
    let path =
        canonical(head.uri.path()).map_err(|fault| bad(format!("the path cannot be forwarded: {fault}")))?;
    let route = live.proxy.find(&path).ok_or(Refusal::NotFound)?.clone();
    let target = route.target(&path, head.uri.query());
    let answer = forward(core, &live, &route, target, head, body, peer).await;
    if let Err(refusal) = &answer {
        route.figures.refused(refusal.problem_type());
    }
    answer
}

/// The gates in order, then the upstream. Each line passes the request on or ends it.
async fn forward(
    core: &Rc<Core>,
    live: &Live,
    route: &Arc<Route>,
    target: String,
    head: Parts,
    body: Incoming,
    peer: IpAddr,
) -> Result<Answer, Refusal> {
    let settings = &route.settings;
    well_formed(route, &head, &body)?;
    let identity = &live.config.identity;
    let trusted = identity.trusted_proxies();
    let address = client_address(&head.headers, peer, trusted);
    if settings.blacklist {
        clients::address_not_banned(core, live, &head.headers, peer)?; //                   gate 4: by network
    }
    let buyer = buyer(live, settings.identity, &head, peer)?; //                        gate 3
    if let Some(buyer) = buyer.as_ref().filter(|_| settings.blacklist) {
        clients::buyer_not_banned(core, buyer)?; //                                    gate 4: by buyer
    }
    if settings.quotas {
        quotas(core, live, route, buyer.as_deref(), &head, peer)?; //                  gate 5
    }
    let has_pass = pass(core, live, route, buyer.as_deref(), &head)?; //                      gate 6
    if settings.policies {
        judge(core, live, route, buyer.as_deref(), address, has_pass, &head)?; //            gate 7
    }
    let authority = authority(&head.uri, &head.headers, head.version).map_err(bad)?;
    let host = HeaderValue::from_str(authority).ok();
    let asked = Asked {
        target: &target,
        headers: &head.headers,
        host: host.as_ref().filter(|_| settings.host == HostRule::Client),
        is_head: head.method == Method::HEAD,
    };
    let past = match cache::serve(core, route, &head.method, asked, buyer.is_some()).await? {
        Passed::Answered(answer) => return Ok(answer),
        Passed::Past(past) => past,
    };
    let client = Client {
        peer,
        trusted: trusted.iter().any(|network| network.contains(&peer.to_canonical())),
        address,
        scheme: live.config.listen.public_scheme(),
        authority,
        version: head.version,
        buyer: buyer.as_deref(),
        identity_header: match identity {
            Identity::Anonymous { header, .. } | Identity::Header { header, .. } => Some(header),
            Identity::Jwt { .. } => None,
        },
    };
    let forwarded = headers::towards(head.headers.clone(), route, &client);
    let silence_max = Duration::from_millis(settings.idle_timeout_ms);
    let outgoing = Outgoing {
        method: head.method.clone(),
        target: PathAndQuery::try_from(&*target).map_err(|_| bad("the target cannot be forwarded"))?,
        headers: forwarded,
        host,
        body: Upload::new(body, settings.body_bytes_max, silence_max),
    };
    let mut answer = fetch(core, route, outgoing).await?; //                             gate 9
    past.tell(core, route, &head.method, &target, &mut answer).await;
    Ok(answer)
}

fn bad(why: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::BadRequest(why.into())
}

/// What no upstream should see, whoever sends it.
fn well_formed(route: &Route, head: &Parts, body: &Incoming) -> Result<(), Refusal> {
    let settings = &route.settings;
    if !settings.methods.contains(&head.method) {
        return Err(Refusal::MethodNotForwarded(settings.allow.clone()));
    }
    if head.headers.contains_key(header::UPGRADE) {
        return Err(bad("the protocol of a forwarded request cannot be changed: leave `Upgrade` out"));
    }
    // Servers differ on whether it is there at all, and take the next request from it.
    if matches!(head.method, Method::GET | Method::HEAD) && !body.is_end_stream() {
        return Err(bad("GET and HEAD are forwarded without a body"));
    }
    if body.size_hint().lower() > settings.body_bytes_max {
        return Err(Refusal::PayloadTooLarge);
    }
    Ok(())
}

fn buyer<'h>(
    live: &Live,
    needed: Needed,
    head: &'h Parts,
    peer: IpAddr,
) -> Result<Option<Cow<'h, str>>, Refusal> {
    if needed == Needed::None {
        return Ok(None);
    }
    match live.identity.prove(&head.headers, peer) {
        Ok(buyer) => Ok(Some(buyer)),
        Err(_) if needed == Needed::Optional => Ok(None),
        Err(why) => Err(Refusal::Unauthenticated(why)),
    }
}

fn quotas(
    core: &Core,
    live: &Live,
    route: &Route,
    buyer: Option<&str>,
    head: &Parts,
    peer: IpAddr,
) -> Result<(), Refusal> {
    if let Some(buyer) = buyer {
        return clients::within_quota(core, live, &route.settings.name, buyer, &head.headers, peer).map(drop);
    }
    let address = client_address(&head.headers, peer, live.config.identity.trusted_proxies());
    live.quotas.check_address(address).map_err(Refusal::ClientQuota)
}

/// Whether the pass of the route's sale is good; a route that names a sale needs one. It is not spent: that is for orders.
fn pass(core: &Core, live: &Live, route: &Route, buyer: Option<&str>, head: &Parts) -> Result<bool, Refusal> {
    let app = &*core.app;
    let Some(name) = &route.settings.pass_of_sale else { return Ok(false) };
    let sale = app.sales.find(name).ok_or(Refusal::SaleNotFound)?;
    let text = head.headers.get(PASS).ok_or(Refusal::PassRequired)?;
    let buyer = buyer.ok_or(Refusal::PassRequired)?;
    let scope = Scope { sale: &sale.sale, buyer, opens_at_ms: sale.opens_at_ms() };
    live.passes.check(&scope, text.to_str().unwrap_or(""), app.clock.now_ms())?;
    Ok(true)
}

fn judge(
    core: &Core,
    live: &Live,
    route: &Route,
    buyer: Option<&str>,
    address: IpAddr,
    has_pass: bool,
    head: &Parts,
) -> Result<(), Refusal> {
    let Some(policies) = &live.policies else { return Ok(()) };
    let (buyer, now_ms) = (buyer.unwrap_or(""), core.app.clock.now_ms());
    let (recent_by_buyer, recent_by_address) = policies.count(buyer, address, now_ms);
    let facts = Facts {
        sale: route.settings.pass_of_sale.as_deref().unwrap_or(""),
        buyer,
        address,
        quantity: 0,
        has_pass,
        recent_by_buyer,
        recent_by_address,
        now_ms,
        headers: &head.headers,
    };
    match policies.judge(core.index, &core.policy, &facts, "{}") {
        Judged::Allowed(_) => Ok(()),
        Judged::Denied(why) => Err(Refusal::DeniedByPolicy(why)),
        Judged::PassNeeded if has_pass => Ok(()),
        Judged::PassNeeded => Err(Refusal::PassRequired),
    }
}
