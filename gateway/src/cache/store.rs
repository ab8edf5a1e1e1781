//! Where answers are kept: bounded by bytes; what is asked for least makes place.

use super::key::{self, Key};
use super::page::{Page, State};
use foldhash::fast::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::{Cache as Places, DefaultLifecycle};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Counted for each answer besides its own bytes, so that many small ones are bounded too: a cache of 64 MiB has at most
/// 128 Ki entries.
const ENTRY_BYTES: usize = 512;
/// An answer that is only for whoever asked: so long nobody waits for another one's in its place.
const OWN: Duration = Duration::from_secs(10);
/// For sizing the table; more is no harm.
const ENTRIES_EXPECTED: usize = 4_096;

/// What is known under a name.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    /// An answer for everybody.
    Page(Arc<Page>),
    /// Until then, that there is none.
    Own(Instant),
}

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<Key, Kept> for Weights {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        let own = match kept {
            Kept::Page(page) => page.weight(),
            Kept::Own(_) => 0,
        };
        (ENTRY_BYTES + key.len() + own) as u64
    }
}

/// All answers that this gateway keeps.
#[derive(Debug)]
pub(super) struct Store {
    kept: Places<Key, Kept, Weights, RandomState, DefaultLifecycle<Key, Kept>>,
}

impl Store {
    pub(super) fn new(bytes_max: u64) -> Self {
        let lifecycle = DefaultLifecycle::default();
        Self { kept: Places::with(ENTRIES_EXPECTED, bytes_max, Weights, RandomState::default(), lifecycle) }
    }

    /// What is known and not over.
    pub(super) fn find(&self, key: &str, now: Instant) -> Option<Kept> {
        let kept = self.kept.get(key)?;
        let over = match &kept {
            Kept::Page(page) => page.state(now) == State::Over,
            Kept::Own(until) => *until <= now,
        };
        (!over).then_some(kept)
    }

    /// A page, whatever may be done with it.
    pub(super) fn page(&self, key: &str, now: Instant) -> Option<Arc<Page>> {
        match self.find(key, now)? {
            Kept::Page(page) => Some(page),
            Kept::Own(_) => None,
        }
    }

    pub(super) fn keep(&self, key: Key, page: Arc<Page>) {
        self.kept.insert(key, Kept::Page(page));
    }

    /// Nobody is to wait for this answer: it is only for whoever asks.
    pub(super) fn own(&self, key: Key, now: Instant) {
        self.kept.insert(key, Kept::Own(now + OWN));
    }

    /// Forgets what begins so; how many answers that were. Looks at every name.
    pub(super) fn forget_prefix(&self, prefix: &str) -> usize {
        self.forget(|key| key.starts_with(prefix))
    }

    /// Forgets all answers to a target, whatever they vary by. Looks at every name.
    pub(super) fn forget_target(&self, route: &str, target: &str) -> usize {
        self.forget(|key| key::is_target(key, route, target))
    }

    fn forget(&self, of: impl Fn(&str) -> bool) -> usize {
        let pages = Cell::new(0);
        self.kept.retain(|key, kept| {
            let goes = of(key);
            pages.set(pages.get() + usize::from(goes && matches!(kept, Kept::Page(_))));
            !goes
        });
        pages.get()
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.kept.len() as u64, self.kept.weight())
    }
}
