//! Accepting, and serving one connection.

use super::activity::{Activity, Told};
use super::entrance::enter;
use super::serving::{Bounds, serve_stream};
use super::watchdog::Watchdog;
use crate::api;
use crate::state::Core;
use http::Request;
use http::header::{HeaderValue, STRICT_TRANSPORT_SECURITY};
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

/// Pause after a failed accept: out of file descriptors, mostly.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// With TLS: for a year, browsers come with TLS only.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Which listener a connection came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Buyers.
    Public,
    /// Order workers and operators.
    Inner,
}

/// Accepts until the gateway stops. A connection above the bound takes the place of one that is silent, or is closed.
pub async fn accept(core: Rc<Core>, listener: TcpListener, side: Side, watchdog: Rc<Watchdog>) {
    let mut stopping = pin!(core.app.stopping.wait());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let open = core.app.connections.of(side);
                if open.fetch_add(1, Ordering::Relaxed) >= core.live().config.listen.connections_max
                    && !watchdog.make_room(side)
                {
                    open.fetch_sub(1, Ordering::Relaxed);
                    core.app.entrance.full.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                spawn(&core, stream, peer, side, &watchdog);
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted; raise the limit of open files if this goes on");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Counts the connection out and unwatches it, however its task ends.
struct Connection {
    core: Rc<Core>,
    side: Side,
    watchdog: Rc<Watchdog>,
    key: Rc<std::cell::Cell<Option<usize>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.core.app.connections.of(self.side).fetch_sub(1, Ordering::Relaxed);
        if let Some(key) = self.key.take() {
            self.watchdog.forget(key);
        }
    }
}

fn spawn(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr, side: Side, watchdog: &Rc<Watchdog>) {
    let activity = Activity::new(watchdog.clone(), side);
    let key = Rc::new(std::cell::Cell::new(None));
    let connection = Connection { core: core.clone(), side, watchdog: watchdog.clone(), key: key.clone() };
    let task = tokio::task::spawn_local(serve(connection, stream, peer.ip(), side, activity.clone()));
    key.set(Some(watchdog.watch(activity, task.abort_handle())));
}

async fn serve(connection: Connection, stream: TcpStream, peer: IpAddr, side: Side, activity: Rc<Activity>) {
    // Answers are single small writes; waiting to merge them would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY");
    }
    let core = &connection.core;
    let Some(entered) = Box::pin(enter(core, stream, peer, side)).await else { return };
    let (peer, encrypted) = (entered.peer, entered.stream.is_encrypted());
    let service = service_fn(|request: Request<Incoming>| {
        let busy = activity.begin();
        let (core, activity) = (core.clone(), activity.clone());
        async move {
            let answer = match side {
                Side::Public => api::public::serve(core, request, peer).await,
                Side::Inner => api::inner::serve(core, request, peer).await,
            };
            let mut answer = answer.map(|body| Told::new(body, &activity));
            if encrypted {
                answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HSTS);
            }
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let bounds = Bounds { header_bytes_max: core.live().config.listen.header_bytes_max };
    let ended = serve_stream(entered.stream, &activity, bounds, service, &core.app.stopping).await;
    if let Err(error) = ended {
        // The client's doing, mostly; never a line per connection at the default level.
        debug!(%error, "connection ended");
    }
}
