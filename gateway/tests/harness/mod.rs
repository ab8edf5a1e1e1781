//! A gateway in this process on free ports with a folder of its own, and an HTTP client that is no part of the
//! project: what it sends and gets is the text on the wire.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate::Gateway;
use tidegate::config::Config;
use tidegate_queue::SystemClock;
use tidegate_queue::storage::{DiskStorage, Storage};

/// A running gateway; drains and closes when dropped.
pub struct Running {
    gateway: Option<Gateway>,
    pub public: SocketAddr,
    pub inner: SocketAddr,
    dir: tempfile::TempDir,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and problem type, for refusals.
    pub fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status, "{self:?}");
        (self.status, document["type"].as_str().unwrap_or_default().to_owned())
    }

    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// Starts a gateway over a fresh folder; `more` is added to its configuration.
pub fn start(more: &str) -> Running {
    start_in(tempfile::tempdir().unwrap(), more)
}

/// Starts a gateway over a folder that was used before.
pub fn start_in(dir: tempfile::TempDir, more: &str) -> Running {
    start_over(dir, more, |data| Arc::new(DiskStorage::new(data).unwrap()))
}

/// Starts a gateway over a storage of the test's choice.
pub fn start_over(
    dir: tempfile::TempDir,
    more: &str,
    storage: impl FnOnce(&Path) -> Arc<dyn Storage>,
) -> Running {
    let data = dir.path().join("data");
    let text = format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninner = \"127.0.0.1:0\"\nthreads = 1\ndrain_ms = 2000\n\
         [data]\ndir = \"{}\"\nsegment_bytes = 8388608\n{more}\n",
        data.display()
    );
    let path = dir.path().join("tidegate.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load(Some(&path), std::iter::empty()).unwrap();
    let gateway = Gateway::start(config, storage(&data), Arc::new(SystemClock::new())).unwrap();
    let (public, inner) = (gateway.public_addr(), gateway.inner_addr());
    Running { gateway: Some(gateway), public, inner, dir }
}

impl Running {
    pub fn app(&self) -> &Arc<tidegate::state::App> {
        self.gateway.as_ref().unwrap().app()
    }

    /// Ends it whatever state its storage is in, and gives the folder back.
    pub fn abandon(mut self) -> tempfile::TempDir {
        let _ = self.gateway.take().unwrap().shutdown();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// The folder around the data folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Drains, closes, and gives the folder back.
    pub fn stop(mut self) -> tempfile::TempDir {
        self.gateway.take().unwrap().shutdown().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    pub fn get(&self, path: &str) -> Answer {
        send(self.inner, "GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        send(self.inner, "POST", path, "", body)
    }

    pub fn put(&self, path: &str, body: &str) -> Answer {
        send(self.inner, "PUT", path, "", body)
    }

    /// A sale that is open.
    pub fn sale(&self, sale: &str, stock: u64, more: &str) {
        let body = format!("{{\"item\":\"i\",\"stock\":{stock}{more}}}");
        assert_eq!(self.put(&format!("/v1/sales/{sale}"), &body).status, 201);
        assert_eq!(self.post(&format!("/v1/sales/{sale}/open"), "").status, 200);
    }

    /// A winning order; answers the ticket.
    pub fn win(&self, sale: &str, buyer: &str) -> String {
        let answer = send(
            self.public,
            "POST",
            &format!("/v1/sales/{sale}/orders"),
            &format!("X-User-Id: {buyer}\r\n"),
            "",
        );
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// Messages under lease.
    pub fn receive(&self, topic: &str, group: &str, body: &str) -> Vec<Value> {
        let answer = self.post(&format!("/v1/topics/{topic}/groups/{group}/receive"), body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["messages"].as_array().unwrap().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.shutdown().unwrap();
        }
    }
}

/// One request on a connection of its own. `headers` end with CRLF each.
pub fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    Pending::send(to, method, path, headers, body).answer()
}

/// Whatever text on a connection of its own.
pub fn send_text(to: SocketAddr, request: &str) -> Answer {
    Pending::send_text(to, request).answer()
}

/// A request that was sent; its answer may or may not be there.
pub struct Pending(TcpStream);

impl Pending {
    pub fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Self {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {to}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        Self::send_text(to, &request)
    }

    fn send_text(to: SocketAddr, request: &str) -> Self {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        Self(stream)
    }

    /// Whether anything of an answer has come.
    pub fn is_answered(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let answered = self.0.peek(&mut [0]).is_ok();
        self.0.set_nonblocking(false).unwrap();
        answered
    }

    /// Waits for the whole answer.
    pub fn answer(mut self) -> Answer {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), text: body.to_owned() }
    }
}

/// Looks until it finds what it waits for; fails after half a minute.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within 30 s");
        std::thread::yield_now();
    }
}

/// Runs the built command; answers exit code, standard output, standard error.
pub fn tidegate(arguments: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Flips a bit of the first place in the log where `pattern` stands.
pub fn damage(data: &Path, pattern: &[u8]) {
    for entry in std::fs::read_dir(data.join("commitlog")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(pattern.len()).position(|window| window == pattern) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the pattern is not in the log");
}
