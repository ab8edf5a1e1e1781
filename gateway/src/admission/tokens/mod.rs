//! Gate 9: the token queue. Tokens come at a rate and at most `burst` of them are kept. A request takes one, or waits for its
//! turn at most `max_wait`: first come first served in its sale, and sales by their weights.
//!
//! ```text
//! mod.rs      `TokenQueue`: takes, waits, grants
//! source.rs   where tokens come from: this gateway's generator, or lots of the shared one
//! bucket.rs   the generator
//! auto.rs     a rate that follows the workers
//! lots.rs     tokens leased from the bucket that all gateways share
//! lease.rs    leases them from Redis
//! budget.rs   how many orders may be under way to the units that are left
//! fair.rs     who is next
//! counts.rs   what became of requests, by class of weight
//! gate.rs     gate 9 of an order
//! run.rs      grants tokens as they come into being
//! ```
//!
//! Who finds a token and nobody waiting passes under one short lock. Else it is put into the queue, and whoever comes next,
//! or [`run`] by its timer, grants each token that has come into being to the one whose turn it is, and wakes that one alone.
//! A waiter that goes away is taken out, and its token, if it had one already, goes to the next: nothing is lost by it.
//! A token counts against the bound when it is granted, so over any time `t` at most `rate × t + burst` requests pass.

mod auto;
mod bucket;
mod budget;
mod counts;
mod fair;
mod gate;
mod lease;
mod lots;
mod run;
mod source;

pub(crate) use budget::Budget;
pub(crate) use counts::Counts;
pub(crate) use gate::pass;
pub(crate) use lease::run_leases;
pub(crate) use run::run;

use fair::{Fair, Place};
use lease::Granted;
use lots::Terms;
use parking_lot::Mutex;
use smallvec::SmallVec;
use source::{Source, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Requests that wait, over all sales. More are refused; `rate × max_wait` is the bound that is met first as a rule.
const WAITING_MAX: usize = 100_000;
/// Asked of who comes while Redis does not answer.
const AWAY_RETRY: Duration = Duration::from_secs(1);

/// How the queue works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenSettings {
    /// Tokens a second.
    pub rate: TokenRate,
    /// Tokens kept at most, at least 1.
    pub burst: u32,
    /// Longest wait for a token.
    pub wait_max: Duration,
    /// Orders under way for each unit of their sale that is left; 0: any number.
    pub tokens_per_unit: u32,
    /// All gateways together have this rate and burst. Needs a fixed rate, and a ledger in Redis.
    pub shared: bool,
}

/// How fast tokens come into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRate {
    /// No token queue: everybody passes.
    Off,
    /// So many a second, at least 1.
    Fixed(u32),
    /// As fast as workers show that they can take them.
    Auto {
        /// Never fewer a second, at least 1.
        floor_per_s: u32,
    },
}

/// The token queue. Shared by all cores.
#[derive(Debug)]
pub struct TokenQueue {
    on: AtomicBool,
    state: Mutex<State>,
    /// Somebody waits for whom [`run`] has no timer yet.
    wake: Notify,
    /// Leased tokens are running out.
    short: Notify,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct State {
    source: Source,
    wait_max: Duration,
    waiting: Fair<oneshot::Sender<Token>>,
}

/// A request's token. It is used up, unless it is given back.
#[derive(Debug)]
#[must_use]
pub struct Taken<'q> {
    queue: &'q TokenQueue,
    /// `None`: there is no token queue.
    token: Option<Token>,
}

/// No token within `max_wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoToken {
    /// Worth asking again after this time.
    pub retry_after: Duration,
    /// Redis, which has the tokens of all gateways, does not answer.
    pub away: bool,
}

/// What becomes of a request at first.
#[derive(Debug)]
enum Entered<'q> {
    Passes(Taken<'q>),
    Waits(Turn<'q>),
    Refused(NoToken),
}

/// A request that waits. Dropped, it no longer does.
#[derive(Debug)]
struct Turn<'q> {
    queue: &'q TokenQueue,
    place: Place,
    granted: oneshot::Receiver<Token>,
    /// Not granted by then: refused.
    until: Instant,
}

/// Tokens that are granted once the lock is released, each to one waiter.
type Grants = SmallVec<[(oneshot::Sender<Token>, Token); 8]>;

impl TokenQueue {
    /// With a full burst; shared tokens come once Redis was asked.
    pub fn new(settings: &TokenSettings, now: Instant) -> Self {
        let source = Source::new(settings, now);
        Self {
            on: AtomicBool::new(!source.is_off()),
            state: Mutex::new(State { source, wait_max: settings.wait_max, waiting: Fair::default() }),
            wake: Notify::new(),
            short: Notify::new(),
            counts: Counts::default(),
        }
    }

    /// Other settings from now on. Whoever waits goes on waiting, at most as long as was said at the beginning; what
    /// tokens there are stay, so that no change gives a new burst.
    pub fn reconfigure(&self, settings: &TokenSettings, now: Instant) {
        let mut state = self.state.lock();
        state.wait_max = settings.wait_max;
        state.source.set(settings, now);
        self.on.store(!state.source.is_off(), Ordering::Release);
        drop(state);
        self.wake.notify_one();
        self.short.notify_one();
    }

    /// What workers show now, for a rate that follows them: orders before them, and how many a second they settle while
    /// there are any.
    pub fn follow(&self, backlog: u64, drained_per_s: Option<f64>, now: Instant) {
        self.state.lock().source.follow(backlog, drained_per_s, now);
    }

    /// Workers have nothing to do: the order passes, with a token if there is one. `None` when others wait: it must wait
    /// behind them.
    pub fn pass_idle(&self, weight: u32) -> Option<Taken<'_>> {
        let mut state = self.state.lock();
        if !state.waiting.is_empty() {
            return None;
        }
        let token = state.source.take(now());
        drop(state);
        self.counts.of(weight).taken();
        Some(Taken { queue: self, token })
    }

    /// A token for an order of this sale, in its turn. Bounded by `max_wait`. Cancel safe: whoever goes away leaves its token to
    /// the next.
    pub async fn take(&self, sale: &Arc<str>, weight: u32) -> Result<Taken<'_>, NoToken> {
        if !self.on.load(Ordering::Acquire) {
            return Ok(Taken { queue: self, token: None });
        }
        let counts = self.counts.of(weight);
        let mut turn = match self.enter(now(), sale, weight) {
            Entered::Passes(taken) => {
                counts.taken();
                return Ok(taken);
            }
            Entered::Refused(refusal) => {
                counts.refused();
                return Err(refusal);
            }
            Entered::Waits(turn) => turn,
        };
        let until = tokio::time::Instant::from_std(turn.until);
        if let Ok(Ok(token)) = tokio::time::timeout_at(until, &mut turn.granted).await {
            counts.taken_after_wait();
            return Ok(Taken { queue: self, token: Some(token) });
        }
        // Too late; and nobody drops a waiter's other end without a token.
        drop(turn);
        counts.timed_out();
        Err(NoToken { retry_after: self.expected_wait(now(), sale, weight), away: false })
    }

    /// Tokens a second, as of now; 0: there is no token queue.
    pub fn rate_per_s(&self) -> f64 {
        self.state.lock().source.rate_per_s()
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    fn enter(&self, now: Instant, sale: &Arc<str>, weight: u32) -> Entered<'_> {
        let mut grants = Grants::new();
        let mut state = self.state.lock();
        state.grant(now, &mut grants);
        let entered = self.enter_locked(&mut state, now, sale, weight);
        drop(state);
        self.hand_out(grants, now);
        entered
    }

    fn enter_locked(&self, state: &mut State, now: Instant, sale: &Arc<str>, weight: u32) -> Entered<'_> {
        let passes = |token| Entered::Passes(Taken { queue: self, token });
        if state.source.is_off() {
            return passes(None);
        }
        state.source.want();
        let first = state.waiting.is_empty();
        let token = if first { state.source.take(now) } else { None };
        if token.is_some() {
            self.note_short(state);
            return passes(token);
        }
        let refused = |retry_after, away| Entered::Refused(NoToken { retry_after, away });
        if state.source.is_away() {
            self.short.notify_one();
            return refused(AWAY_RETRY, true);
        }
        let wait = state.source.until(state.waiting.ahead(sale, weight) + 1.0, now);
        if wait > state.wait_max || state.waiting.len() >= WAITING_MAX {
            self.note_short(state);
            return refused(wait.saturating_sub(state.wait_max), false);
        }
        let (sender, granted) = oneshot::channel();
        let place = state.waiting.push(sale, weight, sender);
        if first {
            self.wake.notify_one();
        }
        self.note_short(state);
        Entered::Waits(Turn { queue: self, place, granted, until: now + state.wait_max })
    }

    fn note_short(&self, state: &State) {
        if state.source.is_short(state.waiting.len()) {
            self.short.notify_one();
        }
    }

    /// Grants what has come into being; tells how long until the next token, if somebody waits for it.
    fn grant_due(&self, now: Instant) -> Option<Duration> {
        let mut grants = Grants::new();
        let mut state = self.state.lock();
        state.grant(now, &mut grants);
        let next = if state.waiting.is_empty() { None } else { state.source.next(now) };
        drop(state);
        self.hand_out(grants, now);
        next
    }

    /// How many tokens to lease now, and on what terms. `None`: there is no need.
    fn to_lease(&self, now: Instant) -> Option<(Terms, u32)> {
        let mut state = self.state.lock();
        let waiting = state.waiting.len();
        let lots = state.source.lots()?;
        Some((lots.terms, lots.ask(waiting, now)?))
    }

    /// A call goes out.
    fn begin_lease(&self, now: Instant) {
        self.counts.count_lease();
        if let Some(lots) = self.state.lock().source.lots() {
            lots.count(now);
        }
    }

    /// What a call brought, of so many asked for; the one before was sent so long before.
    fn put_lot(&self, granted: &Granted, asked: u32, since_last: Duration, now: Instant) {
        let mut grants = Grants::new();
        let mut state = self.state.lock();
        if let Some(lots) = state.source.lots() {
            lots.put(granted.tokens, asked, granted.sent, since_last);
        }
        state.grant(now, &mut grants);
        drop(state);
        self.hand_out(grants, now);
    }

    /// A call was not answered: nobody new waits for tokens that may not come.
    fn lessor_away(&self) {
        if let Some(lots) = self.state.lock().source.lots() {
            lots.away = true;
        }
    }

    fn expected_wait(&self, now: Instant, sale: &str, weight: u32) -> Duration {
        let state = self.state.lock();
        state.source.until(state.waiting.ahead(sale, weight) + 1.0, now)
    }

    /// Wakes who was granted a token. Not under the lock: waking may take a system call.
    fn hand_out(&self, grants: Grants, now: Instant) {
        for (waiter, token) in grants {
            if let Err(unused) = waiter.send(token) {
                self.give_back(&unused, now);
            }
        }
    }

    fn give_back(&self, unused: &Token, now: Instant) {
        let mut state = self.state.lock();
        state.source.give_back(unused, now);
        let waits = !state.waiting.is_empty();
        drop(state);
        if waits {
            self.wake.notify_one();
        }
    }
}

impl State {
    /// Each token that is there, to whose turn it is.
    fn grant(&mut self, now: Instant, grants: &mut Grants) {
        while !self.waiting.is_empty()
            && let Some(token) = self.source.take(now)
        {
            grants.extend(self.waiting.pop().map(|waiter| (waiter, token)));
        }
    }
}

impl Taken<'_> {
    /// The order had no use for it: the next one has it.
    pub fn give_back(self) {
        if let Some(unused) = self.token {
            self.queue.give_back(&unused, now());
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.queue.state.lock().waiting.remove(self.place).is_some() {
            return;
        }
        // Its turn had come. A token that is on its way finds nobody, and is given back by who sends it.
        self.granted.close();
        if let Ok(unused) = self.granted.try_recv() {
            self.queue.give_back(&unused, now());
        }
    }
}

/// The monotonic clock; that of tokio, so that tests can move it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
