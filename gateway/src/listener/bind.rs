//! Binding: one listener a core on one port.

use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpListener};

/// Connections that wait for `accept`; the kernel cuts it to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// Listeners of one side, one a core.
#[derive(Debug)]
pub struct Sockets {
    /// Where they listen (the port is known even when 0 was asked for).
    pub addr: SocketAddr,
    /// One for each core.
    pub listeners: Vec<TcpListener>,
}

/// Why a side cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}{}", hint(.source))]
pub struct BindError {
    addr: SocketAddr,
    #[source]
    source: std::io::Error,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another process has the port: stop it, or change [listen]",
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address: change [listen]",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: change [listen]",
        _ => "",
    }
}

impl Sockets {
    /// Fails when anybody listens on `addr`. With `SO_REUSEPORT` alone a second gateway of the same user
    /// would share the port and sell the same stock (failure mode 54), so a probe binds without it first.
    pub fn bind(addr: SocketAddr, count: usize) -> Result<Self, BindError> {
        let fail = |source| BindError { addr, source };
        if addr.port() != 0 {
            drop(TcpListener::bind(addr).map_err(fail)?);
        }
        let mut listeners = Vec::with_capacity(count);
        let mut bound = addr;
        for _ in 0..count {
            let listener = reuse_port(bound).map_err(fail)?;
            bound = listener.local_addr().map_err(fail)?;
            listeners.push(listener);
        }
        Ok(Self { addr: bound, listeners })
    }
}

fn reuse_port(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fm54_a_port_that_another_gateway_listens_on_is_an_error() {
        let first = Sockets::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.listeners.len(), 2);
        let error = Sockets::bind(first.addr, 2).unwrap_err().to_string();
        assert!(error.contains("another process has the port"), "{error}");
    }
}
