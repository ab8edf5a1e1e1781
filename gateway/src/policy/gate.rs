//! The gate: which VM is asked, what is counted, what an error means.

use super::breaker::{Breaker, FAILURES_MAX, LONG};
use super::frequency::Frequency;
use super::{Facts, PolicyError, Sources, Verdict, Vm};
use crate::admission::network_of;
use crate::config::PolicySettings;
use arc_swap::ArcSwap;
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::warn;

/// Between two lines of the log about failing policies, on one core.
const WARN_PAUSE: Duration = Duration::from_secs(10);

/// The policies of a gateway.
pub struct Policies {
    settings: PolicySettings,
    present: ArcSwap<Sources>,
    /// Outlives a change of the settings.
    memory: Arc<Memory>,
}

/// What is counted of orders and policies.
struct Memory {
    by_buyer: Frequency,
    by_address: Frequency,
    /// Runs that failed, and took long.
    failures: Frequency,
    /// One row a core.
    counts: Vec<Counts>,
    reload_failures: AtomicU64,
}

/// What one core's policies said.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    /// Orders that were judged.
    pub evaluations: AtomicU64,
    /// … and denied.
    pub denials: AtomicU64,
    /// … and asked for a pass that did not come with them.
    pub challenges: AtomicU64,
    /// … and not judged, because a policy failed.
    pub errors: AtomicU64,
    /// … of these, without asking any: too many had failed.
    pub suspended: AtomicU64,
}

/// What a policy says of an order.
#[derive(Debug, PartialEq)]
pub enum Judged {
    /// It goes on. With attributes: they replace the order's, of which they hold all others.
    Allowed(Option<String>),
    /// It does not; why.
    Denied(String),
    /// Only with a purchase pass, which then is spent.
    PassNeeded,
}

/// A core's VM, made when it is first needed and after each change of the policies.
#[derive(Debug, Default)]
pub struct CorePolicy(RefCell<Seat>);

#[derive(Debug, Default)]
struct Seat {
    vm: Option<Vm>,
    warned: Option<Instant>,
    breaker: Breaker,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Policies {
    /// Reads and compiles the files of the settings; `None` when there are none. What `previous` has counted goes on.
    pub fn open(
        settings: &PolicySettings,
        cores: usize,
        previous: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, PolicyError> {
        if settings.files.is_empty() {
            return Ok(None);
        }
        let sources = Sources::read(&settings.files)?;
        sources.check(settings)?;
        if let Some(previous) = previous
            && previous.settings == *settings
            && previous.present.load().scripts == sources.scripts
        {
            return Ok(Some(previous.clone()));
        }
        let memory = previous.map_or_else(
            || {
                Arc::new(Memory {
                    by_buyer: Frequency::new(),
                    by_address: Frequency::new(),
                    failures: Frequency::new(),
                    counts: (0..cores.max(1)).map(|_| Counts::default()).collect(),
                    reload_failures: AtomicU64::new(0),
                })
            },
            |previous| previous.memory.clone(),
        );
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            present: ArcSwap::from_pointee(sources),
            memory,
        })))
    }

    /// A change of the files could not be taken.
    pub(super) fn count_reload_failure(&self) {
        self.memory.reload_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes of the files that could not be taken.
    pub fn reload_failures(&self) -> u64 {
        self.memory.reload_failures.load(Ordering::Relaxed)
    }

    pub(super) fn settings(&self) -> &PolicySettings {
        &self.settings
    }

    pub(super) fn present(&self) -> Arc<Sources> {
        self.present.load_full()
    }

    pub(super) fn take(&self, sources: Sources) {
        self.present.store(Arc::new(sources));
    }

    /// Counts this order for its buyer and its address: `recent_by_buyer`, `recent_by_address`.
    pub fn count(&self, buyer: &str, address: IpAddr, now_ms: u64) -> (u32, u32) {
        let memory = &self.memory;
        (memory.by_buyer.count(&buyer, now_ms), memory.by_address.count(&network_of(address), now_ms))
    }

    /// Judges an order on core `core`, whose VM is `seat`. `attributes`: the order's own, a JSON object.
    pub fn judge(&self, core: usize, seat: &CorePolicy, facts: &Facts<'_>, attributes: &str) -> Judged {
        let counts = &self.memory.counts[core];
        counts.evaluations.fetch_add(1, Ordering::Relaxed);
        if self.is_suspended(seat, facts) {
            counts.suspended.fetch_add(1, Ordering::Relaxed);
            return self.unjudged(core);
        }
        let began = Instant::now();
        match self.evaluate(seat, facts).and_then(|verdict| Ok((merged(&verdict, attributes)?, verdict))) {
            Ok((attributes, Verdict::Allow(_))) => Judged::Allowed(attributes),
            Ok((_, Verdict::Challenge)) => {
                counts.challenges.fetch_add(u64::from(!facts.has_pass), Ordering::Relaxed);
                Judged::PassNeeded
            }
            Ok((_, Verdict::Deny(reason))) => {
                counts.denials.fetch_add(1, Ordering::Relaxed);
                Judged::Denied(reason)
            }
            Err(error) => {
                let took = began.elapsed();
                if took >= LONG {
                    self.memory.failures.count(&network_of(facts.address), facts.now_ms);
                }
                let mut seat = seat.0.borrow_mut();
                seat.breaker.failed(took);
                if seat.warned.is_none_or(|at| at.elapsed() >= WARN_PAUSE) {
                    seat.warned = Some(Instant::now());
                    warn!(%error, allowed = self.settings.allow_on_error, "a policy failed");
                }
                self.unjudged(core)
            }
        }
    }

    /// Whether what failing runs may cost is used up, on this core or by this client.
    fn is_suspended(&self, seat: &CorePolicy, facts: &Facts<'_>) -> bool {
        !seat.0.borrow_mut().breaker.is_closed(Instant::now())
            || self.memory.failures.recent(&network_of(facts.address), facts.now_ms) >= FAILURES_MAX
    }

    fn unjudged(&self, core: usize) -> Judged {
        self.memory.counts[core].errors.fetch_add(1, Ordering::Relaxed);
        if self.settings.allow_on_error { Judged::Allowed(None) } else { Judged::Denied(String::new()) }
    }

    fn evaluate(&self, seat: &CorePolicy, facts: &Facts<'_>) -> Result<Verdict, PolicyError> {
        let present = self.present.load();
        let mut seat = seat.0.borrow_mut();
        if seat.vm.as_ref().is_none_or(|vm| vm.version() != present.version) {
            seat.vm = Some(Vm::load(&present, &self.settings.headers, self.settings.limits)?);
        }
        seat.vm.as_mut().map_or(Ok(Verdict::Allow(Vec::new())), |vm| vm.evaluate(facts))
    }

    /// Sums over the cores: evaluations, denials, challenges, errors, and what of these nobody was asked about.
    pub fn totals(&self) -> [(&'static str, u64); 5] {
        let sum = |of: fn(&Counts) -> &AtomicU64| {
            self.memory.counts.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
        };
        [
            ("evaluated", sum(|counts| &counts.evaluations)),
            ("denied", sum(|counts| &counts.denials)),
            ("challenged", sum(|counts| &counts.challenges)),
            ("failed", sum(|counts| &counts.errors)),
            ("suspended", sum(|counts| &counts.suspended)),
        ]
    }
}

/// The order's attributes with the policy's; what the policy says goes before what the buyer says.
fn merged(verdict: &Verdict, attributes: &str) -> Result<Option<String>, PolicyError> {
    let Verdict::Allow(own) = verdict else { return Ok(None) };
    if own.is_empty() {
        return Ok(None);
    }
    let broken = |error: serde_json::Error| PolicyError {
        script: "the order's attributes".to_owned(),
        message: error.to_string(),
    };
    let mut object: Map<String, Json> = serde_json::from_str(attributes).map_err(broken)?;
    object.extend(own.iter().cloned());
    serde_json::to_string(&object).map(Some).map_err(broken)
}
