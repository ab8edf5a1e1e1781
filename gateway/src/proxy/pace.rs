//! The tokens of a route: an upstream that stands `rate` requests a second sees no more.
//!
//! Two queues of the same rate and burst. The first decides who is let in, in order, and who is refused. The second stands
//! at the door to the upstream: between the two a request may be held up (a slow connect, a machine that stood still), and
//! those who were would arrive together. What leaves, leaves by the second, repeats too.

use crate::admission::{Token, TokenQueue};
use crate::config::Tokens;
use std::time::{Duration, Instant};

/// The tokens of one route. Shared by all cores.
#[derive(Debug)]
pub(super) struct Pace {
    settings: Tokens,
    entry: TokenQueue,
    door: TokenQueue,
}

impl Pace {
    pub(super) fn new(settings: Tokens) -> Self {
        let wait_max = Duration::from_millis(settings.max_wait_ms);
        let queue = || TokenQueue::new(settings.rate_per_s.into(), settings.burst, wait_max, Instant::now());
        Self { settings, entry: queue(), door: queue() }
    }

    /// Whether it is what these settings ask for: then it goes on over a reload, with what it has given out.
    pub(super) fn is_of(&self, settings: &Tokens) -> bool {
        self.settings == *settings
    }

    /// Waits for its turn, at most `max_wait_ms`; `Err`: when to come back. Cancel safe: the token is lost.
    pub(super) async fn enter(&self) -> Result<(), Duration> {
        take(&self.entry).await
    }

    /// As [`Pace::enter`], right before the request is sent; hardly ever waits.
    pub(super) async fn leave(&self) -> Result<(), Duration> {
        take(&self.door).await
    }
}

async fn take(queue: &TokenQueue) -> Result<(), Duration> {
    match queue.take(Instant::now()) {
        Token::Now => Ok(()),
        Token::After(wait) => {
            tokio::time::sleep(wait).await;
            Ok(())
        }
        Token::None { retry_after } => Err(retry_after),
    }
}
