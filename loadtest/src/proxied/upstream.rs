//! The service: a thread of its own, so that nothing of the load test delays what it sees.

use crate::clock::Clock;
use crate::evidence::UpstreamSaw;
use crate::scenario::Proxy;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Said by the service itself, so that nobody else's 200 is taken for one of its own.
pub(crate) const WORD: &str = "served";

/// A running service.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    end: oneshot::Sender<()>,
    thread: JoinHandle<std::io::Result<UpstreamSaw>>,
}

impl Upstream {
    /// Listens on a free port when this returns.
    pub(crate) fn start(settings: Proxy, clock: Clock) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let seen = Rc::new(RefCell::new(Seen::new(settings, clock)));
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let listener = TcpListener::from_std(listener)?;
                tokio::select! {
                    never = serve(listener, &seen) => never,
                    _ = ended => Ok(()),
                }
            })?;
            Ok(std::mem::take(&mut seen.borrow_mut().saw))
        })?;
        Ok(Self { addr, end, thread })
    }

    /// What it saw until now; then it is gone. Blocks for a moment.
    pub(crate) fn end(self) -> std::io::Result<UpstreamSaw> {
        let _ = self.end.send(());
        self.thread.join().map_err(|_| std::io::Error::other("the service panicked"))?
    }
}

struct Seen {
    settings: Proxy,
    clock: Clock,
    saw: UpstreamSaw,
    /// What it could take now, as a bucket that is refilled at its rate.
    room: f64,
    at_us: u64,
}

impl Seen {
    fn new(settings: Proxy, clock: Clock) -> Self {
        let room = settings.upstream_burst as f64;
        Self { settings, clock, saw: UpstreamSaw::default(), room, at_us: clock.now_us() }
    }

    /// A request is there. `None`: it is never answered.
    fn arrive(&mut self) -> Option<Duration> {
        let now_us = self.clock.now_us();
        let refill = (now_us - self.at_us) as f64 * self.settings.upstream_rate_per_s as f64 / 1e6;
        self.room = (self.room + refill).min(self.settings.upstream_burst as f64) - 1.0;
        self.at_us = now_us;
        self.saw.arrivals_us.push(now_us);
        if self.room < 0.0 && self.saw.collapsed_us.is_none() {
            self.saw.collapsed_us = Some(now_us);
        }
        let [from, to] = self.settings.service_ms;
        let spread = self.saw.arrivals_us.len() as u64 * 7 % (to - from + 1);
        self.saw.collapsed_us.is_none().then(|| Duration::from_millis(from + spread))
    }
}

async fn serve(listener: TcpListener, seen: &Rc<RefCell<Seen>>) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let seen = Rc::clone(seen);
        tokio::task::spawn_local(async move {
            let service = service_fn(|_: Request<Incoming>| {
                let service_time = seen.borrow_mut().arrive();
                async move {
                    match service_time {
                        Some(time) => tokio::time::sleep(time).await,
                        None => std::future::pending().await,
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(WORD.as_bytes()))))
                }
            });
            // How a connection ends shows in its requests.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
