//! One keep-alive HTTP/1.1 connection, opened when first needed and again after it broke.

use super::answer::Answer;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// No answer of the interface to a buyer is longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where the buyers' listener is.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    /// Value of the `Host` header.
    pub(crate) host: String,
}

pub(crate) struct Connection {
    sender: Option<SendRequest<Empty<Bytes>>>,
    timeout: Duration,
}

impl Connection {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { sender: None, timeout }
    }

    /// Sends and waits for the whole answer; `success` is the status that carries a ticket. Not cancel-safe:
    /// drop the connection with the future.
    pub(crate) async fn exchange(
        &mut self,
        shop: &Shop,
        request: Request<Empty<Bytes>>,
        success: u16,
    ) -> Answer {
        if let Ok(Ok(answer)) = tokio::time::timeout(self.timeout, self.attempt(shop, request, success)).await
        {
            return answer;
        }
        // The answer may still come on this connection: it must not be taken for the next one's.
        self.sender = None;
        Answer::Lost
    }

    async fn attempt(
        &mut self,
        shop: &Shop,
        request: Request<Empty<Bytes>>,
        success: u16,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let sender = self.opened(shop).await?;
        let response = sender.send_request(request).await?;
        let closing = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        if closing {
            self.sender = None;
        }
        Ok(Answer::read(success, status, &body))
    }

    async fn opened(
        &mut self,
        shop: &Shop,
    ) -> Result<&mut SendRequest<Empty<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        // A connection that the other side closed while it was idle is replaced, not counted as a lost answer.
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(shop.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::task::spawn_local(async move {
                // How a connection ends shows in its requests.
                let _ = connection.await;
            });
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "no connection".into())
    }
}
