//! Honest buyers: orders and looks at the sale, on kept connections and now and then on a fresh one, at a fixed rate,
//! whatever comes back and however late.

use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_tests::Http;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};

/// Requests a second.
pub(crate) const RATE: u32 = 200;

/// Headers of buyer `n`, with all that tells who it is.
pub(crate) type Credentials = Arc<dyn Fn(u64) -> Vec<(String, String)> + Send + Sync>;

/// The buyer's name in the header that the proxy in front writes.
pub(crate) fn by_header() -> Credentials {
    Arc::new(|n| vec![("x-user-id".to_owned(), format!("honest-{n}"))])
}

/// Honest buyers on a thread of their own.
pub(crate) struct Honest {
    rounds: mpsc::UnboundedSender<(Duration, oneshot::Sender<Round>)>,
    won: Arc<Mutex<u64>>,
}

/// What came back in one round.
#[derive(Default)]
pub(crate) struct Round {
    latencies: Vec<Duration>,
    /// Requests that were not served, and what came instead.
    pub(crate) failed: Vec<String>,
}

impl Round {
    /// Goes on as one with this.
    pub(crate) fn append(&mut self, mut more: Self) {
        self.latencies.append(&mut more.latencies);
    }

    /// The 99th percentile.
    pub(crate) fn p99(&mut self) -> Duration {
        self.latencies.sort_unstable();
        self.latencies[(self.latencies.len() * 99).div_ceil(100) - 1]
    }
}

impl Honest {
    /// Ready to buy in this sale.
    pub(crate) fn new(public_url: String, sale: &str, credentials: Credentials) -> Self {
        let (rounds, mut asked) = mpsc::unbounded_channel::<(Duration, oneshot::Sender<Round>)>();
        let won = Arc::new(Mutex::new(0));
        let buyers = Buyers {
            shared: Http::new(&public_url),
            url: public_url,
            sale: format!("/v1/sales/{sale}"),
            credentials,
            won: won.clone(),
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let buyers = Rc::new(buyers);
            LocalSet::new().block_on(&runtime, async {
                let mut next = 0;
                while let Some((time, told)) = asked.recv().await {
                    let _ = told.send(round(&buyers, time, &mut next).await);
                }
            });
        });
        Self { rounds, won }
    }

    /// Buys for so long.
    pub(crate) async fn round(&self, time: Duration) -> Round {
        let (told, round) = oneshot::channel();
        self.rounds.send((time, told)).unwrap();
        round.await.expect("honest buyers do not panic")
    }

    /// Tickets so far.
    pub(crate) fn won(&self) -> u64 {
        *self.won.lock()
    }
}

struct Buyers {
    url: String,
    sale: String,
    shared: Http,
    credentials: Credentials,
    won: Arc<Mutex<u64>>,
}

async fn round(buyers: &Rc<Buyers>, time: Duration, next: &mut u64) -> Round {
    let start = Instant::now();
    let mut requests = JoinSet::new();
    let step = Duration::from_secs(1) / RATE;
    for n in 0..(time.as_millis() / step.as_millis()) as u32 {
        let due = start + step * n;
        tokio::time::sleep_until(due.into()).await;
        *next += 1;
        let (buyers, number) = (buyers.clone(), *next);
        requests.spawn_local(async move {
            let outcome = buyers.request(number).await;
            (due.elapsed(), outcome)
        });
    }
    let mut round = Round::default();
    while let Some(done) = requests.join_next().await {
        let (latency, outcome) = done.unwrap();
        round.latencies.push(latency);
        round.failed.extend(outcome.err());
    }
    round
}

impl Buyers {
    async fn request(&self, number: u64) -> Result<(), String> {
        let headers = (self.credentials)(number);
        let mut headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.push(("idempotency-key", "k"));
        let fresh;
        let http = if number.is_multiple_of(10) {
            fresh = Http::new(&self.url);
            &fresh
        } else {
            &self.shared
        };
        let (method, path, status) = match number % 4 {
            0 => ("POST", &*format!("{}/orders", self.sale), 202),
            _ => ("GET", &*self.sale, 200),
        };
        // Whoever is closed before an answer asks once more, as a browser does; the time goes on.
        let asked = async {
            match http.try_send(method, path, &headers, b"").await {
                Err(_) => http.try_send(method, path, &headers, b"").await,
                answered => answered,
            }
        };
        let reply = tidegate_tests::within("an honest request", asked).await?;
        if reply.status != status {
            return Err(format!("{} {}", reply.status, reply.text));
        }
        *self.won.lock() += u64::from(status == 202);
        Ok(())
    }
}
