//! A server that plays the gateway's part from a script: answers, delays, dropped connections.
#![allow(dead_code, unreachable_pub, clippy::needless_pass_by_value)]

pub mod gateway;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

/// No wait of a test is longer.
pub const BOUND: Duration = Duration::from_secs(20);

/// Waits for an event with the bound.
pub async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, event).await.unwrap_or_else(|_| panic!("{what}: not within {BOUND:?}"))
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

/// What the script says to a request.
#[derive(Debug)]
pub enum Reply {
    Json(u16, Value),
    /// Any content type, further headers.
    Raw(u16, Vec<(&'static str, String)>, Bytes),
    /// Breaks the connection without an answer.
    Drop,
    /// Never answers.
    Hang,
}

impl Reply {
    pub fn problem(status: u16, slug: &str) -> Self {
        Self::problem_with(status, json!({"type": slug, "title": slug, "status": status}), &[])
    }

    pub fn problem_with(status: u16, body: Value, headers: &[(&'static str, &str)]) -> Self {
        let mut all = vec![("content-type", "application/problem+json".to_owned())];
        all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Self::Raw(status, all, body.to_string().into())
    }
}

type Script = dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync;

/// Runs until dropped.
pub struct Server {
    pub url: String,
    accepting: AbortHandle,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub async fn start<F, R>(script: F) -> Self
    where
        F: Fn(Seen) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, script)
    }

    pub fn start_on<F, R>(listener: TcpListener, script: F) -> Self
    where
        F: Fn(Seen) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(move |request| Box::pin(script(request)));
        let accepting = tokio::spawn(accept(listener, script, Arc::clone(&seen))).abort_handle();
        Self { url, accepting, seen }
    }

    /// Requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub fn seen_on(&self, path_end: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|request| request.path.ends_with(path_end)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&seen)));
            // An error here is a connection that the script or the client broke.
            let _broken = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
    let request = Seen { method: head.method, path, headers: head.headers, body };
    seen.lock().push(request.clone());
    let (status, headers, body) = match script(request).await {
        Reply::Json(status, body) => {
            (status, vec![("content-type", "application/json".to_owned())], body.to_string().into())
        }
        Reply::Raw(status, headers, body) => (status, headers, body),
        Reply::Drop => return Err(std::io::Error::other("the script breaks the connection")),
        Reply::Hang => match std::future::pending::<Infallible>().await {},
    };
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(body)).unwrap())
}
