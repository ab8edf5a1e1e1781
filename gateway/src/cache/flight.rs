//! Single flight: however many ask for one answer at the same time, the upstream is asked once.
//!
//! The flight is a task of its own: that the client who began it goes away is nothing to it. Its end is told by its
//! [`Landing`], which also tells a loss when the task is dropped, so nobody waits for ever.

use super::key::Key;
use super::page::Page;
use crate::http::Refusal;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How a flight ended.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    /// With an answer for all who wait.
    Page(Arc<Page>),
    /// With one that nobody else may have: each must ask for itself.
    Own,
    /// Without one.
    Lost(Loss),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// No upstream, or it broke off.
    Unavailable,
    /// It took too long.
    TimedOut,
    /// No token or no place; come back after.
    Overloaded(Duration),
}

impl From<Loss> for Refusal {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Unavailable => Self::UpstreamUnavailable,
            Loss::TimedOut => Self::UpstreamTimeout,
            Loss::Overloaded(after) => Self::Overloaded(after),
        }
    }
}

impl From<Refusal> for Loss {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Overloaded(after) => Self::Overloaded(after),
            Refusal::UpstreamTimeout => Self::TimedOut,
            _ => Self::Unavailable,
        }
    }
}

/// All flights of this gateway, over all cores.
#[derive(Debug)]
pub(super) struct Flights {
    table: Mutex<HashMap<Key, Flight, RandomState>>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

#[derive(Debug)]
struct Flight {
    end: watch::Receiver<Option<Landed>>,
    /// What it brings was asked for before it was to be forgotten.
    outdated: Arc<AtomicBool>,
}

/// What whoever asks is to do.
#[derive(Debug)]
pub(super) enum Joined {
    /// Ask the upstream, and tell the others.
    First(Landing),
    /// Wait for the one who does.
    Later(Waiter),
    /// Too many wait.
    Full,
}

impl Flights {
    pub(super) fn new(waiting_max: usize) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), waiting: AtomicUsize::new(0), waiting_max })
    }

    /// The flight for `key`: a new one, or the one under way.
    pub(super) fn join(self: &Arc<Self>, key: &Key) -> Joined {
        let mut table = self.table.lock();
        if let Some(flight) = table.get(&**key) {
            let end = flight.end.clone();
            drop(table);
            return self.wait_for(end).map_or(Joined::Full, Joined::Later);
        }
        let (told, end) = watch::channel(None);
        let outdated = Arc::new(AtomicBool::new(false));
        table.insert(key.clone(), Flight { end, outdated: outdated.clone() });
        Joined::First(Landing { flights: self.clone(), key: key.clone(), told, outdated })
    }

    fn wait_for(self: &Arc<Self>, end: watch::Receiver<Option<Landed>>) -> Option<Waiter> {
        let waiter = Waiter { flights: self.clone(), end };
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.waiting_max).then_some(waiter)
    }

    /// What those of these names bring is told to who waits for it, and not kept.
    pub(super) fn outdate(&self, of: impl Fn(&str) -> bool) {
        for (_, flight) in self.table.lock().iter().filter(|(key, _)| of(key)) {
            flight.outdated.store(true, Ordering::Release);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed) as u64
    }
}

/// The end of a flight, which is told once.
#[derive(Debug)]
pub(super) struct Landing {
    flights: Arc<Flights>,
    key: Key,
    told: watch::Sender<Option<Landed>>,
    outdated: Arc<AtomicBool>,
}

impl Landing {
    /// For whoever began the flight; `None` when too many wait: the flight goes on.
    pub(super) fn waiter(&self) -> Option<Waiter> {
        self.flights.wait_for(self.told.subscribe())
    }

    /// The name of what it brings.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether what it brings may not be kept.
    pub(super) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    /// Tells all who wait. Who comes later begins another flight, or finds what was kept before this call.
    pub(super) fn land(self, landed: Landed) {
        self.flights.table.lock().remove(&*self.key);
        self.told.send_replace(Some(landed));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.told.borrow().is_none() {
            self.flights.table.lock().remove(&*self.key);
            self.told.send_replace(Some(Landed::Lost(Loss::Unavailable)));
        }
    }
}

/// A place among those who wait.
#[derive(Debug)]
pub(super) struct Waiter {
    flights: Arc<Flights>,
    end: watch::Receiver<Option<Landed>>,
}

impl Waiter {
    /// Waits for the end, at most `time_max`. Cancel safe.
    pub(super) async fn wait(mut self, time_max: Duration) -> Landed {
        let end = tokio::time::timeout(time_max, self.end.wait_for(Option::is_some)).await;
        match end {
            Ok(Ok(landed)) => landed.clone().unwrap_or(Landed::Lost(Loss::Unavailable)),
            Ok(Err(_)) => Landed::Lost(Loss::Unavailable),
            Err(_) => Landed::Lost(Loss::TimedOut),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.flights.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(30);

    fn first(joined: Joined) -> Landing {
        match joined {
            Joined::First(landing) => landing,
            other => panic!("{other:?}"),
        }
    }

    fn later(joined: Joined) -> Waiter {
        match joined {
            Joined::Later(waiter) => waiter,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn one_flies_and_the_others_hear_its_end() {
        let flights = Flights::new(3);
        let key: Key = "a".into();
        let landing = first(flights.join(&key));
        let own = landing.waiter().unwrap();
        let waiters = [later(flights.join(&key)), later(flights.join(&key))];
        assert!(matches!(flights.join(&key), Joined::Full), "a fourth has no place");
        assert!(matches!(flights.join(&"b".into()), Joined::First(_)), "other answers are other flights");
        assert_eq!(flights.waiting(), 3);
        landing.land(Landed::Own);
        for waiter in waiters.into_iter().chain([own]) {
            assert!(matches!(waiter.wait(LONG).await, Landed::Own));
        }
        assert_eq!(flights.waiting(), 0);
        assert!(matches!(flights.join(&key), Joined::First(_)), "who comes after its end flies again");
    }

    #[tokio::test]
    async fn a_flight_that_is_dropped_is_lost_and_a_slow_one_is_waited_for_so_long() {
        let flights = Flights::new(9);
        let key: Key = "a".into();
        let landing = first(flights.join(&key));
        let waiter = later(flights.join(&key));
        assert!(matches!(later(flights.join(&key)).wait(SHORT).await, Landed::Lost(Loss::TimedOut)));
        drop(landing);
        assert!(matches!(waiter.wait(LONG).await, Landed::Lost(Loss::Unavailable)));
        assert_eq!(flights.waiting(), 0);
        assert!(matches!(flights.join(&key), Joined::First(_)));
    }

    #[tokio::test]
    async fn that_the_first_goes_away_is_nothing_to_the_others() {
        let flights = Flights::new(9);
        let key: Key = "a".into();
        let landing = first(flights.join(&key));
        drop(landing.waiter());
        let waiter = later(flights.join(&key));
        landing.land(Landed::Lost(Loss::Overloaded(SHORT)));
        assert!(matches!(waiter.wait(LONG).await, Landed::Lost(Loss::Overloaded(_))));
    }

    #[test]
    fn what_is_forgotten_meanwhile_is_not_kept() {
        let flights = Flights::new(9);
        let (a, b) = (first(flights.join(&"a".into())), first(flights.join(&"b".into())));
        flights.outdate(|key| key == "a");
        assert!(a.is_outdated() && !b.is_outdated());
    }
}
