//! A request to the upstreams of its route and the answer: a place, a token, a connection.
//!
//! This is all that costs the upstream something; what stands before it (the gates, a cache) is in [`super::serve`].

use super::download::Download;
use super::headers;
use super::pool::{Connection, NoConnection};
use super::routes::{Flight, Route};
use super::upload::{GiveUp, Progress, Upload, UploadFault, answered};
use super::upstream::{UnderWay, choose};
use crate::config::HostRule;
use crate::http::{Answer, Body, Refusal};
use crate::state::Core;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// Pause asked for while all places at the upstreams are taken.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// A route that takes tokens of the orders' queue counts there as one sale of this weight.
const SHARED_WEIGHT: u32 = 1;

/// A request as it goes out: cleaned, with nothing of the client's connection left in it.
#[derive(Debug)]
pub struct Outgoing {
    /// One of the route's.
    pub method: Method,
    /// What the upstream is asked for.
    pub target: PathAndQuery,
    /// Without `Host`, length and transfer encoding: they are set here.
    pub headers: HeaderMap,
    /// What the client asked for as host; `None` for requests of the gateway's own.
    pub host: Option<HeaderValue>,
    /// Streams.
    pub body: Upload,
}

impl Outgoing {
    fn into_request(self) -> Request<Upload> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.target);
        *request.headers_mut() = self.headers;
        request
    }
}

/// Takes a place and a token, asks an upstream, and answers as soon as the head of its answer is there; the body follows
/// as it comes. The answer may have any status; a refusal is the gateway's own: no token (429), no place (429), no
/// upstream (502), no answer in time (504), a body too large (413) or too slow (408).
///
/// Whatever is asked at the same time, the upstreams together are sent at most `rate_per_s × t + burst` requests in any
/// time `t`, repeats included. Cancel safe: dropped, it closes the connection that the request was on.
pub async fn fetch(core: &Core, route: &Arc<Route>, outgoing: Outgoing) -> Result<Answer, Refusal> {
    let flight = route.enter().ok_or(Refusal::Overloaded(BUSY_RETRY))?;
    enter(core, route).await?;
    let method = outgoing.method.clone();
    let client_host = outgoing.host.clone();
    // Whatever becomes of it: nothing is read of the request once it is answered.
    let upload = GiveUp(outgoing.body.progress());
    let mut request = outgoing.into_request();
    let mut fresh = false;
    loop {
        let mut line = reach(core, route, fresh).await?;
        if let Some(pace) = &route.pace {
            pace.leave().await.map_err(Refusal::Overloaded)?;
        }
        request.headers_mut().insert(header::HOST, host(route, &line, client_host.as_ref()));
        let spare = line.connection.reused.then(|| spare(&request)).flatten();
        let progress = request.body().progress();
        match exchange(route, &mut line, request, &progress).await {
            Ok(response) => return Ok(told(core, route, response, line, upload, flight, &method)),
            Err(Lost::Refused(refusal)) => return Err(refusal),
            // It had been closed while it was idle, perhaps: once more, on a new connection.
            Err(Lost::Closed(back)) => {
                let Some(again) = back.filter(|_| line.connection.reused).or(spare) else {
                    // A client that sends so slowly that the upstream gives up says nothing against the upstream.
                    if progress.over.get() {
                        failed(route, &line.under_way);
                    }
                    return Err(Refusal::UpstreamUnavailable);
                };
                request = again;
            }
        }
        fresh = true;
        route.figures.retried();
    }
}

/// The token, of the route's own queue or of the one that all orders share.
async fn enter(core: &Core, route: &Route) -> Result<(), Refusal> {
    if route.settings.shared_tokens {
        let token = core.app.tokens.take(&route.shared_name, SHARED_WEIGHT).await;
        return token.map(|_used| ()).map_err(|none| Refusal::Overloaded(none.retry_after));
    }
    match &route.pace {
        Some(pace) => pace.enter().await.map_err(Refusal::Overloaded),
        None => Ok(()),
    }
}

/// A connection to the upstream whose turn it is.
struct Line {
    connection: Connection,
    under_way: UnderWay,
}

/// Asks one upstream after the other for a connection, each once. Nothing is sent.
async fn reach(core: &Core, route: &Arc<Route>, fresh: bool) -> Result<Line, Refusal> {
    let mut tried = 0_u64;
    let mut last = Refusal::UpstreamUnavailable;
    let next = |tried| choose(&route.upstreams, route.settings.balance, &route.turn, tried, Instant::now());
    while let Some((place, upstream)) = next(tried) {
        tried |= 1 << place;
        let under_way = UnderWay::new(upstream);
        let idle = if fresh { None } else { core.proxy.take(upstream) };
        let connection = match idle {
            Some(connection) => Ok(connection),
            None => core.proxy.open(route, upstream).await,
        };
        match connection {
            Ok(connection) => return Ok(Line { connection, under_way }),
            Err(error) => {
                debug!(route = route.settings.name, upstream = %upstream.address, %error, "no connection");
                failed(route, &under_way);
                last = match error {
                    NoConnection::TimedOut => Refusal::UpstreamTimeout,
                    NoConnection::Io(_) | NoConnection::Http(_) => Refusal::UpstreamUnavailable,
                };
            }
        }
    }
    Err(last)
}

fn failed(route: &Route, under_way: &UnderWay) {
    let settings = &route.settings;
    under_way.0.failed(settings.fail_max, Duration::from_millis(settings.down_ms), Instant::now());
}

fn host(route: &Route, line: &Line, client: Option<&HeaderValue>) -> HeaderValue {
    let own = || line.under_way.0.address.authority().clone();
    match &route.settings.host {
        HostRule::Upstream => own(),
        HostRule::Client => client.cloned().unwrap_or_else(own),
        HostRule::Fixed(name) => name.clone(),
    }
}

/// The same request once more, when sending it twice is the same as once and nothing of its body is gone.
fn spare(request: &Request<Upload>) -> Option<Request<Upload>> {
    let method = request.method();
    if !request.body().is_none() || !(method.is_idempotent()) {
        return None;
    }
    let mut spare = Request::new(Upload::none());
    *spare.method_mut() = method.clone();
    *spare.uri_mut() = request.uri().clone();
    spare.headers_mut().clone_from(request.headers());
    Some(spare)
}

/// Why there is no answer.
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at where it is made, and a connection that failed is rare"
)]
enum Lost {
    /// And will be none.
    Refused(Refusal),
    /// The connection ended before an answer came; with the request, when nothing of it was sent.
    Closed(Option<Request<Upload>>),
}

/// Sends, and waits for the head of the answer.
async fn exchange(
    route: &Route,
    line: &mut Line,
    request: Request<Upload>,
    progress: &Progress,
) -> Result<Response<Incoming>, Lost> {
    let began = Instant::now();
    let time_max = Duration::from_millis(route.settings.first_byte_timeout_ms);
    let Some(outcome) = answered(line.connection.sender.try_send_request(request), progress, time_max).await
    else {
        failed(route, &line.under_way);
        return Err(Lost::Refused(Refusal::UpstreamTimeout));
    };
    match outcome {
        // Nobody asked it to change the protocol.
        Ok(response) if response.status().is_informational() => {
            failed(route, &line.under_way);
            Err(Lost::Refused(Refusal::UpstreamUnavailable))
        }
        Ok(response) => {
            line.under_way.0.answered();
            route.figures.answered(response.status(), began.elapsed());
            Ok(response)
        }
        Err(mut error) => {
            debug!(route = route.settings.name, error = %error.error(), "no answer");
            Err(match progress.fault.get() {
                Some(UploadFault::TooLarge) => Lost::Refused(Refusal::PayloadTooLarge),
                Some(UploadFault::Slow) => Lost::Refused(Refusal::RequestTimeout),
                Some(fault @ UploadFault::Broken) => {
                    Lost::Refused(Refusal::BadRequest(fault.to_string().into()))
                }
                None => Lost::Closed(error.take_message()),
            })
        }
    }
}

/// The answer as the client gets it.
fn told(
    core: &Core,
    route: &Arc<Route>,
    response: Response<Incoming>,
    line: Line,
    upload: GiveUp,
    flight: Flight,
    method: &Method,
) -> Answer {
    let (mut head, body) = response.into_parts();
    headers::back(&mut head.headers, head.status, method, head.version);
    head.extensions.clear();
    let Line { connection, under_way } = line;
    let download =
        Download::new(body, connection.sender, upload, core.proxy.clone(), route.clone(), under_way, flight);
    let body = if download.is_end_stream() { Body::Full(None) } else { Body::Proxied(Box::new(download)) };
    let mut answer = Response::from_parts(head, body);
    *answer.version_mut() = http::Version::default();
    answer
}
