//! Everything that a reload replaces, in one struct that is swapped whole: a request meets the old settings or the new
//! ones, never some of each (failure mode 43).
//!
//! What must outlive a reload (counted clients, spent passes, tokens already given) is handed from one [`Live`] to the
//! next by [`Live::build`]: each part takes over from the one before it what its new settings allow.

use super::App;
use crate::admission::pass::{KeyFailure, Passes};
use crate::admission::{Identity, Quotas};
use crate::config::Config;
use crate::listener::Tls;
use crate::policy::{Policies, PolicyError};
use crate::proxy::Routes;
use arc_swap::{ArcSwap, Cache};
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_queue::Clock;

/// The settings of this moment, and the gates built from them.
#[derive(Debug)]
pub struct Live {
    /// As loaded last. What cannot change while running is the same in every one.
    pub config: Config,
    /// TLS of the public listener; `None` is off.
    pub tls: Option<Arc<Tls>>,
    /// Gate 3.
    pub identity: Identity,
    /// Gate 5.
    pub quotas: Arc<Quotas>,
    /// Gate 6.
    pub passes: Passes,
    /// Gate 7; `None` is off.
    pub policies: Option<Arc<Policies>>,
    /// Paths that upstreams answer.
    pub proxy: Routes,
}

/// Settings are good as text, and what they name cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Purchase passes cannot be signed.
    #[error(transparent)]
    PassKey(#[from] KeyFailure),
    /// TLS cannot be set up.
    #[error("[listen.tls]: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// A policy cannot be loaded.
    #[error("[admission.policy] files: {0}")]
    Policy(#[from] PolicyError),
}

impl Live {
    /// Builds every part before any of it is used. `previous`: what runs now; parts whose settings are the same go on
    /// as they are, the others take over what they can. Reads files.
    pub(crate) fn build(
        config: Config,
        previous: Option<&Self>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, LiveError> {
        let identity = match previous {
            Some(previous) if previous.config.identity == config.identity => previous.identity.clone(),
            _ => Identity::new(&config.identity, clock.clone(), previous.map(|live| &live.identity)),
        };
        let counted = previous.map(|live| (&live.config.quota, &*live.quotas));
        let quotas = Arc::new(Quotas::new(&config.quota, config.identity.trusted_proxies(), counted));
        let tls = match (&config.listen.tls, previous) {
            (None, _) => None,
            (now, Some(previous)) if previous.config.listen.tls == *now => previous.tls.clone(),
            (Some(settings), _) => {
                let running = previous.and_then(|live| live.tls.as_deref());
                Some(Arc::new(Tls::new(settings, running)?))
            }
        };
        Ok(Self {
            tls,
            identity,
            quotas,
            passes: Passes::open(
                &config.pass,
                config.quota.clients_max,
                &config.data.dir,
                previous.map(|live| &live.passes),
            )?,
            policies: Policies::open(
                &config.policy,
                config.listen.threads + 1,
                previous.and_then(|live| live.policies.as_ref()),
            )?,
            proxy: Routes::new(&config.proxy, previous.map(|live| &live.proxy)),
            config,
        })
    }
}

/// One core's way to the present [`Live`]: no atomic write, no lock, a few nanoseconds.
#[derive(Debug)]
pub struct CoreLive(RefCell<Latest>);

#[derive(Debug)]
struct Latest {
    cache: Cache<Arc<ArcSwap<Live>>, Arc<Live>>,
    /// The same as in the cache, counted on this core alone.
    local: LiveRef,
}

/// A [`Live`] that is held as long as needed, across waits too: a request that is judged by one is judged by it to its
/// end. Stays on its core.
#[derive(Debug, Clone)]
#[expect(
    clippy::redundant_allocation,
    reason = "the outer count is one core's own: cores share no cache line"
)]
pub struct LiveRef(Rc<Arc<Live>>);

impl Deref for LiveRef {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.0
    }
}

impl CoreLive {
    /// For one core of `app`.
    pub(crate) fn new(app: &App) -> Self {
        let mut cache = Cache::new(app.live.clone());
        let local = LiveRef(Rc::new(cache.load().clone()));
        Self(RefCell::new(Latest { cache, local }))
    }

    /// The present settings.
    pub fn load(&self) -> LiveRef {
        let Latest { cache, local } = &mut *self.0.borrow_mut();
        let present = cache.load();
        if !Arc::ptr_eq(present, &local.0) {
            *local = LiveRef(Rc::new(present.clone()));
        }
        local.clone()
    }
}
