//! From an accepted socket to a stream that speaks HTTP: whose it is, whether there is room for one more of them, TLS.

use super::Side;
use super::proxy_protocol;
use super::seats::{Seat, Seats};
use super::stream::Stream;
use crate::state::Core;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// Who is inside, and who was not let in: of all cores.
#[derive(Debug, Default)]
pub struct Entrance {
    seats: Arc<Seats>,
    /// Closed because the listener had as many connections as it may.
    pub full: AtomicU64,
    /// Closed because the client had as many as it may.
    pub client: AtomicU64,
    /// Closed because the load balancer did not say whose they are.
    pub proxy_header: AtomicU64,
}

/// A connection that was let in.
pub(super) struct Entered {
    pub(super) stream: Stream,
    /// Whose it is.
    pub(super) peer: IpAddr,
    /// Held while the connection lives.
    pub(super) _seat: Option<Seat>,
}

/// `None`: it is closed. Waits for the client, each time with a bound. Not cancel safe.
pub(super) async fn enter(core: &Core, mut stream: TcpStream, from: IpAddr, side: Side) -> Option<Entered> {
    let mut peer = from.to_canonical();
    if side == Side::Inner {
        return Some(Entered { stream: Stream::Plain(stream), peer, _seat: None });
    }
    let live = core.live();
    let (listen, entrance) = (&live.config.listen, &core.app.entrance);
    let count = |count: &AtomicU64| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    if listen.proxy_protocol_from.iter().any(|network| network.contains(&peer)) {
        let bound = Duration::from_millis(listen.header_timeout_ms);
        // Boxed: a connection's task keeps no room for it.
        let told = tokio::time::timeout(bound, Box::pin(proxy_protocol::source(&mut stream))).await;
        let Ok(Ok(source)) = told else {
            count(&entrance.proxy_header);
            return None;
        };
        peer = source.unwrap_or(peer);
    }
    // Proxies speak for many.
    let speaks_for_many =
        live.config.identity.trusted_proxies().iter().any(|network| network.contains(&peer));
    let mut seat = None;
    if listen.connections_per_ip_max > 0 && !speaks_for_many {
        seat = entrance.seats.take(peer, listen.connections_per_ip_max);
        if seat.is_none() {
            count(&entrance.client);
            return None;
        }
    }
    let stream = match live.tls.clone() {
        None => Stream::Plain(stream),
        Some(tls) => {
            // Not held over a handshake, which may outlive a reload.
            drop(live);
            Stream::Tls(Box::new(tls.accept(stream).await?))
        }
    };
    Some(Entered { stream, peer, _seat: seat })
}
