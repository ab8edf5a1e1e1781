//! A stream that tells of the bytes that come and go.

use super::activity::Activity;
use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A stream that tells its [`Activity`] when bytes come and go.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    /// Read already, and read again first.
    first: Bytes,
    activity: Rc<Activity>,
}

impl<T> Watched<T> {
    /// Wraps a stream of which `first` was read already.
    pub(super) fn new(inner: T, first: Bytes, activity: Rc<Activity>) -> Self {
        Self { inner, first, activity }
    }

    /// The stream, and what was read of it and not read again.
    pub(super) fn into_parts(self) -> (T, Bytes) {
        (self.inner, self.first)
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(len));
            if self.first.is_empty() {
                // An empty slice still holds all that it is a slice of.
                self.first = Bytes::new();
            }
            self.activity.bytes_came();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.activity.bytes_came();
        }
        polled
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.activity.wrote(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        if polled.is_pending() {
            self.activity.wrote(&polled);
        } else {
            self.activity.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.activity.wrote(&polled);
        polled
    }
}
