//! A service behind the gateway, down to its bytes: records what comes, answers what the test says.

use crate::{eventually, within};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What came on a connection as one request.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Which connection, from 0.
    pub connection: usize,
    /// Request line and headers as they came, without the empty line.
    pub head: String,
    /// Body as it came, chunks and all.
    pub body: Vec<u8>,
}

/// What the upstream does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Writes these bytes and waits for the next request.
    Answer(Vec<u8>),
    /// Writes these bytes and closes.
    AnswerAndClose(Vec<u8>),
    /// Writes the first, waits so long, writes the second.
    Halves(Vec<u8>, Duration, Vec<u8>),
    /// Says nothing and keeps the connection.
    Hang,
}

impl Act {
    /// 200 with this text.
    pub fn text(text: &str) -> Self {
        Self::Answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes())
    }
}

/// A service on 127.0.0.1. Ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Starts; `act` is told how many requests came before, and the request.
    pub async fn start(act: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, connections, ended): (Arc<Mutex<Vec<Seen>>>, Arc<AtomicUsize>, Arc<AtomicUsize>) =
            Default::default();
        let act = Arc::new(act);
        let (log, count, ends) = (seen.clone(), connections.clone(), ended.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let (log, act, ends) = (log.clone(), act.clone(), ends.clone());
                tokio::spawn(async move {
                    serve(stream, connection, &log, &*act).await;
                    ends.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, seen, connections, ended, task }
    }

    /// Always 200 with `ok`.
    pub async fn ok() -> Self {
        Self::start(|_, _| Act::text("ok")).await
    }

    /// `http://…`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// All requests so far, whole ones.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have ended.
    pub async fn until_ended(&self, count: usize) {
        eventually("connections to the upstream end", || async {
            (self.ended.load(Ordering::SeqCst) >= count).then_some(())
        })
        .await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// Method and target.
    pub fn request_line(&self) -> &str {
        self.head.lines().next().unwrap_or("")
    }

    /// All lines of a header, in lower case name.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    log: &Mutex<Vec<Seen>>,
    act: &(dyn Fn(usize, &Seen) -> Act + Send + Sync),
) {
    let mut buffer = Vec::new();
    while let Some(mut seen) = request(&mut stream, &mut buffer).await {
        seen.connection = connection;
        let before = {
            let mut log = log.lock();
            log.push(seen.clone());
            log.len() - 1
        };
        match act(before, &seen) {
            Act::Answer(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::AnswerAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Act::Halves(first, wait, second) => {
                let _ = stream.write_all(&first).await;
                tokio::time::sleep(wait).await;
                if stream.write_all(&second).await.is_err() {
                    return;
                }
            }
            Act::Hang => {
                let mut end = [0; 1024];
                while stream.read(&mut end).await.is_ok_and(|read| read > 0) {}
                return;
            }
        }
    }
}

/// The next request of a connection; `None` when it ends.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head_end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut seen = Seen { head, ..Seen::default() };
    let rest = head_end + 4;
    let end = if let Some(length) = seen.header("content-length").first() {
        rest + length.parse::<usize>().unwrap()
    } else if seen.header("transfer-encoding").is_empty() {
        rest
    } else {
        loop {
            if let Some(at) = find(&buffer[rest..], b"0\r\n\r\n") {
                break rest + at + 5;
            }
            more(stream, buffer).await?;
        }
    };
    while buffer.len() < end {
        more(stream, buffer).await?;
    }
    seen.body = buffer[rest..end].to_vec();
    buffer.drain(..end);
    Some(seen)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

/// One request on a connection of its own, and all that comes until the other side ends it, or has said nothing for a
/// moment after it began to answer.
pub async fn raw_answer(authority: &str, bytes: &[u8]) -> String {
    within("an answer to raw bytes", async {
        let mut stream = TcpStream::connect(authority).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        loop {
            let quiet = Duration::from_millis(if answer.is_empty() { 10_000 } else { 200 });
            match tokio::time::timeout(quiet, stream.read_buf(&mut answer)).await {
                Ok(Ok(read)) if read > 0 => {}
                _ => return String::from_utf8_lossy(&answer).into_owned(),
            }
        }
    })
    .await
}
