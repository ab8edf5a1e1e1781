//! Clients of the service: requests at their instants, whatever became of those before; each is answered once.

use super::PATH;
use super::upstream::WORD;
use crate::clock::Clock;
use crate::evidence::ClientsSaw;
use crate::scenario::Proxy;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpStream;

/// An answer that has not come by then does not come.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
const LATE_US: u64 = 1_000_000;
const OTHERS_MAX: usize = 3;

/// Runs until all requests are answered.
pub(crate) struct Clients(JoinHandle<std::io::Result<ClientsSaw>>);

struct Desk {
    settings: Proxy,
    gateway: SocketAddr,
    clock: Clock,
    start_us: u64,
    next: Cell<u64>,
    saw: RefCell<ClientsSaw>,
}

impl Clients {
    /// The first request leaves at `start_us`.
    pub(crate) fn start(
        settings: Proxy,
        gateway: SocketAddr,
        clock: Clock,
        start_us: u64,
    ) -> std::io::Result<Self> {
        let thread = std::thread::Builder::new().name("clients".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (next, saw) = (Cell::new(0), RefCell::default());
            let desk = Rc::new(Desk { settings, gateway, clock, start_us, next, saw });
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let clients: Vec<_> = (0..settings.connections)
                    .map(|_| tokio::task::spawn_local(Rc::clone(&desk).run()))
                    .collect();
                for client in clients {
                    let _ = client.await;
                }
            });
            Ok(desk.saw.take())
        })?;
        Ok(Self(thread))
    }

    /// What they saw, once the last of them has its answer or has given up. Blocks until then.
    pub(crate) fn join(self) -> std::io::Result<ClientsSaw> {
        self.0.join().map_err(|_| std::io::Error::other("the clients panicked"))?
    }
}

impl Desk {
    /// One connection: takes the next request that is due, again and again.
    async fn run(self: Rc<Self>) {
        let mut connection = None;
        let every_us = 1e6 / self.settings.offered_per_s as f64;
        loop {
            let number = self.next.get();
            let due_us = (number as f64 * every_us) as u64;
            let end_us = self.settings.for_ms * 1_000;
            // Who is late by a second has no connection that answers: the run must not wait for all that is left.
            if due_us >= end_us || self.clock.now_us() > self.start_us + end_us + LATE_US {
                return;
            }
            self.next.set(number + 1);
            tokio::time::sleep_until(self.clock.instant(self.start_us + due_us)).await;
            self.saw.borrow_mut().offered += 1;
            let answer = tokio::time::timeout(ANSWER_BOUND, self.ask(&mut connection, number)).await;
            let told = match answer {
                Ok(Ok(told)) => told,
                Ok(Err(error)) => Told::Other(format!("request {number}: {error}")),
                Err(_) => Told::Other(format!("request {number}: no answer")),
            };
            if matches!(told, Told::Other(_)) {
                connection = None;
            }
            self.note(told);
        }
    }

    async fn ask(
        &self,
        connection: &mut Option<SendRequest<Empty<Bytes>>>,
        number: u64,
    ) -> Result<Told, Error> {
        let sender = if let Some(sender) = connection {
            sender
        } else {
            let stream = TcpStream::connect(self.gateway).await?;
            stream.set_nodelay(true)?;
            let (sender, ended) = handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(async move {
                // How a connection ends shows in its requests.
                let _ = ended.await;
            });
            connection.insert(sender)
        };
        sender.ready().await?;
        let request = Request::get(format!("{PATH}{number}"))
            .header(header::HOST, "fragile")
            .header("x-user-id", format!("c{number}"))
            .body(Empty::new())?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(match head.status {
            StatusCode::OK if body == WORD.as_bytes() => Told::Served,
            StatusCode::TOO_MANY_REQUESTS if head.headers.contains_key(header::RETRY_AFTER) => Told::Refused,
            status => Told::Other(format!("request {number}: {status} {}", String::from_utf8_lossy(&body))),
        })
    }

    fn note(&self, told: Told) {
        let mut saw = self.saw.borrow_mut();
        match told {
            Told::Served => saw.served += 1,
            Told::Refused => saw.refused += 1,
            Told::Other(what) => {
                saw.others_count += 1;
                if saw.others.len() < OTHERS_MAX {
                    saw.others.push(what);
                }
            }
        }
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

enum Told {
    Served,
    Refused,
    Other(String),
}
