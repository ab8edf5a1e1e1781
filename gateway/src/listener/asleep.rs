//! A connection on which nothing is asked is no more than its socket, and what there is of the next request's head. Only
//! a whole head makes it a connection: neither one who waits nor one who sends a byte now and then holds any buffers.

use super::activity::Activity;
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// What an HTTP/2 client says first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Read at once; it lives only while something is read.
const PIECE_BYTES: usize = 4_096;

/// The next request's head and what came with it; at most about `header_bytes_max`: a longer head is for the parser to
/// refuse. `None`: the client has gone. Cancel safe only for one who is done with the connection.
pub(super) async fn head<T: AsyncRead + Unpin>(
    stream: &mut T,
    activity: &Activity,
    header_bytes_max: usize,
) -> Option<Bytes> {
    let mut head = Vec::new();
    poll_fn(|cx| {
        loop {
            let mut piece = [const { std::mem::MaybeUninit::uninit() }; PIECE_BYTES];
            let mut piece = ReadBuf::uninit(&mut piece);
            if ready!(Pin::new(&mut *stream).poll_read(cx, &mut piece)).is_err() || piece.filled().is_empty()
            {
                return Poll::Ready(None);
            }
            activity.bytes_came();
            let seen = head.len();
            head.extend_from_slice(piece.filled());
            if is_for_the_parser(&head, seen) || head.len() >= header_bytes_max {
                return Poll::Ready(Some(Bytes::from(std::mem::take(&mut head))));
            }
        }
    })
    .await
}

/// Whether these bytes, of which `seen` were looked at before, hold a whole head, or will never be one.
fn is_for_the_parser(bytes: &[u8], seen: usize) -> bool {
    let part = &bytes[..bytes.len().min(PREFACE.len())];
    if PREFACE.starts_with(part) {
        return part.len() == PREFACE.len();
    }
    // No method begins like that; it may be TLS.
    if !bytes[0].is_ascii_graphic() && !matches!(bytes[0], b'\r' | b'\n') {
        return true;
    }
    // An empty line, as generous as the parser is: its end is among the new bytes.
    let from = seen.saturating_sub(2);
    bytes[from..].windows(2).any(|two| two == b"\n\n")
        || bytes[from..].windows(3).any(|three| three == b"\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many bytes, coming one by one, the parser gets them.
    fn after(bytes: &[u8]) -> Option<usize> {
        (1..=bytes.len()).find(|&len| is_for_the_parser(&bytes[..len], len - 1))
    }

    #[test]
    fn a_head_is_whole_with_its_empty_line_however_it_comes() {
        for whole in ["GET / HTTP/1.1\r\nhost: t\r\n\r\n", "GET / HTTP/1.0\n\n", "GET / HTTP/1.1\na: b\r\n\n"]
        {
            assert_eq!(after(whole.as_bytes()), Some(whole.len()), "{whole:?}");
            assert!(is_for_the_parser(format!("{whole}more").as_bytes(), 0), "{whole:?}");
            assert_eq!(after(&whole.as_bytes()[..whole.len() - 1]), None, "{whole:?}");
        }
    }

    #[test]
    fn http2_is_known_when_its_preface_is_whole() {
        assert_eq!(after(PREFACE), Some(PREFACE.len()));
        assert!(is_for_the_parser(&[PREFACE.as_slice(), b"more"].concat(), 0));
        // A method that begins like it.
        assert_eq!(after(b"PROPFIND / HTTP/1.1\r\n\r\n"), Some(23));
    }

    #[test]
    fn what_is_no_http_is_not_waited_for() {
        assert_eq!(after(&[0x16, 3, 1]), Some(1));
    }
}
