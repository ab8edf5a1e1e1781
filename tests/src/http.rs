//! Requests, answers, event streams: what a client sees, without knowledge of what it means.

use ::http::{HeaderMap, Method, Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client of one listener. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Http {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as JSON; `Null` when it is none.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl Http {
    /// HTTP/1.1 over kept connections.
    pub fn new(base: &str) -> Self {
        Self { base: base.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// HTTP/2 cleartext with prior knowledge.
    pub fn http2(base: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { base: base.to_owned(), client }
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The answer, or why there is none.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let response = self.response(method, path, headers, body).await?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// The answer; panics when none comes in time.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let what = format!("{method} {path}");
        crate::within(&what, self.try_send(method, path, headers, body))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// A GET.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers, b"").await
    }

    /// A POST of a JSON document.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.send("POST", path, headers, body.to_string().as_bytes()).await
    }

    /// Opens an event stream.
    pub async fn events(&self, path: &str, headers: &[(&str, &str)]) -> EventStream {
        let response = crate::within(path, self.response("GET", path, headers, b"")).await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventStream { body: response.into_body(), text: String::new() }
    }

    async fn response(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<::http::Response<Incoming>, String> {
        let uri: Uri = format!("{}{path}", self.base).parse().unwrap();
        let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        self.client.request(request).await.map_err(|error| format!("{error:?}"))
    }
}

impl Reply {
    /// Panics unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Panics unless this is a problem document of that status and type, as RFC 9457 wants it.
    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        assert_eq!((self.status, self.str("type")), (status, slug), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert!(!self.str("title").is_empty());
        self
    }

    /// A text member; empty when it is none.
    pub fn str(&self, member: &str) -> &str {
        self.json[member].as_str().unwrap_or("")
    }

    /// A whole number among the members.
    #[track_caller]
    pub fn number(&self, member: &str) -> u64 {
        self.json[member].as_u64().unwrap_or_else(|| panic!("no `{member}` in {}", self.text))
    }

    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// `Retry-After` in seconds.
    #[track_caller]
    pub fn retry_after_s(&self) -> u64 {
        self.header("retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After: {:?}", self.headers))
    }
}

/// Server-sent events as they come.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    text: String,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// `event:`
    pub name: String,
    /// `id:`
    pub id: String,
    /// `data:`
    pub data: Value,
}

impl EventStream {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        crate::within("an event", async {
            loop {
                if let Some((block, rest)) = self.text.split_once("\n\n") {
                    let (block, rest) = (block.to_owned(), rest.to_owned());
                    self.text = rest;
                    if let Some(event) = parse_event(&block) {
                        return Some(event);
                    }
                    continue;
                }
                match self.body.frame().await {
                    Some(Ok(frame)) => {
                        let piece = frame.into_data().unwrap_or_default();
                        self.text.push_str(std::str::from_utf8(&piece).unwrap());
                    }
                    Some(Err(_)) | None => return None,
                }
            }
        })
        .await
    }
}

fn parse_event(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|text| text.trim().to_owned())
    };
    Some(Event {
        name: field("event")?,
        id: field("id")?,
        data: serde_json::from_str(&field("data")?).unwrap(),
    })
}

/// Sends these bytes on a connection of their own and answers all that comes until the other side closes it.
pub async fn raw_exchange(authority: &str, bytes: &[u8]) -> String {
    crate::within("the gateway closes the connection", async {
        let mut stream = tokio::net::TcpStream::connect(authority).await.unwrap();
        // A gateway that refuses early may close while this still writes.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
}
