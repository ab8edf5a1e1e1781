//! A proxy before a Redis, which sees every command and can swap the Redis behind it.

use parking_lot::Mutex;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// One client's connection, as the proxy saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Port of the Redis behind it.
    pub backend: u16,
    /// Its commands in order, each with its arguments.
    pub commands: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Shared {
    backend: AtomicU16,
    mute: AtomicBool,
    cut: watch::Sender<u64>,
    seen: Mutex<Vec<Seen>>,
    stop: Notify,
}

/// The proxy, on a thread of its own. Dropped: all its connections end.
#[derive(Debug)]
pub struct SwapProxy {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl SwapProxy {
    /// Before the Redis at a port of 127.0.0.1 (0: none yet).
    pub fn start(backend: u16) -> Self {
        let port = super::process::free_port();
        let listener = StdListener::bind(("127.0.0.1", port)).expect("port of the proxy");
        listener.set_nonblocking(true).expect("non-blocking");
        let shared = Arc::new(Shared {
            backend: AtomicU16::new(backend),
            mute: AtomicBool::new(false),
            cut: watch::channel(0).0,
            seen: Mutex::default(),
            stop: Notify::new(),
        });
        let inside = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, inside.clone()) => {}
                    () = inside.stop.notified() => {}
                }
            });
        });
        Self { port, shared, thread: Some(thread) }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Puts another Redis behind it, and ends all connections.
    pub fn swap(&self, backend: u16) {
        self.shared.backend.store(backend, Ordering::SeqCst);
        self.cut();
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|generation| *generation += 1);
    }

    /// Whether commands go through but nothing comes back.
    pub fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::SeqCst);
    }

    /// All connections so far, those that ended too.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }
}

impl Drop for SwapProxy {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: StdListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("listener");
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut cut = shared.cut.subscribe();
            cut.mark_unchanged();
            tokio::select! {
                _ = cut.changed() => {}
                _ = relay(client, &shared) => {}
            }
        });
    }
}

async fn relay(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let backend = shared.backend.load(Ordering::SeqCst);
    let index = {
        let mut seen = shared.seen.lock();
        seen.push(Seen { backend, commands: Vec::new() });
        seen.len() - 1
    };
    let mut server = TcpStream::connect(("127.0.0.1", backend)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let asked = async {
        let (mut chunk, mut pending) = (vec![0; 16_384], Vec::new());
        loop {
            let read = from_client.read(&mut chunk).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            pending.extend_from_slice(&chunk[..read]);
            // Before it is passed on: what a test sees in Redis it finds here too.
            while let Some((command, used)) = command(&pending) {
                pending.drain(..used);
                shared.seen.lock()[index].commands.push(command);
            }
            to_server.write_all(&chunk[..read]).await?;
        }
    };
    let answered = async {
        let mut chunk = vec![0; 16_384];
        loop {
            let read = from_server.read(&mut chunk).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            if !shared.mute.load(Ordering::SeqCst) {
                to_client.write_all(&chunk[..read]).await?;
            }
        }
    };
    tokio::select! {
        ended = asked => ended,
        ended = answered => ended,
    }
}

/// The first command in `bytes`, if all of it is there, and its length.
fn command(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, start) = number(bytes, at, b'$')?;
        parts.push(String::from_utf8_lossy(bytes.get(start..start + length)?).into_owned());
        at = start + length + 2;
    }
    (at <= bytes.len()).then_some((parts, at))
}

/// `<mark>NUMBER\r\n`, and where it ends.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&b| b == b'\n')?;
    assert_eq!(rest[0], mark, "not RESP: {:?}", String::from_utf8_lossy(rest));
    let digits = std::str::from_utf8(&rest[1..end]).expect("digits").trim();
    Some((digits.parse().expect("number"), at + end + 1))
}
