//! Closes connections that are idle too long or too slow with a request's head, and sends quiet ones to sleep: one
//! sweep a core instead of one timer a request.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;

use hyper::rt::{Read, ReadBufCursor, Write};

/// Between two sweeps; times are exact to this.
const TICK: Duration = Duration::from_millis(250);
/// Sweeps after which a quiet connection may give its buffers back: two seconds.
const QUIET_TICKS: u32 = 8;

/// All connections of one core.
#[derive(Debug)]
pub struct Watchdog {
    now: Cell<u32>,
    header_ticks: u32,
    idle_ticks: u32,
    watched: RefCell<slab::Slab<(Rc<Activity>, AbortHandle)>>,
}

/// What a connection is doing.
#[derive(Debug)]
pub struct Activity {
    in_flight: Cell<u32>,
    /// Tick at which it became idle, or began to send a head.
    since: Cell<u32>,
    reading: Cell<bool>,
    /// Written to the socket's wrapper and not flushed yet.
    unsent: Cell<bool>,
    /// It is no more than a socket.
    asleep: Cell<bool>,
    /// Whoever serves it, to be woken when it has been quiet.
    server: RefCell<Option<Waker>>,
    watchdog: Rc<Watchdog>,
}

impl Watchdog {
    /// With the configured bounds.
    pub fn new(header_timeout: Duration, idle_timeout: Duration) -> Rc<Self> {
        let ticks = |time: Duration| time.as_millis().div_ceil(TICK.as_millis()).max(1) as u32;
        Rc::new(Self {
            now: Cell::new(0),
            header_ticks: ticks(header_timeout),
            idle_ticks: ticks(idle_timeout),
            watched: RefCell::default(),
        })
    }

    /// Activity of a new connection.
    pub fn activity(self: &Rc<Self>) -> Rc<Activity> {
        Rc::new(Activity {
            in_flight: Cell::new(0),
            since: Cell::new(self.now.get()),
            reading: Cell::new(false),
            unsent: Cell::new(false),
            asleep: Cell::new(false),
            server: RefCell::new(None),
            watchdog: self.clone(),
        })
    }

    /// From now on `task` is aborted when `activity` is overdue; answers the key for [`Self::forget`].
    pub fn watch(&self, activity: Rc<Activity>, task: AbortHandle) -> usize {
        self.watched.borrow_mut().insert((activity, task))
    }

    /// The connection has ended.
    pub fn forget(&self, key: usize) {
        self.watched.borrow_mut().try_remove(key);
    }

    /// Whether no connection is open on this core.
    pub fn is_empty(&self) -> bool {
        self.watched.borrow().is_empty()
    }

    /// Sweeps until dropped.
    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep();
        }
    }

    pub(super) fn sweep(&self) {
        let now = self.now.get().wrapping_add(1);
        self.now.set(now);
        for (_, (activity, task)) in self.watched.borrow().iter() {
            let allowed = if activity.reading.get() { self.header_ticks } else { self.idle_ticks };
            if activity.in_flight.get() == 0 && now.wrapping_sub(activity.since.get()) > allowed {
                task.abort();
            } else if activity.is_quiet()
                && let Some(server) = activity.server.take()
            {
                server.wake();
            }
        }
    }
}

impl Activity {
    /// A request's head is complete; while the guard lives the connection is busy.
    pub fn begin(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.reading.set(false);
        InFlight(self.clone())
    }

    /// Nothing is asked, nothing is on its way out, and so it has been for a while.
    fn is_quiet(&self) -> bool {
        let still = self.in_flight.get() == 0 && !self.reading.get() && !self.unsent.get();
        still && self.watchdog.now.get().wrapping_sub(self.since.get()) >= QUIET_TICKS
    }

    /// Completes when the connection has been quiet for two seconds. One task at a time. Cancel safe.
    pub(super) async fn quiet(&self) {
        std::future::poll_fn(|cx| {
            if self.is_quiet() {
                return Poll::Ready(());
            }
            let mut server = self.server.borrow_mut();
            if server.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                *server = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    pub(super) fn sleeps(&self, asleep: bool) {
        self.asleep.set(asleep);
    }

    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.get()
    }

    pub(super) fn bytes_came(&self) {
        if self.in_flight.get() == 0 && !self.reading.get() {
            self.reading.set(true);
            self.since.set(self.watchdog.now.get());
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight(Rc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.since.set(self.0.watchdog.now.get());
    }
}

/// A stream that tells the watchdog when bytes come and go.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    /// Read already, and read again first.
    first: Bytes,
    activity: Rc<Activity>,
}

impl<T> Watched<T> {
    /// Wraps a stream of which `first` was read already.
    pub(super) fn new(inner: T, first: Bytes, activity: Rc<Activity>) -> Self {
        Self { inner, first, activity }
    }

    /// The stream.
    pub(super) fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(len));
            self.activity.bytes_came();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.activity.bytes_came();
        }
        polled
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.activity.unsent.set(true);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.activity.unsent.set(false);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.activity.unsent.set(true);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
