//! HTTP on one socket. A connection that has been quiet for a while is taken apart: HTTP/1.1 keeps 16 KiB of buffers and
//! the room for a request's work for as long as it lives, and a sale has far more buyers who wait than who ask. What is
//! left is the socket; the next head that comes makes it a connection again.

use super::activity::{Activity, Told};
use super::asleep::{self, PREFACE};
use super::watched::Watched;
use crate::state::Stopping;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// HTTP/2 streams a connection may have open.
const STREAMS_MAX: u32 = 128;
/// Streams that a client has reset before they were looked at; one more ends the connection (rapid reset).
const RESETS_PENDING_MAX: usize = 20;
/// Streams that had to be reset for the client's mistakes; one more ends the connection.
const ERROR_RESETS_MAX: usize = 128;
/// What a client may send of bodies before they are read: of one stream, and of the connection.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// An HTTP/2 connection that makes room for another has this long to finish what has come meanwhile.
const LEAVE_TIME: Duration = Duration::from_millis(250);

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) header_bytes_max: usize,
}

/// Runs a connection's tasks on its own core.
#[derive(Debug, Clone, Copy)]
struct OnThisCore;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisCore {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Serves until the client has gone or the gateway drains.
pub(super) async fn serve_stream<T, S, F>(
    mut stream: T,
    activity: &Rc<Activity>,
    bounds: Bounds,
    service: S,
    stopping: &Stopping,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Told>, Error = Infallible, Future = F> + Clone,
    F: Future<Output = Result<Response<Told>, Infallible>> + 'static,
{
    let mut first = Bytes::new();
    loop {
        if first.is_empty() {
            activity.sleeps(true);
            let came = tokio::select! {
                // A request that is there when the gateway drains is still answered.
                biased;
                came = asleep::head(&mut stream, activity, bounds.header_bytes_max) => came,
                () = stopping.wait() => None,
            };
            let Some(came) = came else { return Ok(()) };
            activity.sleeps(false);
            first = came;
        }
        let is_http2 = first.starts_with(PREFACE);
        let io = Watched::new(TokioIo::new(stream), first, activity.clone());
        // Boxed: while the connection sleeps its task holds no room for them.
        if is_http2 {
            let Some(_one_of_them) = activity.speaks_http2() else { return Ok(()) };
            return Box::pin(serve_http2(io, activity, bounds, service, stopping)).await;
        }
        match Box::pin(serve_http1(io, activity, bounds, service.clone(), stopping)).await? {
            Some((quiet, rest)) => (stream, first) = (quiet, rest),
            None => return Ok(()),
        }
    }
}

/// Until it ends, or until it has been quiet for a while: then the stream, and what was read of it and not used.
async fn serve_http1<T, S, F>(
    io: Watched<TokioIo<T>>,
    activity: &Activity,
    bounds: Bounds,
    service: S,
    stopping: &Stopping,
) -> Result<Option<(T, Bytes)>, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Told>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<Told>, Infallible>> + 'static,
{
    let mut builder = http1::Builder::new();
    // The watchdog bounds heads and idle time; a timer a request would cost more than the request.
    builder.max_buf_size(bounds.header_bytes_max.max(8192)).header_read_timeout(None);
    let mut serving = builder.serve_connection(io, service);
    tokio::select! {
        // `quiet` counts on being polled after the connection.
        biased;
        ended = &mut serving => ended.map(|()| None),
        () = activity.quiet() => {
            // Nothing is on its way out, and no request's body on its way in.
            let parts = serving.into_parts();
            let (stream, unread) = parts.io.into_parts();
            // Copied: an empty rest would keep the buffer that it is a slice of.
            let rest = Bytes::from([&*parts.read_buf, &*unread].concat());
            Ok(Some((stream.into_inner(), rest)))
        }
        () = stopping.wait() => {
            Pin::new(&mut serving).graceful_shutdown();
            serving.await.map(|()| None)
        }
    }
}

async fn serve_http2<T, S, F>(
    io: Watched<TokioIo<T>>,
    activity: &Activity,
    bounds: Bounds,
    service: S,
    stopping: &Stopping,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<Told>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<Told>, Infallible>> + 'static,
{
    let mut builder = http2::Builder::new(OnThisCore);
    builder
        .max_header_list_size(bounds.header_bytes_max as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .timer(TokioTimer::new());
    let mut serving = pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = serving.as_mut() => ended,
        () = activity.told_to_leave() => {
            serving.as_mut().graceful_shutdown();
            // Whoever does not answer to that is left behind.
            tokio::time::timeout(LEAVE_TIME, serving).await.unwrap_or(Ok(()))
        }
        () = stopping.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
