//! Keep-alive HTTP/1.1 connections, one to each gateway, opened when first needed and again after they broke.

use super::answer::Answer;
use crate::gateway::Member;
use bytes::Bytes;
use hashbrown::HashMap;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// No answer of the interface to a buyer is longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

type Failed = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Connection {
    senders: HashMap<u32, SendRequest<Empty<Bytes>>>,
    timeout: Duration,
}

impl Connection {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { senders: HashMap::new(), timeout }
    }

    /// Sends to the gateway at `route`, or to the next one that takes a connection, and waits for the whole answer;
    /// `success` is the status that carries a ticket. Tells also who answered. Not cancel-safe: drop the connection
    /// with the future.
    pub(crate) async fn exchange(
        &mut self,
        members: &[Arc<Member>],
        route: usize,
        request: impl Fn(&Member) -> http::Result<Request<Empty<Bytes>>>,
        success: u16,
    ) -> (Answer, u32) {
        let mut asked = 0;
        let attempt = Self::attempt(&mut self.senders, members, route, request, success, &mut asked);
        if let Ok(Ok(answer)) = tokio::time::timeout(self.timeout, attempt).await {
            return (answer, asked);
        }
        // The answer may still come on this connection: it must not be taken for the next one's.
        self.senders.remove(&asked);
        (Answer::Lost, asked)
    }

    async fn attempt(
        senders: &mut HashMap<u32, SendRequest<Empty<Bytes>>>,
        members: &[Arc<Member>],
        route: usize,
        request: impl Fn(&Member) -> http::Result<Request<Empty<Bytes>>>,
        success: u16,
        asked: &mut u32,
    ) -> Result<Answer, Failed> {
        let mut refused: Failed = "no gateway".into();
        for step in 0..members.len() {
            let member = &members[(route + step) % members.len()];
            *asked = member.number;
            let sender = match opened(senders, member).await {
                Ok(sender) => sender,
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            let response = sender.send_request(request(member)?).await?;
            let closing = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
            if closing {
                senders.remove(&member.number);
            }
            return Ok(Answer::read(success, status, &body));
        }
        Err(refused)
    }
}

/// `Err`: no connection came about, so nothing was sent.
async fn opened<'s>(
    senders: &'s mut HashMap<u32, SendRequest<Empty<Bytes>>>,
    member: &Member,
) -> Result<&'s mut SendRequest<Empty<Bytes>>, Failed> {
    // A connection that the other side closed while it was idle is replaced, not counted as a lost answer.
    let usable = match senders.get_mut(&member.number) {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        senders.remove(&member.number);
        let stream = TcpStream::connect(member.public).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            // How a connection ends shows in its requests.
            let _ = connection.await;
        });
        senders.insert(member.number, sender);
    }
    senders.get_mut(&member.number).ok_or_else(|| "no connection".into())
}
