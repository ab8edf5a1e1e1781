//! A flight: asks the upstream once for all who wait, judges the answer, keeps it.

use super::Asked;
use super::figures::End;
use super::flight::{Landed, Landing, Loss};
use super::key;
use super::page::{Page, State};
use super::preload::is_due;
use super::rules::{self, Lifetime, Verdict};
use super::second::Turn;
use super::serve::is_failure;
use crate::config::CacheRoute;
use crate::http::Body;
use crate::proxy::{Outgoing, Route, Upload, fetch};
use crate::state::Core;
use bytes::Bytes;
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, VIA};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Beyond the upstream's own bounds: for the wait for a token.
const MARGIN: Duration = Duration::from_secs(5);

/// What the upstream is asked, with nothing of any client in it but what is in the key.
#[derive(Debug)]
pub(super) struct Ask {
    target: String,
    host: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Ask {
    pub(super) fn of(asked: &Asked<'_>, settings: &CacheRoute) -> Self {
        let told = |name: &HeaderName| Some((name.clone(), key::told(asked.headers, name)?));
        Self {
            target: asked.target.to_owned(),
            host: asked.host.cloned(),
            headers: settings.vary.iter().filter_map(told).collect(),
        }
    }

    /// `old`: what is asked whether it is still good.
    fn outgoing(self, route: &Route, old: Option<&Page>) -> Option<Outgoing> {
        let mut headers: HeaderMap = self.headers.into_iter().collect();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.insert(VIA, HeaderValue::from_static("1.1 tidegate"));
        for (name, value) in &route.settings.add_headers {
            headers.insert(name, value.clone());
        }
        if let Some(old) = old {
            old.make_conditional(&mut headers);
        }
        let target = PathAndQuery::try_from(self.target).ok()?;
        Some(Outgoing { method: Method::GET, target, headers, host: self.host, body: Upload::none() })
    }
}

/// How long a flight may take, and so whoever waits for it.
pub(super) fn time_max(route: &Route) -> Duration {
    let settings = &route.settings;
    let token_ms = settings.tokens.as_ref().map_or(0, |tokens| tokens.max_wait_ms);
    let ms =
        settings.connect_timeout_ms + settings.first_byte_timeout_ms + settings.idle_timeout_ms + token_ms;
    Duration::from_millis(ms) + MARGIN
}

/// Begins the flight as a task of this core.
pub(super) fn spawn(core: &Rc<Core>, route: &Arc<Route>, ask: Ask, old: Option<Arc<Page>>, landing: Landing) {
    let (core, route) = (core.clone(), route.clone());
    tokio::task::spawn_local(fly(core, route, ask, old, landing, false));
}

/// As [`spawn`], for a page that is still fresh and soon stale.
pub(super) fn spawn_early(
    core: &Rc<Core>,
    route: &Arc<Route>,
    ask: Ask,
    old: Option<Arc<Page>>,
    landing: Landing,
) {
    let (core, route) = (core.clone(), route.clone());
    tokio::task::spawn_local(fly(core, route, ask, old, landing, true));
}

/// See [`spawn`]. Ends within [`time_max`].
async fn fly(
    core: Rc<Core>,
    route: Arc<Route>,
    ask: Ask,
    old: Option<Arc<Page>>,
    landing: Landing,
    is_early: bool,
) {
    let (cache, key) = (&core.app.cache, landing.key().clone());
    let now = Instant::now();
    // Another one may have landed between the look at what is kept and the beginning of this flight.
    if !is_early
        && let Some(page) = cache.store.page(&key, now)
        && page.state(now) == State::Fresh
    {
        return landing.land(Landed::Page(page));
    }
    let good = |page: &Page| {
        if is_early { !is_due(page, Instant::now()) } else { page.state(Instant::now()) == State::Fresh }
    };
    let turn = match &core.second {
        Some(second) => second.turn(&key, good).await,
        None => Turn::Alone,
    };
    let claim = match turn {
        Turn::Found(page) => {
            let page = Arc::new(*page);
            if !landing.is_outdated() {
                cache.store.keep(key, page.clone());
            }
            cache.figures.landed(core.index, End::Shared);
            return landing.land(Landed::Page(page));
        }
        Turn::Ours(claim) => Some(claim),
        Turn::Alone => None,
    };
    let asking = ask_upstream(&core, &route, ask, old.as_deref(), now);
    let found = tokio::time::timeout(time_max(&route), asking).await.unwrap_or(Found::Lost(Loss::TimedOut));
    let mut for_others = None;
    let (landed, end) = match found {
        Found::Page { page, keep, revalidated } => {
            let page = Arc::new(*page);
            if keep && !landing.is_outdated() {
                cache.store.keep(key.clone(), page.clone());
                for_others = Some(page.clone());
            }
            let end = match (keep, revalidated) {
                (true, true) => End::Revalidated,
                (true, false) => End::Kept,
                (false, _) => End::Told,
            };
            if is_failure(page.status) {
                tried_in_vain(old.as_deref());
            }
            (Landed::Page(page), end)
        }
        Found::Own => {
            cache.store.own(key.clone(), Instant::now());
            (Landed::Own, End::Own)
        }
        Found::Lost(loss) => {
            tried_in_vain(old.as_deref());
            (Landed::Lost(loss), End::Lost)
        }
    };
    cache.figures.landed(core.index, end);
    landing.land(landed);
    if let (Some(second), Some(claim)) = (&core.second, claim) {
        second.bring(claim, &key, for_others.as_deref()).await;
    }
}

fn tried_in_vain(old: Option<&Page>) {
    if let Some(old) = old {
        old.tried_in_vain(Instant::now());
    }
}

/// What the upstream answered.
enum Found {
    Page { page: Box<Page>, keep: bool, revalidated: bool },
    Own,
    Lost(Loss),
}

async fn ask_upstream(
    core: &Core,
    route: &Arc<Route>,
    ask: Ask,
    old: Option<&Page>,
    asked_at: Instant,
) -> Found {
    let Some(settings) = &route.settings.cache else { return Found::Own };
    let Some(outgoing) = ask.outgoing(route, old) else { return Found::Own };
    let answer = match fetch(core, route, outgoing).await {
        Ok(answer) => answer,
        Err(refusal) => return Found::Lost(refusal.into()),
    };
    let (head, body) = answer.into_parts();
    if let (StatusCode::NOT_MODIFIED, Some(old)) = (head.status, old) {
        let headers = old.headers_after(&head.headers);
        let age_then = rules::age_at_first(&head.headers);
        return judged(settings, old.status, headers, old.body.clone(), age_then, asked_at, true);
    }
    let bytes_max = core.live().config.cache.body_bytes_max;
    let body = match whole(body, bytes_max).await {
        Ok(body) => body,
        Err(found) => return found,
    };
    let age_then = rules::age_at_first(&head.headers);
    judged(settings, head.status, head.headers, body, age_then, asked_at, false)
}

fn judged(
    settings: &CacheRoute,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    age_then: Duration,
    asked_at: Instant,
    revalidated: bool,
) -> Found {
    let (life, keep) = match rules::judge(status, &headers, settings, None) {
        Verdict::Own(_) => return Found::Own,
        Verdict::Now => (Lifetime::NONE, false),
        Verdict::Keep(life) => (life, true),
    };
    let page = Page::new(status, headers, body, life, age_then, asked_at, false);
    Found::Page { page: Box::new(page), keep, revalidated }
}

/// The whole body; larger ones are streamed to each client for itself.
async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, Found> {
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Found::Own);
    }
    match Limited::new(body, bytes_max).collect().await {
        // A copy: what came may be a small part of a large buffer.
        Ok(collected) => Ok(Bytes::copy_from_slice(&collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Found::Own),
        Err(_) => Err(Found::Lost(Loss::Unavailable)),
    }
}
