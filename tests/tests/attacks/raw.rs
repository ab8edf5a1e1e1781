//! Bytes on a socket, and what is answered.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A connection to the gateway, from an address of the choosing.
pub(crate) async fn connect_from(from: &str, to: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(format!("{from}:0").parse().unwrap()).ok()?;
    socket.connect(to.parse().unwrap()).await.ok()
}

/// A connection to the gateway.
pub(crate) async fn connect(to: &str) -> Option<TcpStream> {
    TcpStream::connect(to).await.ok()
}

/// The status of what is answered; `None`: the connection ends without one.
pub(crate) async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = [0; 2048];
    let read = stream.read(&mut answer).await.ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok().filter(|_| read > 12)
}

/// Sends these bytes, and tells the status that is answered.
pub(crate) async fn ask(stream: &mut TcpStream, bytes: &[u8]) -> Option<u16> {
    // A gateway that refuses early may close while this still writes.
    let _ = stream.write_all(bytes).await;
    status(stream).await
}

/// An order in `sale` with these headers, and without a body.
pub(crate) fn order(sale: &str, headers: &str) -> Vec<u8> {
    format!("POST /v1/sales/{sale}/orders HTTP/1.1\r\nhost: t\r\n{headers}content-length: 0\r\n\r\n")
        .into_bytes()
}
