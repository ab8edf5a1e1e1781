//! A response cache for the answers of proxy routes: what is the same for everybody is asked of the upstream once.
//! `docs/cache.md` tells how to use it.
//!
//! What the upstream is asked for the cache carries nothing of any client: no cookie, no authorization, no buyer, no
//! address; only the headers that the route names, which are part of the answer's name here. So no answer can be one buyer's
//! and reach another, whatever the upstream forgets to say of it.
//!
//! ```text
//! key.rs      the name of an answer
//! control.rs  Cache-Control
//! rules.rs    what may be kept, for whom, how long
//! page.rs     one kept answer: its age, and how it is told
//! store.rs    where they are kept, bounded
//! second.rs   the second level, in Redis, shared by a fleet
//! flight.rs   one request upstream for however many wait
//! serve.rs    a request: kept answer, flight, or past the cache
//! fetch.rs    a flight: the upstream's answer, judged and kept
//! preload.rs  pages that are there before the sale opens
//! figures.rs  counters
//! ```

mod control;
mod fetch;
mod figures;
mod flight;
mod key;
mod page;
mod preload;
mod rules;
mod second;
mod serve;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use figures::encode;
pub(crate) use preload::run_preload;
pub(crate) use second::Second;
pub(crate) use serve::{Passed, serve};

use figures::Figures;
use flight::Flights;
use http::header::{HeaderMap, HeaderValue};
use std::sync::Arc;
use store::Store;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Path and query at the upstream.
    pub(crate) target: &'a str,
    /// As they came.
    pub(crate) headers: &'a HeaderMap,
    /// The host, where the upstream is told it.
    pub(crate) host: Option<&'a HeaderValue>,
    /// HEAD instead of GET.
    pub(crate) is_head: bool,
}

/// The answers that this gateway keeps, and those that it is asking for. Outlives reloads.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    flights: Arc<Flights>,
    figures: Figures,
}

impl Cache {
    /// Keeps at most `bytes_max`; at most `waiting_max` requests wait for answers; `cores` threads count.
    pub fn new(bytes_max: u64, waiting_max: usize, cores: usize) -> Self {
        Self {
            store: Store::new(bytes_max),
            flights: Flights::new(waiting_max),
            figures: Figures::new(cores),
        }
    }

    /// Forgets the answers of a route whose target at the upstream begins with `path`, also those that are on their way.
    /// How many were kept. Looks at every answer.
    pub fn forget(&self, route: &str, path: &str) -> usize {
        let prefix = key::prefix(route, path);
        self.flights.outdate(|key| key.starts_with(&prefix));
        self.store.forget_prefix(&prefix)
    }

    /// Forgets the answers to one target: something has changed it.
    pub(crate) fn changed(&self, route: &str, target: &str) {
        self.flights.outdate(|key| key::is_target(key, route, target));
        self.store.forget_target(route, target);
    }
}
