//! Leases lots of tokens from the bucket in Redis: one call at a time, and none while nobody wants a token. The request path
//! never waits for a call, only for tokens.

use super::lots::Terms;
use crate::state::Core;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::keys::gate_key;
use tidegate_stock::redis::link::Script;
use tidegate_stock::redis::{CallError, Link, RedisOptions};
use tracing::{info, warn};

static TOKENS: Script = Script::new("tokens", include_str!("../../../../lua/gate/tokens.lua"));

/// Before the next call when one was not answered.
const TROUBLE: Duration = Duration::from_millis(100);
/// Looks for the lineage in a row, for one lot.
const LOOKS_MAX: usize = 2;

/// The way to the bucket, on one thread.
pub(super) struct Lessor {
    link: Link,
    key: String,
    /// Redis' time in its last answer, and when that call was sent.
    told: Option<(u64, Instant)>,
    /// When calls are sent, and Redis' time then, us: a test's own.
    #[cfg(test)]
    times: Option<(Instant, u64)>,
}

/// What a call brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) tokens: u32,
    /// When the call was sent: the lot lives from then.
    pub(super) sent: Instant,
    /// There is one more after.
    pub(super) next: Duration,
}

impl Lessor {
    pub(super) fn new(options: &std::sync::Arc<RedisOptions>) -> Self {
        let key = gate_key(&options.prefix, "tokens");
        Self {
            link: Link::new(options.clone()),
            key,
            told: None,
            #[cfg(test)]
            times: None,
        }
    }

    /// One lot. Bounded by the calls' timeouts. Cancelled: tokens may have been taken, and are lost.
    pub(super) async fn lease(&mut self, terms: &Terms, asked: u32) -> Result<Granted, CallError> {
        let mut fresh = false;
        for _ in 0..LOOKS_MAX {
            let lineage = if fresh {
                self.link.lineage_fresh(&self.key).await?
            } else {
                self.link.lineage(&self.key).await?
            };
            let (sent, redis_time) = self.now();
            let told = self.told.map_or_else(String::new, |(told, _)| told.to_string());
            let since = self.told.map_or(0, |(_, sent_then)| sent.duration_since(sent_then).as_micros());
            let args = [
                lineage.0.to_string(),
                u8::from(fresh).to_string(),
                terms.rate_per_s.to_string(),
                terms.size.to_string(),
                asked.to_string(),
                told,
                since.to_string(),
                terms.ttl.as_micros().to_string(),
                redis_time,
            ];
            let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
            let answer = self.link.script_text(&TOKENS, Some(&lineage), &[&self.key], &args).await?;
            let numbers: Vec<u64> = answer.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
            let [time, tokens, next_us] = numbers[..] else {
                fresh = true;
                continue;
            };
            // An answer that took longer than a lot lives says too little of Redis' time now.
            let late = sent.elapsed() >= terms.ttl;
            self.told = (!late).then_some((time, sent));
            let tokens = if late { 0 } else { u32::try_from(tokens).unwrap_or(u32::MAX) };
            return Ok(Granted { tokens, sent, next: Duration::from_micros(next_us) });
        }
        Err(CallError::Unavailable(
            "the lineage of the server that holds the tokens changes all the time".into(),
        ))
    }
}

impl Lessor {
    /// The monotonic clock, and Redis' time to go by: its own.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have their own")]
    fn now(&self) -> (Instant, String) {
        (Instant::now(), String::new())
    }

    #[cfg(test)]
    fn now(&self) -> (Instant, String) {
        self.times.map_or_else(|| (Instant::now(), String::new()), |(sent, us)| (sent, us.to_string()))
    }
}

/// Leases while the gateway runs and tokens are shared.
pub(crate) async fn run_leases(core: Rc<Core>) {
    let Some(shared) = core.app.stock.shared() else { return core.app.stopping.wait().await };
    let tokens = &core.app.tokens;
    let mut lessor = Lessor::new(&shared.options);
    let (mut called, mut not_before, mut away) = (Instant::now(), Instant::now(), false);
    loop {
        let wanted = tokens.to_lease(super::now());
        let wait = match &wanted {
            Some(_) => not_before.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        if wait > Duration::ZERO {
            tokio::select! {
                () = tokio::time::sleep(wait), if wanted.is_some() => {}
                () = tokens.short.notified(), if wanted.is_none() => {}
                () = core.app.stopping.wait() => return,
            }
            continue;
        }
        let Some((terms, asked)) = wanted else { continue };
        let since_last = called.elapsed();
        called = Instant::now();
        tokens.begin_lease(super::now());
        match lessor.lease(&terms, asked).await {
            Ok(granted) => {
                if std::mem::take(&mut away) {
                    info!("tokens are leased from Redis again");
                }
                tokens.put_lot(&granted, asked, since_last, super::now());
                not_before = called + terms.pause().max(granted.next.min(terms.ttl));
            }
            Err(error) => {
                tokens.lessor_away();
                if !std::mem::replace(&mut away, true) {
                    warn!(%error, "no tokens from Redis: orders are refused until it answers");
                }
                not_before = Instant::now() + TROUBLE.max(terms.pause());
            }
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
