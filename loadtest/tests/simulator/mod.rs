//! A scripted gateway in this process: one exact in-memory sale behind the real interface, with each defect on
//! demand. It shows early that the verdict passes what is right and names what is wrong.

mod http;
pub(crate) mod process;
mod sale;

pub(crate) use sale::Defect;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use sale::Sale;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

/// Token queue of a simulated gateway.
#[derive(Clone, Copy)]
pub(crate) struct Bucket {
    pub(crate) rate_per_s: u64,
    pub(crate) burst: u64,
}

pub(crate) struct Simulator {
    /// Of each gateway.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Ends the server's thread when dropped.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Simulator {
    /// One sale at so many gateways, the two listeners of each being one; runs until dropped.
    pub(crate) fn start(defect: Option<Defect>, bucket: Option<Bucket>, gateways: usize) -> Self {
        let (end, ended) = tokio::sync::oneshot::channel();
        let (send_address, receive_address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let sale = Arc::new(Mutex::new(Sale::new(defect, bucket, gateways)));
                let mut addresses = Vec::new();
                for gateway in 0..gateways {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    addresses.push(listener.local_addr().unwrap());
                    tokio::spawn(serve(listener, gateway, Arc::clone(&sale)));
                }
                send_address.send(addresses).unwrap();
                tokio::select! {
                    () = tick(sale) => {}
                    _ = ended => {}
                }
            });
        });
        Self { addresses: receive_address.recv().unwrap(), _end: end }
    }
}

async fn serve(listener: TcpListener, gateway: usize, sale: Arc<Mutex<Sale>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let sale = Arc::clone(&sale);
        tokio::spawn(async move {
            let service = service_fn(move |request| http::answer(Arc::clone(&sale), gateway, request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Timers: deadlines and pay windows fire also when nobody asks.
async fn tick(sale: Arc<Mutex<Sale>>) {
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    loop {
        beat.tick().await;
        sale.lock().fire_timers(now_ms());
    }
}

#[expect(clippy::disallowed_methods, reason = "stands in for a gateway, which has a clock of its own")]
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}
