//! Body of an upstream's answer on its way to the client.

use super::pool::Pool;
use super::routes::{Flight, Route};
use super::upload::{GiveUp, Upload};
use super::upstream::UnderWay;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// The answer cannot be told to its end: the client's connection (in HTTP/2 its stream) is cut, so that what came does
/// not look complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The upstream's answer ended early or is badly framed.
    #[error("the upstream's answer is cut short")]
    Short,
    /// The upstream sent nothing for too long.
    #[error("the upstream stopped in the middle of its answer")]
    Slow,
}

/// Body of an upstream's answer. Trailers are dropped. Dropping it before its end gives the connection up, so the upstream
/// sees that nobody listens.
#[derive(Debug)]
pub struct Download {
    from: Incoming,
    /// Until the end: then it is kept for the next request.
    sender: Option<SendRequest<Upload>>,
    upload: GiveUp,
    pool: Rc<Pool>,
    route: Arc<Route>,
    under_way: UnderWay,
    _flight: Flight,
    over: bool,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Download {
    pub(super) fn new(
        from: Incoming,
        sender: SendRequest<Upload>,
        upload: GiveUp,
        pool: Rc<Pool>,
        route: Arc<Route>,
        under_way: UnderWay,
        flight: Flight,
    ) -> Self {
        let over = from.is_end_stream();
        let sender = Some(sender);
        Self { from, sender, upload, pool, route, under_way, _flight: flight, over, silence: None }
    }

    fn cut(&mut self, why: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.sender = None;
        self.route.figures.cut();
        Poll::Ready(Some(Err(why)))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.from).poll_frame(cx) else {
                let silence_max = Duration::from_millis(this.route.settings.idle_timeout_ms);
                let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence_max)));
                ready!(silence.as_mut().poll(cx));
                return this.cut(Cut::Slow);
            };
            this.silence = None;
            match frame {
                None => {
                    this.over = true;
                    return Poll::Ready(None);
                }
                Some(Err(_)) => return this.cut(Cut::Short),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.over = this.from.is_end_stream();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(_trailers) => {}
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.from.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.from.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // What is still uploading would hold the next request up.
        let done = self.over && self.upload.0.over.get();
        if let Some(sender) = self.sender.take().filter(|_| done) {
            self.pool.put(&self.route, &self.under_way.0, sender);
        }
    }
}
