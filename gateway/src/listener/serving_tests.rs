//! A quiet connection sleeps and is none the wiser. The sweeps are made by hand; nothing here waits for a clock.

use super::*;
use crate::listener::Side;
use crate::listener::watchdog::{AWAKE_MAX, MULTIPLEXED_MAX, Watchdog};
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, yield_now};

const LARGE: usize = 16 << 20;

/// A server that answers the path, or very much; its watchdog, and what it knows of the one connection.
struct Served {
    client: TcpStream,
    watchdog: Rc<Watchdog>,
    activity: Rc<Activity>,
}

/// Shorter than what [`Served::sweeps`] amounts to.
const IDLE_SOON: Duration = Duration::from_millis(1_500);

async fn served() -> Served {
    served_with(Duration::from_hours(1)).await
}

/// As one among so many that none may keep its buffers.
async fn crowded() -> Served {
    let served = served().await;
    for _ in 0..=AWAKE_MAX {
        let task = tokio::task::spawn_local(std::future::pending::<()>());
        served.watchdog.watch(Activity::new(served.watchdog.clone(), Side::Public), task.abort_handle());
    }
    served
}

async fn served_with(idle_timeout: Duration) -> Served {
    let watchdog = Watchdog::new(Duration::from_secs(5), idle_timeout);
    let activity = Activity::new(watchdog.clone(), Side::Public);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let served = activity.clone();
    let task = tokio::task::spawn_local(async move {
        let service = service_fn(|request: Request<Incoming>| {
            let busy = served.begin();
            let activity = served.clone();
            async move {
                let _busy = busy;
                let text = match request.uri().path() {
                    "/large" => vec![b'x'; LARGE],
                    path => path.as_bytes().to_vec(),
                };
                Ok::<_, Infallible>(Response::new(Told::new(Bytes::from(text).into(), &activity)))
            }
        });
        let bounds = Bounds { header_bytes_max: 8192 };
        serve_stream(stream, &served, bounds, service, &Stopping::default()).await
    });
    watchdog.watch(activity.clone(), task.abort_handle());
    Served { client, watchdog, activity }
}

impl Served {
    /// As many sweeps as send a quiet connection to sleep, and time for it to go.
    async fn sweeps(&self) {
        for _ in 0..10 {
            self.watchdog.sweep();
            self.yields().await;
        }
    }

    async fn yields(&self) {
        for _ in 0..20 {
            yield_now().await;
        }
    }

    async fn ask(&mut self, path: &str) -> String {
        self.client.write_all(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n").as_bytes()).await.unwrap();
        self.answer(path).await
    }

    /// Up to the body that is expected.
    async fn answer(&mut self, body: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(format!("\r\n\r\n{body}").as_bytes()) {
            assert!(
                self.client.read_buf(&mut text).await.unwrap() > 0,
                "closed: {}",
                String::from_utf8_lossy(&text)
            );
        }
        String::from_utf8(text).unwrap()
    }
}

async fn bounded<T>(test: impl Future<Output = T>) -> T {
    let bound = tokio::time::timeout(Duration::from_secs(30), test);
    LocalSet::new().run_until(bound).await.expect("within 30 s")
}

#[tokio::test]
async fn a_quiet_connection_sleeps_and_answers_the_next_request() {
    bounded(async {
        let mut served = served().await;
        for path in ["/one", "/two", "/three"] {
            assert!(served.ask(path).await.starts_with("HTTP/1.1 200"));
            assert!(!served.activity.is_asleep());
            served.sweeps().await;
            assert!(served.activity.is_asleep());
        }
    })
    .await;
}

#[tokio::test]
async fn half_a_request_that_came_with_the_one_before_is_kept() {
    bounded(async {
        let mut served = served().await;
        let both = "GET /one HTTP/1.1\r\nhost: t\r\n\r\nGET /two HTTP/1.1\r\nho";
        served.client.write_all(both.as_bytes()).await.unwrap();
        served.answer("/one").await;
        served.sweeps().await;
        served.client.write_all(b"st: t\r\n\r\n").await.unwrap();
        assert!(served.answer("/two").await.starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_comes_whole() {
    bounded(async {
        let mut served = served().await;
        served.client.write_all(b"GET /large HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
        served.client.readable().await.unwrap();
        served.sweeps().await;
        assert!(!served.activity.is_asleep());
        let mut bytes = 0;
        let mut piece = vec![0; 1 << 20];
        while bytes < LARGE {
            let read = served.client.read(&mut piece).await.unwrap();
            assert!(read > 0, "closed after {bytes} bytes");
            bytes += read;
        }
    })
    .await;
}

#[tokio::test]
async fn http2_is_told_from_its_first_bytes_however_they_come() {
    bounded(async {
        let Served { mut client, watchdog, .. } = served().await;
        client.write_all(&PREFACE[..3]).await.unwrap();
        for _ in 0..20 {
            yield_now().await;
        }
        let io = Watched::new(TokioIo::new(client), Bytes::new(), Activity::new(watchdog, Side::Public));
        let io = WithoutFirst { io, left: 3 };
        let (mut send, connection) = hyper::client::conn::http2::handshake(OnThisCore, io).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::get("http://t/two").body(Empty::<Bytes>::new()).unwrap();
        let answer = send.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "/two");
    })
    .await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_answered_and_wakes_nothing_before_it_is_whole() {
    bounded(async {
        let mut served = served().await;
        let head = "GET /slow HTTP/1.1\r\nhost: t\r\n\r\n".as_bytes();
        for byte in &head[..head.len() - 1] {
            served.client.write_all(&[*byte]).await.unwrap();
            served.yields().await;
            assert!(served.activity.is_asleep());
        }
        served.client.write_all(b"\n").await.unwrap();
        assert!(served.answer("/slow").await.starts_with("HTTP/1.1 200"));
    })
    .await;
}

#[tokio::test]
async fn requests_that_come_at_once_are_all_answered_among_many_connections() {
    bounded(async {
        let mut served = crowded().await;
        let ask = |n: usize| format!("GET /{n} HTTP/1.1\r\nhost: t\r\n\r\n");
        let asked: String = (0..100).map(ask).collect();
        // Cut anywhere: the rest goes from hand to hand.
        for piece in asked.as_bytes().chunks(101) {
            served.client.write_all(piece).await.unwrap();
            served.yields().await;
        }
        let text = served.answer("/99").await;
        let answered: Vec<&str> = text
            .split("\r\n\r\n/")
            .skip(1)
            .map(|rest| rest.split_once("HTTP").map_or(rest, |two| two.0))
            .collect();
        assert_eq!(answered, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        served.yields().await;
        assert!(served.activity.is_asleep());
    })
    .await;
}

#[tokio::test]
async fn a_body_that_nobody_read_is_not_taken_for_a_request() {
    bounded(async {
        let mut served = crowded().await;
        let inner = "GET /smuggled HTTP/1.1\r\nhost: t\r\n\r\n";
        let outer = format!("POST /outer HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", inner.len());
        served.client.write_all(outer.as_bytes()).await.unwrap();
        served.answer("/outer").await;
        served.sweeps().await;
        let _ = served.client.write_all(inner.as_bytes()).await;
        let mut rest = Vec::new();
        // Closed, maybe with a reset.
        let _ = served.client.read_to_end(&mut rest).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    })
    .await;
}

#[tokio::test]
async fn one_who_does_not_read_the_answer_is_closed_and_one_who_reads_slowly_is_not() {
    bounded(async {
        let mut served = served_with(IDLE_SOON).await;
        served.client.write_all(b"GET /large HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
        let mut piece = vec![0; 1 << 20];
        for _ in 0..10 {
            served.watchdog.sweep();
            let mut read = 0;
            while read < piece.len() {
                read += served.client.read(&mut piece).await.unwrap();
                served.yields().await;
            }
        }
        served.sweeps().await;
        let mut rest = Vec::new();
        let _ = served.client.read_to_end(&mut rest).await;
        assert!(10 * piece.len() + rest.len() < LARGE, "all of it came");
    })
    .await;
}

#[tokio::test]
async fn a_sleeping_connection_is_closed_when_it_is_idle_for_too_long() {
    bounded(async {
        let mut served = served_with(IDLE_SOON).await;
        served.ask("/one").await;
        served.sweeps().await;
        assert_eq!(served.client.read(&mut [0; 8]).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_connection_that_is_silent_for_longest_makes_room_and_no_busy_or_inner_one_does() {
    bounded(async {
        let watchdog = Watchdog::new(Duration::from_secs(5), Duration::from_hours(1));
        let connection = |side: Side| {
            let activity = Activity::new(watchdog.clone(), side);
            // A request was answered.
            drop(activity.begin());
            activity.sleeps(true);
            watchdog.watch(
                activity.clone(),
                tokio::task::spawn_local(std::future::pending::<()>()).abort_handle(),
            );
            watchdog.sweep();
            activity
        };
        let inner = connection(Side::Inner);
        let asking = connection(Side::Public);
        let _busy = asking.begin();
        let silent: Vec<_> = (0..3).map(|_| connection(Side::Public)).collect();
        for left in [2, 1, 0] {
            assert!(watchdog.make_room(Side::Public));
            assert_eq!(silent.iter().filter(|one| one.silence().is_some()).count(), left);
            // The youngest goes last.
            assert_eq!(silent[2].silence().is_some(), left > 0);
        }
        assert!(!watchdog.make_room(Side::Public));
        assert!(inner.silence().is_some() && asking.silence().is_none());
        // Whoever asked nothing goes before one who did, but not at once.
        let asked = connection(Side::Public);
        let hollow = Activity::new(watchdog.clone(), Side::Public);
        hollow.sleeps(true);
        let task = tokio::task::spawn_local(std::future::pending::<()>());
        watchdog.watch(hollow.clone(), task.abort_handle());
        assert!(hollow.silence() < asked.silence());
        watchdog.sweep();
        assert!(watchdog.make_room(Side::Public));
        assert!(hollow.silence().is_none() && asked.silence().is_some());
    })
    .await;
}

#[tokio::test]
async fn an_http2_connection_that_is_silent_makes_room_for_another() {
    bounded(async {
        let served = served().await;
        let io = Watched::new(
            TokioIo::new(served.client),
            Bytes::new(),
            Activity::new(served.watchdog.clone(), Side::Public),
        );
        let (mut send, connection) = hyper::client::conn::http2::handshake(OnThisCore, io).await.unwrap();
        let client = tokio::task::spawn_local(connection);
        let request = Request::get("http://t/two").body(Empty::<Bytes>::new()).unwrap();
        let answer = send.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "/two");
        let others: Vec<_> = (0..MULTIPLEXED_MAX)
            .map(|_| {
                let other = Activity::new(served.watchdog.clone(), Side::Public);
                let held = other.speaks_http2().unwrap();
                (other.begin(), held)
            })
            .collect();
        // It was told to, and closed in order.
        client.await.unwrap().unwrap();
        assert!(send.is_closed());
        drop(others);
    })
    .await;
}

/// Leaves out the first bytes that are written: they are there already.
struct WithoutFirst<T> {
    io: T,
    left: usize,
}

impl<T: hyper::rt::Read + Unpin> hyper::rt::Read for WithoutFirst<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: hyper::rt::Write + Unpin> hyper::rt::Write for WithoutFirst<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let skip = self.left.min(buf.len());
        if skip > 0 {
            self.left -= skip;
            return std::task::Poll::Ready(Ok(skip));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
