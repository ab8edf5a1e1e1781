//! Body of a request on its way to the upstream: a piece at a time, within a bound, and not slower than allowed.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a body did not reach the upstream whole. The upstream sees its connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadFault {
    /// More than the route takes.
    #[error("the body is too large")]
    TooLarge,
    /// Too long nothing came.
    #[error("the client sent nothing for too long")]
    Slow,
    /// It is not whole.
    #[error("the client's body ended early or is badly framed")]
    Broken,
}

/// How far an upload is, for whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) bytes: Cell<u64>,
    pub(super) over: Cell<bool>,
    pub(super) fault: Cell<Option<UploadFault>>,
    /// The client's body; `None` once it is over.
    from: RefCell<Option<Incoming>>,
    /// Whoever sends it.
    sender: RefCell<Option<Waker>>,
}

/// Gives an upload up when it is dropped. With the answer to a request ends all that is read of the request: a connection
/// whose next bytes are still somebody's body must look like one, or they would be taken for a request.
#[derive(Debug)]
pub(super) struct GiveUp(pub(super) Rc<Progress>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        let progress = &self.0;
        let unread = progress.from.take().is_some_and(|from| !from.is_end_stream());
        if unread {
            progress.fault.set(Some(UploadFault::Broken));
            if let Some(sender) = progress.sender.take() {
                sender.wake();
            }
        }
    }
}

/// Body of a request. Trailers are dropped.
#[derive(Debug)]
pub struct Upload {
    left: u64,
    silence_max: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    progress: Rc<Progress>,
}

impl Upload {
    /// No body.
    pub fn none() -> Self {
        let progress = Rc::new(Progress::default());
        progress.over.set(true);
        Self { left: 0, silence_max: Duration::ZERO, silence: None, progress }
    }

    /// A client's, at most `bytes_max`, with at most `silence_max` between two pieces.
    pub(super) fn new(from: Incoming, bytes_max: u64, silence_max: Duration) -> Self {
        if from.is_end_stream() {
            return Self::none();
        }
        let progress = Rc::new(Progress { from: RefCell::new(Some(from)), ..Progress::default() });
        Self { left: bytes_max, silence_max, silence: None, progress }
    }

    pub(super) fn is_none(&self) -> bool {
        self.progress.from.borrow().is_none()
    }

    pub(super) fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }

    fn end(&mut self, fault: Option<UploadFault>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        drop(self.progress.from.take());
        self.silence = None;
        self.progress.over.set(true);
        self.progress.fault.set(fault);
        Poll::Ready(fault.map(Err))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let this = self.get_mut();
        loop {
            let polled = match this.progress.from.borrow_mut().as_mut() {
                Some(from) => Pin::new(from).poll_frame(cx),
                // What was given up must not look complete.
                None => return Poll::Ready(this.progress.fault.get().map(Err)),
            };
            let Poll::Ready(frame) = polled else {
                this.progress.sender.replace(Some(cx.waker().clone()));
                // The clock runs only while the client is waited for: a slow upstream is not its fault.
                let silence_max = this.silence_max;
                let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence_max)));
                ready!(silence.as_mut().poll(cx));
                return this.end(Some(UploadFault::Slow));
            };
            this.silence = None;
            let data = match frame {
                None => return this.end(None),
                Some(Err(_)) => return this.end(Some(UploadFault::Broken)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => continue,
                },
            };
            let Some(left) = this.left.checked_sub(data.len() as u64) else {
                return this.end(Some(UploadFault::TooLarge));
            };
            this.left = left;
            this.progress.bytes.set(this.progress.bytes.get() + data.len() as u64);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        let from = self.progress.from.borrow();
        from.as_ref().map_or(self.progress.fault.get().is_none(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let from = self.progress.from.borrow();
        from.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // hyper stops asking when the last byte of a known length has come.
        if self.is_end_stream() {
            self.progress.over.set(true);
        }
    }
}

/// Waits at most `time_max` from the end of the upload for `answer`; as long as the upload goes on, the upload's own
/// bound on silence counts. `None`: time is over. Cancel safe when `answer` is.
pub(super) async fn answered<T>(
    answer: impl Future<Output = T>,
    progress: &Progress,
    time_max: Duration,
) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    let mut bytes = progress.bytes.get();
    let mut timer = std::pin::pin!(tokio::time::sleep(time_max));
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            () = &mut timer => {
                let now = progress.bytes.get();
                if now == bytes {
                    return None;
                }
                bytes = now;
                timer.as_mut().reset(Instant::now() + time_max);
            }
        }
    }
}
