//! Gate 6: a purchase pass, given for the answer to a challenge, before the sale opens or while it runs.
//!
//! Both texts are signed and stateless: any gateway with the same keys can judge them. They are bound to the buyer, the
//! sale and its window, none of which stand in them (failure mode 41). A challenge gives one pass: whoever asks again
//! for the same challenge gets a pass with the same number, so a lost answer costs nothing and brings nothing.
//!
//! ```text
//! keys.rs    secrets: the first signs, all verify; one is made when none is configured
//! seal.rs    the signed texts
//! kind.rs    what a challenge asks; the interface for other kinds
//! recent.rs  spent passes and wrong answers, remembered for a bounded time in bounded memory
//! ```

mod keys;
mod kind;
mod recent;
mod seal;
#[cfg(test)]
mod tests;

pub use keys::{KeyFailure, Keys};
pub use kind::{Arithmetic, ChallengeKind};
pub use seal::Scope;

use super::Quotas;
use crate::config::{PassSettings, Quota};
use recent::{Bounds, Recent};
use seal::{Purpose, Sealed};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives passes, and judges them.
pub struct Passes {
    keys: Keys,
    settings: PassSettings,
    kind: Box<dyn ChallengeKind>,
    /// Outlives a change of the settings.
    memory: Arc<Memory>,
    spent: Bounds,
    wrong: Bounds,
    clients_max: usize,
    /// Of the two requests that give passes.
    pub quotas: Arc<Quotas>,
}

/// What is remembered of passes.
#[derive(Default)]
struct Memory {
    /// Number of a pass: who has it, as told by [`Passes::spend`].
    spent: Recent<u64>,
    /// Number of a challenge: wrong answers.
    wrong: Recent<u8>,
    counts: Counts,
}

/// Counters, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Challenges given.
    pub challenges: AtomicU64,
    /// Passes given.
    pub passes: AtomicU64,
    /// Wrong answers.
    pub wrong_answers: AtomicU64,
}

/// A challenge as it is told.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// Signed text.
    pub text: String,
    /// Name of its kind.
    pub kind: &'static str,
    /// For people.
    pub question: String,
    /// Unix ms.
    pub expires_at_ms: u64,
}

/// A pass as it is told.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Signed text.
    pub text: String,
    /// Unix ms.
    pub expires_at_ms: u64,
}

/// A pass that was judged good. Not spent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoodPass {
    number: u64,
}

/// Why a challenge or pass is not taken; for the buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassFault {
    /// Forged, cut, of another buyer, sale or window, or of a key that is no longer known. Which one is not told.
    #[error("it is not of this buyer, this sale and its present window")]
    Foreign,
    /// Its time is over.
    #[error("it has expired: ask for a new challenge")]
    Expired,
    /// The answer is wrong; there may be another try.
    #[error("the answer is wrong")]
    Wrong,
    /// No more tries.
    #[error("too many wrong answers: ask for a new challenge")]
    TooManyWrong,
    /// Another order has it.
    #[error("it was used for another order: ask for a new challenge")]
    Spent,
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passes").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Passes {
    /// With the keys of the settings; without any, with a key of this data folder, made at the first start. What
    /// `previous` remembers of passes and clients goes on counting.
    pub fn open(
        settings: &PassSettings,
        clients_max: usize,
        dir: &Path,
        previous: Option<&Self>,
    ) -> Result<Self, KeyFailure> {
        let keys = match previous {
            _ if !settings.keys.is_empty() => Keys::of_secrets(&settings.keys),
            Some(previous) if previous.settings.keys.is_empty() => previous.keys.clone(),
            _ => Keys::of_folder(dir)?,
        };
        let mut passes = Self::new(keys, settings, clients_max);
        if let Some(previous) = previous {
            passes.memory = previous.memory.clone();
            let same = (settings.buyer, settings.ip) == (previous.settings.buyer, previous.settings.ip);
            if same && clients_max == previous.clients_max {
                passes.quotas = previous.quotas.clone();
            }
        }
        Ok(passes)
    }

    /// With these keys.
    pub fn new(keys: Keys, settings: &PassSettings, clients_max: usize) -> Self {
        let quotas = Quota {
            buyer: settings.buyer,
            ip: settings.ip,
            newcomers: None,
            exempt: Vec::new(),
            clients_max,
        };
        let challenge_ms = settings.challenge_ttl_ms + 2 * settings.clock_skew_ms;
        let entries_max = settings.spent_max;
        Self {
            keys,
            kind: Box::new(Arithmetic),
            memory: Arc::default(),
            // A challenge that is answered again gives the same pass a later end, by the challenge's time at most.
            spent: Bounds { keep_ms: settings.ttl_ms + challenge_ms, entries_max },
            wrong: Bounds { keep_ms: challenge_ms, entries_max },
            quotas: Arc::new(Quotas::new(&quotas, &[], None)),
            clients_max,
            settings: settings.clone(),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.memory.counts
    }

    /// How long before a sale opens its passes are given, in ms.
    pub fn lead_ms(&self) -> u64 {
        self.settings.lead_ms
    }

    /// Passes and wrong answers that could not be remembered because the memory for them was full.
    pub fn unremembered(&self) -> u64 {
        self.memory.spent.unremembered() + self.memory.wrong.unremembered()
    }

    /// A new challenge.
    pub fn challenge(&self, scope: &Scope<'_>, now_ms: u64) -> Challenge {
        let expires_at_ms = now_ms + self.settings.challenge_ttl_ms;
        let number = rand::random();
        let purpose = Purpose::Challenge { kind: self.kind.tag() };
        let (text, key) = Sealed { purpose, expires_at_ms, number }.seal(&self.keys, scope);
        let question = self.kind.question(&key.seed(number, scope));
        self.memory.counts.challenges.fetch_add(1, Ordering::Relaxed);
        Challenge { text, kind: self.kind.name(), question, expires_at_ms }
    }

    /// The pass for a right answer. `closes_at_ms` ends the pass too.
    pub fn exchange(
        &self,
        scope: &Scope<'_>,
        closes_at_ms: Option<u64>,
        challenge: &str,
        answer: &str,
        now_ms: u64,
    ) -> Result<Pass, PassFault> {
        let purpose = Purpose::Challenge { kind: self.kind.tag() };
        let (sealed, key) = Sealed::open(challenge, purpose, &self.keys, scope).ok_or(PassFault::Foreign)?;
        self.in_time(&sealed, now_ms)?;
        let right = self.kind.is_right(&key.seed(sealed.number, scope), answer);
        self.memory
            .wrong
            .change(sealed.number, now_ms, self.wrong, |wrong| match wrong.unwrap_or(0) {
                tries if tries >= self.settings.attempts => (Err(PassFault::TooManyWrong), None),
                _ if right => (Ok(()), None),
                tries => (Err(PassFault::Wrong), Some(tries + 1)),
            })
            .inspect_err(|_| {
                self.memory.counts.wrong_answers.fetch_add(1, Ordering::Relaxed);
            })?;
        // The time of a pass begins when it can be used.
        let from_ms = scope.opens_at_ms.map_or(now_ms, |opens| opens.max(now_ms));
        let end_ms = from_ms.saturating_add(self.settings.ttl_ms);
        let expires_at_ms = closes_at_ms.map_or(end_ms, |closes| closes.min(end_ms));
        let pass = Sealed { purpose: Purpose::Pass, expires_at_ms, number: sealed.number };
        self.memory.counts.passes.fetch_add(1, Ordering::Relaxed);
        Ok(Pass { text: pass.seal(&self.keys, scope).0, expires_at_ms })
    }

    /// Judges a pass; does not spend it. Who has spent it is asked only by [`Passes::spend`].
    pub fn check(&self, scope: &Scope<'_>, pass: &str, now_ms: u64) -> Result<GoodPass, PassFault> {
        let (sealed, _) = Sealed::open(pass, Purpose::Pass, &self.keys, scope).ok_or(PassFault::Foreign)?;
        self.in_time(&sealed, now_ms)?;
        Ok(GoodPass { number: sealed.number })
    }

    /// Spends the pass for the order `by`, which may be repeated. When the memory is full the pass is good and not
    /// remembered: rather a second order, which the buyer's limit still bounds, than none for somebody honest.
    pub fn spend(&self, pass: GoodPass, by: u64, now_ms: u64) -> Result<(), PassFault> {
        if !self.settings.single_use {
            return Ok(());
        }
        self.memory.spent.change(pass.number, now_ms, self.spent, |had| match had {
            None => (Ok(()), Some(by)),
            Some(had) if had == by => (Ok(()), None),
            Some(_) => (Err(PassFault::Spent), None),
        })
    }

    /// The order that spent it took nothing: another one may use it.
    pub fn give_back(&self, pass: GoodPass) {
        self.memory.spent.forget(pass.number);
    }

    fn in_time(&self, sealed: &Sealed, now_ms: u64) -> Result<(), PassFault> {
        let until = sealed.expires_at_ms.saturating_add(self.settings.clock_skew_ms);
        if now_ms < until { Ok(()) } else { Err(PassFault::Expired) }
    }
}
