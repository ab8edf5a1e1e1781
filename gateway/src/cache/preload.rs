//! Pages that are kept before anybody asks for them, so that the first second of a sale meets a warm cache.
//!
//! They are fetched in the first minute of the gateway, and around the opening of any sale: from ten minutes before until
//! ten minutes after, or while a sale waits to be opened by hand. Each is asked for again before it is stale. At other
//! times only requests keep pages. A page costs at most one request a second, and [`AT_ONCE`] are under way at once.

use super::fetch::{self, Ask};
use super::flight::{Joined, Landed};
use super::page::Page;
use super::store::Kept;
use super::{Asked, key};
use crate::proxy::Route;
use crate::state::Core;
use hashbrown::HashSet;
use http::HeaderMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::Window;
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// Pages that are asked for at once.
const AT_ONCE: usize = 4;
/// After the start pages are fetched whatever the sales say.
const FIRST: Duration = Duration::from_mins(1);
/// Before and after a sale opens.
const AROUND_MS: u64 = 600_000;
/// A page is asked for again when less than this is left of its freshness, and less than a quarter.
const LEFT_MIN: Duration = Duration::from_secs(2);

/// Keeps the pages of all routes until the gateway stops.
pub(crate) async fn run_preload(core: Rc<Core>) {
    let began = Instant::now();
    let mut told = HashSet::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = core.app.stopping.wait() => return,
        }
        if began.elapsed() < FIRST || is_around_an_opening(&core) {
            tokio::select! {
                () = look(&core, &mut told) => {}
                () = core.app.stopping.wait() => return,
            }
        }
    }
}

fn is_around_an_opening(core: &Core) -> bool {
    let now_ms = core.app.clock.now_ms();
    core.app.sales.all().iter().any(|sale| match sale.window(|| now_ms) {
        Window::NotOpen { opens_at_ms: None } => true,
        Window::NotOpen { opens_at_ms: Some(at_ms) } => at_ms.saturating_sub(now_ms) <= AROUND_MS,
        Window::Open => sale.opens_at_ms().is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= AROUND_MS),
        Window::Closed => false,
    })
}

async fn look(core: &Rc<Core>, told: &mut HashSet<String>) {
    let live = core.live();
    let mut under_way = Vec::with_capacity(AT_ONCE);
    for route in live.proxy.all() {
        let paths = route.settings.cache.iter().flat_map(|cache| &cache.preload);
        for path in paths {
            if let Some(waiter) = begin(core, route, path) {
                under_way.push((path, waiter));
            }
            if under_way.len() == AT_ONCE {
                settle(&mut under_way, route, told).await;
            }
        }
        settle(&mut under_way, route, told).await;
    }
}

async fn settle(
    under_way: &mut Vec<(&String, super::flight::Waiter)>,
    route: &Route,
    told: &mut HashSet<String>,
) {
    for (path, waiter) in under_way.drain(..) {
        let landed = waiter.wait(fetch::time_max(route)).await;
        if matches!(landed, Landed::Own) && told.insert(path.clone()) {
            warn!(
                route = route.settings.name,
                path,
                "a page of cache_preload is not kept: it is too large, or the upstream says that it is not for all; \
                 see the Cache-Status of its answer"
            );
        }
    }
}

/// Asks for a page that is not there or soon stale.
fn begin(core: &Rc<Core>, route: &Arc<Route>, path: &str) -> Option<super::flight::Waiter> {
    let settings = route.settings.cache.as_ref()?;
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let target = route.target(path, query);
    let headers = HeaderMap::new();
    let asked = Asked { target: &target, headers: &headers, host: None, is_head: false };
    let key = key::of(&route.settings.name, &asked, &settings.vary);
    let now = Instant::now();
    let old = match core.app.cache.store.find(&key, now) {
        Some(Kept::Own(_)) => return None,
        Some(Kept::Page(page)) if !is_due(&page, now) => return None,
        Some(Kept::Page(page)) => Some(page),
        None => None,
    };
    match core.app.cache.flights.join(&key) {
        Joined::First(landing) => {
            let waiter = landing.waiter();
            fetch::spawn_early(core, route, Ask::of(&asked, settings), old, landing);
            waiter
        }
        Joined::Later(_) | Joined::Full => None,
    }
}

/// Whether it is time for a newer one.
pub(super) fn is_due(page: &Page, now: Instant) -> bool {
    let left = page.life.fresh.saturating_sub(page.age(now));
    left < LEFT_MIN.max(page.life.fresh / 4) && page.may_try(now)
}
