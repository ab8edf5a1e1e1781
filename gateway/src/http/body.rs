//! Bodies: what an answer carries, and reading a request's with a bound.

use crate::proxy::{Cut, Download};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Body of an answer.
#[derive(Debug)]
pub enum Body {
    /// Known in full.
    Full(Option<Bytes>),
    /// Known in full, in several pieces; large ones are slices of the mapped log.
    Pieces {
        /// What is left of it.
        pieces: VecDeque<Bytes>,
        /// Their bytes.
        bytes: u64,
    },
    /// Comes piece by piece (server-sent events). Ends when the sender is dropped.
    Stream(mpsc::Receiver<Bytes>),
    /// Comes from an upstream, as fast as the client takes it.
    Proxied(Box<Download>),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Some(bytes))
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(pieces: Vec<Bytes>) -> Self {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self::Pieces { pieces: pieces.into(), bytes }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces { pieces, bytes } => Poll::Ready(pieces.pop_front().map(|piece| {
                *bytes -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Self::Stream(pieces) => {
                pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Proxied(download) => Pin::new(&mut **download).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Pieces { pieces, .. } => pieces.is_empty(),
            Self::Stream(_) => false,
            Self::Proxied(download) => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces { bytes, .. } => SizeHint::with_exact(*bytes),
            Self::Stream(_) => SizeHint::default(),
            Self::Proxied(download) => download.size_hint(),
        }
    }
}

/// Why a request's body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than allowed.
    TooLarge,
    /// Not all of it came in time.
    TimedOut,
    /// The connection failed, or the framing is wrong.
    Broken,
}

/// Reads a request's body, at most `bytes_max` and `time_max`. No copy when it came in one piece; nothing is
/// read when its length is known to be too large.
pub async fn read(body: Incoming, bytes_max: usize, time_max: Duration) -> Result<Bytes, BodyError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(BodyError::TooLarge);
    }
    match timeout(time_max, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TimedOut),
    }
}
