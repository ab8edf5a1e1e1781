//! What one connection is doing: read by the watchdog, and by whoever would take the connection apart.

use super::connection::Side;
use super::watchdog::{Ticks, Watchdog};
use crate::http::Body;
use crate::proxy::Cut;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// What a connection is doing. It stays on its core.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests that are worked on, and answers that wait for news of ours: none of it is the client's delay.
    busy: Cell<u32>,
    /// Answers that are not handed over in full.
    answers: Cell<u32>,
    /// When it became idle, began to send a head, or took the last piece of an answer.
    since: Cell<Ticks>,
    /// A head is coming.
    reading: Cell<bool>,
    /// Since when the socket takes nothing of what is to be written.
    stuck: Cell<Option<Ticks>>,
    /// Counts all that happens.
    moves: Cell<u32>,
    /// HTTP/2: its bytes tell nothing of where a head begins.
    multiplexed: Cell<bool>,
    /// A request has come on it.
    asked: Cell<bool>,
    /// It was told to end, to make room.
    leaves: Cell<bool>,
    /// Connections of this core before it.
    number: u64,
    /// Which listener it came in by.
    side: Side,
    /// It is no more than a stream.
    asleep: Cell<bool>,
    /// Whoever serves it, to be woken when it has been quiet.
    server: RefCell<Option<Waker>>,
    watchdog: Rc<Watchdog>,
}

impl Activity {
    pub(super) fn new(watchdog: Rc<Watchdog>, side: Side) -> Rc<Self> {
        Rc::new(Self {
            busy: Cell::new(0),
            answers: Cell::new(0),
            since: Cell::new(watchdog.now()),
            reading: Cell::new(false),
            stuck: Cell::new(None),
            moves: Cell::new(0),
            multiplexed: Cell::new(false),
            asked: Cell::new(false),
            leaves: Cell::new(false),
            number: watchdog.next_number(),
            side,
            asleep: Cell::new(false),
            server: RefCell::new(None),
            watchdog,
        })
    }

    /// A request's head is complete; while the guard lives, it is worked on.
    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.reading.set(false);
        self.asked.set(true);
        self.work()
    }

    fn work(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(self.clone())
    }

    /// Bytes came. A head must be complete in a time that is counted from its first one.
    pub(super) fn bytes_came(&self) {
        if self.busy.get() == 0 && !self.reading.get() && !self.multiplexed.get() {
            self.reading.set(true);
            self.moved();
        }
    }

    /// Of a write or a flush: whether the socket took something.
    pub(super) fn wrote<T>(&self, polled: &Poll<T>) {
        if polled.is_pending() {
            if self.stuck.get().is_none() {
                self.stuck.set(Some(self.watchdog.now()));
            }
            return;
        }
        self.stuck.set(None);
        // With HTTP/2 these may be answers to pings, which must keep nothing alive.
        if !self.multiplexed.get() && !self.reading.get() {
            self.moved();
        }
    }

    /// Nothing waits for the socket any more. With TLS a write is taken before the socket has it: only this tells.
    pub(super) fn flushed(&self) {
        self.stuck.set(None);
    }

    /// From now on it is HTTP/2, while the guard lives. `None`: there are too many of those, and all are busy.
    pub(super) fn speaks_http2(self: &Rc<Self>) -> Option<Multiplexed> {
        let key = self.watchdog.admit_multiplexed(self)?;
        self.multiplexed.set(true);
        self.reading.set(false);
        Some(Multiplexed { activity: self.clone(), key })
    }

    pub(super) fn sleeps(&self, asleep: bool) {
        self.asleep.set(asleep);
    }

    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.get()
    }

    fn moved(&self) {
        self.moves.set(self.moves.get().wrapping_add(1));
        self.since.set(self.watchdog.now());
    }

    /// Whether the client has kept us waiting for too long.
    pub(super) fn is_overdue(&self) -> bool {
        let watchdog = &self.watchdog;
        let allowed = if self.reading.get() { watchdog.header_ticks() } else { watchdog.idle_ticks() };
        let late = self.busy.get() == 0 && watchdog.elapsed(self.since.get()) > allowed;
        late || self.stuck.get().is_some_and(|since| watchdog.elapsed(since) > watchdog.idle_ticks())
    }

    /// How dispensable it is; the greatest goes first. `None`: it is busy.
    pub(super) fn silence(&self) -> Option<Silence> {
        let still = self.busy.get() == 0 && self.answers.get() == 0 && !self.leaves.get();
        if !still || !(self.asleep.get() || self.multiplexed.get()) {
            return None;
        }
        let ticks = self.watchdog.elapsed(self.since.get());
        let kind = match (self.reading.get() || !self.asked.get(), ticks) {
            (true, 0) => Kind::Fresh,
            (true, _) => Kind::Hollow,
            (false, _) => Kind::Asked,
        };
        Some(Silence { kind, ticks, age: Reverse(self.number) })
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Marks it as told to end; wakes whoever waits in [`Self::told_to_leave`].
    pub(super) fn leave(&self) {
        self.leaves.set(true);
        if let Some(server) = self.server.take() {
            server.wake();
        }
    }

    /// Completes when the connection has to make room. One task at a time. Cancel safe.
    pub(super) async fn told_to_leave(&self) {
        poll_fn(|cx| {
            if self.leaves.get() {
                return Poll::Ready(());
            }
            self.wake_later(cx);
            Poll::Pending
        })
        .await;
    }

    fn wake_later(&self, cx: &mut Context<'_>) {
        let mut server = self.server.borrow_mut();
        if server.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *server = Some(cx.waker().clone());
        }
    }

    /// Nothing is asked, nothing is on its way out, and so it has been for as long as the watchdog says.
    fn is_quiet(&self) -> bool {
        let still = self.busy.get() == 0
            && self.answers.get() == 0
            && !self.reading.get()
            && self.stuck.get().is_none();
        still && self.watchdog.elapsed(self.since.get()) >= self.watchdog.quiet_ticks()
    }

    /// Wakes whoever waits in [`Self::quiet`], if it has come to that.
    pub(super) fn tell_if_quiet(&self) {
        if !self.asleep.get()
            && !self.multiplexed.get()
            && self.is_quiet()
            && let Some(server) = self.server.take()
        {
            server.wake();
        }
    }

    /// Completes when the connection has been quiet for a while, and whoever serves it was polled once more since anything
    /// happened: a request's body that nobody will read is seen only then. One task at a time, polled after the server.
    /// Cancel safe.
    pub(super) async fn quiet(&self) {
        let mut seen = None;
        poll_fn(|cx| {
            if !self.is_quiet() {
                self.wake_later(cx);
                return Poll::Pending;
            }
            if seen == Some(self.moves.get()) {
                // It would keep the room of the task that waits in it.
                self.server.take();
                return Poll::Ready(());
            }
            seen = Some(self.moves.get());
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// How dispensable a connection is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Silence {
    kind: Kind,
    ticks: Ticks,
    age: Reverse<u64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Its first request may be on its way.
    Fresh,
    /// It has asked something before.
    Asked,
    /// Nothing was ever asked on it, or a head comes slowly.
    Hollow,
}

/// One of the HTTP/2 connections of a core.
#[derive(Debug)]
pub(super) struct Multiplexed {
    activity: Rc<Activity>,
    key: usize,
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.activity.watchdog.forget_multiplexed(self.key);
    }
}

/// Work on a request.
#[derive(Debug)]
pub(super) struct Busy(Rc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.moved();
    }
}

/// An answer's body: until it is handed over the connection is not taken apart, and while it waits for news of ours
/// the connection is not idle.
#[derive(Debug)]
pub(super) struct Told {
    body: Body,
    waits: Option<Busy>,
    activity: Rc<Activity>,
}

impl Told {
    pub(super) fn new(body: Body, activity: &Rc<Activity>) -> Self {
        activity.answers.set(activity.answers.get() + 1);
        Self { body, waits: None, activity: activity.clone() }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.activity.answers.set(self.activity.answers.get() - 1);
        self.activity.moved();
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && self.waits.is_none() {
            self.waits = Some(self.activity.work());
        }
        let frame = ready!(polled);
        self.waits = None;
        self.activity.moved();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
