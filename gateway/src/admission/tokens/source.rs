//! Where tokens come from.

use super::auto::Auto;
use super::bucket::Bucket;
use super::lots::{Lots, Terms};
use super::{TokenRate, TokenSettings};
use std::time::{Duration, Instant};

/// One of the three.
#[derive(Debug)]
pub(super) enum Source {
    /// There is no token queue.
    Off,
    /// This gateway's own generator, at a rate that is fixed or follows the workers.
    Own { bucket: Bucket, auto: Option<Auto>, burst: u32 },
    /// Lots of the bucket that all gateways share.
    Leased(Lots),
}

/// A token, and what is needed to give it back.
#[derive(Debug)]
pub(super) struct Token {
    /// Where it was leased, it is good until then.
    until: Option<Instant>,
}

impl Source {
    /// A full bucket of its own; a shared one is empty here until Redis was asked.
    pub(super) fn new(settings: &TokenSettings, now: Instant) -> Self {
        let burst = settings.burst;
        match settings.rate {
            TokenRate::Off => Self::Off,
            TokenRate::Fixed(rate) if settings.shared => {
                Self::Leased(Lots::new(Terms::new(rate, burst), now))
            }
            TokenRate::Fixed(rate) => {
                Self::Own { bucket: Bucket::new(rate.into(), burst, now), auto: None, burst }
            }
            TokenRate::Auto { floor_per_s } => {
                let auto = Auto::new(floor_per_s.into());
                Self::Own { bucket: Bucket::new(auto.rate_per_s(), burst, now), auto: Some(auto), burst }
            }
        }
    }

    /// Other settings from now on. What there is stays, and no change gives a new burst.
    pub(super) fn set(&mut self, settings: &TokenSettings, now: Instant) {
        match (&mut *self, settings.rate) {
            (Self::Own { bucket, auto, burst }, TokenRate::Fixed(rate)) if !settings.shared => {
                bucket.set(rate.into(), settings.burst, now);
                (*auto, *burst) = (None, settings.burst);
            }
            (Self::Own { bucket, auto, burst }, TokenRate::Auto { floor_per_s }) => {
                let mut next = auto.unwrap_or_else(|| Auto::new(floor_per_s.into()));
                next.set_floor(floor_per_s.into());
                bucket.set(next.rate_per_s(), settings.burst, now);
                (*auto, *burst) = (Some(next), settings.burst);
            }
            (Self::Leased(lots), TokenRate::Fixed(rate)) if settings.shared => {
                lots.terms = Terms::new(rate, settings.burst);
            }
            (was, _) => {
                let was_off = was.is_off();
                *was = Self::new(settings, now);
                if let Self::Own { bucket, .. } = was
                    && !was_off
                {
                    bucket.empty(now);
                }
            }
        }
    }

    /// What workers show now.
    pub(super) fn follow(&mut self, backlog: u64, drained_per_s: Option<f64>, now: Instant) {
        if let Self::Own { bucket, auto: Some(auto), burst } = self {
            auto.follow(backlog, drained_per_s);
            bucket.set(auto.rate_per_s(), *burst, now);
        }
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }

    pub(super) fn take(&mut self, now: Instant) -> Option<Token> {
        match self {
            Self::Off => Some(Token { until: None }),
            Self::Own { bucket, .. } => bucket.take(now).then_some(Token { until: None }),
            Self::Leased(lots) => lots.take(now).map(|until| Token { until: Some(until) }),
        }
    }

    pub(super) fn give_back(&mut self, token: &Token, now: Instant) {
        match (self, token.until) {
            (Self::Own { bucket, .. }, None) => bucket.give_back(now),
            (Self::Leased(lots), Some(until)) => lots.give_back(until, now),
            // The settings have changed meanwhile.
            _ => {}
        }
    }

    /// How long until so many tokens that nobody has taken are there, as far as that is known.
    pub(super) fn until(&self, tokens: f64, now: Instant) -> Duration {
        match self {
            Self::Off => Duration::ZERO,
            Self::Own { bucket, .. } => bucket.until(tokens, now),
            Self::Leased(lots) => lots.until(tokens),
        }
    }

    /// How long until the next one comes into being by itself.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Own { bucket, .. } => Some(bucket.until(1.0, now)),
            Self::Off | Self::Leased(_) => None,
        }
    }

    /// Tokens a second that come into being, or may: for figures.
    pub(super) fn rate_per_s(&self) -> f64 {
        match self {
            Self::Off => 0.0,
            Self::Own { bucket, .. } => bucket.rate_per_s(),
            Self::Leased(lots) => lots.terms.rate_per_s.into(),
        }
    }

    /// The leased ones, where tokens are shared.
    pub(super) fn lots(&mut self) -> Option<&mut Lots> {
        if let Self::Leased(lots) = self { Some(lots) } else { None }
    }

    /// Somebody wants a token.
    pub(super) fn want(&mut self) {
        if let Self::Leased(lots) = self {
            lots.want();
        }
    }

    /// Whether leased tokens are running out.
    pub(super) fn is_short(&self, waiting: usize) -> bool {
        matches!(self, Self::Leased(lots) if lots.is_short(waiting))
    }

    /// Whether tokens are leased from a Redis that does not answer.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Leased(lots) if lots.away)
    }
}
