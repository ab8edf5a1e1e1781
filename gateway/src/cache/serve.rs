//! A request to a route with a cache. It passed the gates before a token: what is kept costs the upstream nothing.

use super::Asked;
use super::fetch::{self, Ask};
use super::figures::Outcome;
use super::flight::{Joined, Landed, Waiter};
use super::key::{self, Key};
use super::page::{Page, State, tell};
use super::store::Kept;
use crate::config::CacheRoute;
use crate::http::{Answer, Refusal};
use crate::proxy::Route;
use crate::state::Core;
use http::header::{AUTHORIZATION, COOKIE, RANGE};
use http::{Method, StatusCode};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause asked for while too many wait.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// Who could be told an old answer waits at most so long for a new one.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the cache says of a request.
#[derive(Debug)]
pub(crate) enum Passed {
    /// Answered.
    Answered(Answer),
    /// To be asked of the upstream for this client alone; the answer is to say why ([`Past::tell`]).
    Past(Past),
}

/// Why a request goes past the cache.
#[derive(Debug)]
pub(crate) struct Past {
    how: Option<&'static str>,
    /// Of what the request may change for the whole fleet.
    key: Option<Key>,
}

impl Past {
    /// The upstream's answer, once it is there: says how it came, and forgets what it has changed.
    /// Cancel safe.
    pub(crate) async fn tell(
        self,
        core: &Core,
        route: &Route,
        method: &Method,
        target: &str,
        answer: &mut Answer,
    ) {
        let Some(how) = self.how else { return };
        tell(answer, how);
        // RFC 9111, 4.4.
        let done = answer.status().is_success() || answer.status().is_redirection();
        if !method.is_safe() && done {
            // Redis first: what is forgotten here before would be fetched from there again.
            if let (Some(second), Some(key)) = (&core.second, self.key) {
                second.forget(&key).await;
            }
            core.app.cache.changed(&route.settings.name, target);
        }
    }
}

/// Answers from what is kept, or from one request to the upstream that all share who wait for it. Cancel safe: what was
/// asked of the upstream goes on for the others, and for those who come later.
pub(crate) async fn serve(
    core: &Rc<Core>,
    route: &Arc<Route>,
    method: &Method,
    asked: Asked<'_>,
    has_buyer: bool,
) -> Result<Passed, Refusal> {
    let Some(settings) = &route.settings.cache else {
        return Ok(Passed::Past(Past { how: None, key: None }));
    };
    let cache = &core.app.cache;
    let count = |outcome| cache.figures.answered(core.index, outcome);
    let past = |how| Ok(Passed::Past(Past { how: Some(how), key: None }));
    if let Some(how) = not_for_cache(settings, method, &asked, has_buyer) {
        count(Outcome::Bypass);
        let changes = !method.is_safe() && core.second.is_some();
        let key = changes.then(|| key::of(&route.settings.name, &asked, &settings.vary));
        return Ok(Passed::Past(Past { how: Some(how), key }));
    }
    let key = key::of(&route.settings.name, &asked, &settings.vary);
    let now = Instant::now();
    let answered = |outcome, page: &Page, how: &str| {
        count(outcome);
        Ok(Passed::Answered(page.answer(&asked, Instant::now(), how)))
    };
    let old = match cache.store.find(&key, now) {
        Some(Kept::Own(_)) => {
            count(Outcome::Own);
            return past("fwd=bypass; detail=own");
        }
        Some(Kept::Page(page)) => match page.state(now) {
            State::Fresh => {
                return answered(Outcome::Hit, &page, &format!("hit; ttl={}", page.ttl_s(now)));
            }
            State::WhileRevalidate => {
                if page.may_try(now)
                    && let Joined::First(landing) = cache.flights.join(&key)
                {
                    fetch::spawn(core, route, Ask::of(&asked, settings), Some(page.clone()), landing);
                }
                return answered(Outcome::Stale, &page, &format!("hit; ttl={}", page.ttl_s(now)));
            }
            State::IfError if !page.may_try(now) => {
                return answered(Outcome::StaleOnError, &page, &failed(&page));
            }
            State::IfError | State::Over => Some(page),
        },
        None => None,
    };
    let (waiter, outcome) = match cache.flights.join(&key) {
        Joined::First(landing) => {
            let waiter = landing.waiter();
            fetch::spawn(core, route, Ask::of(&asked, settings), old.clone(), landing);
            (waiter, Outcome::Miss)
        }
        Joined::Later(waiter) => (Some(waiter), Outcome::Collapsed),
        Joined::Full => (None, Outcome::Collapsed),
    };
    let stand_in = old.filter(|page| page.may_stand_in(now));
    let Some(waiter) = waiter else {
        count(Outcome::Full);
        return Err(Refusal::Overloaded(FULL_RETRY));
    };
    match landed(waiter, stand_in.is_some(), route).await {
        Landed::Page(page) if page.status.is_server_error() && stand_in.is_some() => stand_in.map_or_else(
            || past("fwd=uri-miss"),
            |page| answered(Outcome::StaleOnError, &page, &failed(&page)),
        ),
        Landed::Page(page) => {
            let how =
                if matches!(outcome, Outcome::Miss) { "fwd=uri-miss" } else { "fwd=uri-miss; collapsed" };
            answered(outcome, &page, how)
        }
        Landed::Own => {
            count(Outcome::Own);
            past("fwd=uri-miss; detail=own")
        }
        Landed::Lost(loss) => match stand_in {
            Some(page) => answered(Outcome::StaleOnError, &page, &failed(&page)),
            None => Err(loss.into()),
        },
    }
}

async fn landed(waiter: Waiter, has_stand_in: bool, route: &Route) -> Landed {
    let patience = if has_stand_in { PATIENCE } else { fetch::time_max(route) };
    waiter.wait(patience).await
}

fn failed(page: &Page) -> String {
    format!("hit; ttl={}; detail=upstream-failed", page.ttl_s(Instant::now()))
}

/// Why a request is for the upstream alone: it may change something, wants a part, or tells who its sender is.
fn not_for_cache(
    settings: &CacheRoute,
    method: &Method,
    asked: &Asked<'_>,
    has_buyer: bool,
) -> Option<&'static str> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some("fwd=method");
    }
    let has = |name| asked.headers.contains_key(name);
    let named = has_buyer || has(AUTHORIZATION) || has(COOKIE);
    ((named && !settings.for_everybody) || has(RANGE)).then_some("fwd=bypass")
}

/// Whether a status stands for a failure of the upstream.
pub(super) fn is_failure(status: StatusCode) -> bool {
    status.is_server_error()
}
