//! HTTP on one socket. A connection that has been quiet for a while is taken apart: HTTP/1.1 keeps 16 KiB of buffers and
//! the room for a request's work for as long as it lives, and a sale has far more buyers who wait than who ask. What is
//! left is the socket; the first bytes that come make it a connection again.

use super::watchdog::{Activity, Watched};
use crate::http::Body;
use crate::state::Stopping;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use smallvec::SmallVec;
use std::convert::Infallible;
use std::future::Future;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use tokio::net::TcpStream;

/// HTTP/2 streams a connection may have open.
const STREAMS_MAX: u32 = 128;
/// What an HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
pub(super) async fn serve_stream<S, F>(
    mut stream: TcpStream,
    activity: &Rc<Activity>,
    bounds: Bounds,
    service: S,
    stopping: &Stopping,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F> + Clone,
    F: Future<Output = Result<Response<Body>, Infallible>> + 'static,
{
    let mut first = Bytes::new();
    loop {
        if first.is_empty() {
            activity.sleeps(true);
            let came = tokio::select! {
                came = first_bytes(&stream, activity) => came,
                () = stopping.wait() => None,
            };
            let Some(came) = came else { return Ok(()) };
            activity.sleeps(false);
            first = came;
        }
        let is_http2 = *first == *PREFACE;
        let io = Watched::new(TokioIo::new(stream), first, activity.clone());
        // Boxed: while the connection sleeps its task holds no room for them.
        if is_http2 {
            return Box::pin(serve_http2(io, bounds, service, stopping)).await;
        }
        match Box::pin(serve_http1(io, activity, bounds, service.clone(), stopping)).await? {
            Some((quiet, rest)) => (stream, first) = (quiet, rest),
            None => return Ok(()),
        }
    }
}

/// What comes first, as much as tells HTTP/2 from HTTP/1. `None`: the client has gone. Cancel safe: who cancels is done
/// with the connection.
async fn first_bytes(stream: &TcpStream, activity: &Activity) -> Option<Bytes> {
    let mut first: SmallVec<[u8; PREFACE.len()]> = SmallVec::new();
    loop {
        stream.readable().await.ok()?;
        let mut more = [0; PREFACE.len()];
        match stream.try_read(&mut more[first.len()..]) {
            Ok(0) => return None,
            Ok(len) => {
                activity.bytes_came();
                let from = first.len();
                first.extend_from_slice(&more[from..from + len]);
                if first.len() == PREFACE.len() || !PREFACE.starts_with(&first) {
                    return Some(Bytes::copy_from_slice(&first));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Until it ends, or until it has been quiet for a while: then the socket, and what was read of it and not used.
async fn serve_http1<S, F>(
    io: Watched<TokioIo<TcpStream>>,
    activity: &Activity,
    bounds: Bounds,
    service: S,
    stopping: &Stopping,
) -> Result<Option<(TcpStream, Bytes)>, hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<Body>, Infallible>> + 'static,
{
    let mut builder = http1::Builder::new();
    // The watchdog bounds heads and idle time; a timer a request would cost more than the request.
    builder.max_buf_size(bounds.header_bytes_max.max(8192)).header_read_timeout(None);
    let mut serving = builder.serve_connection(io, service);
    tokio::select! {
        biased;
        ended = &mut serving => ended.map(|()| None),
        () = activity.quiet() => {
            // Nothing is on its way out: the last that was written has been flushed.
            let parts = serving.into_parts();
            // An empty rest would keep the buffer that it is a slice of.
            let rest = Bytes::copy_from_slice(&parts.read_buf);
            Ok(Some((parts.io.into_inner().into_inner(), rest)))
        }
        () = stopping.wait() => {
            Pin::new(&mut serving).graceful_shutdown();
            serving.await.map(|()| None)
        }
    }
}

async fn serve_http2<S, F>(
    io: Watched<TokioIo<TcpStream>>,
    bounds: Bounds,
    service: S,
    stopping: &Stopping,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = F>,
    F: Future<Output = Result<Response<Body>, Infallible>> + 'static,
{
    let mut builder = http2::Builder::new(OnThisCore);
    builder
        .max_header_list_size(bounds.header_bytes_max as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .timer(TokioTimer::new());
    let mut serving = pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopping.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    }
}

#[cfg(test)]
#[path = "serving_tests.rs"]
mod tests;
