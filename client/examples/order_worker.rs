//! An order worker on top of the client crate's `OrderWorker` and `sqlite::OrderDb`: writes orders into SQLite and
//! closes rows of released tickets. It also plays the paying buyers: 80 % pay after 200 ms; `--pay-ratio 0`
//! switches that off.
//!
//! ```text
//! cargo run --example order_worker --features sqlite -- --inner http://127.0.0.1:8081 --db orders.sqlite
//! ```
//!
//! `--inner` may be given several times, or several addresses with commas between them; gateways that share a ledger
//! are found from any one of them.
//!
//! Ctrl-C or SIGTERM stops it: it finishes what it has begun, gives the rest back, and prints what it did.

use anyhow::Context as _;
use clap::Parser;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::orders::{OrderStore, PaySample};
use tidegate_client::sqlite::{DbOptions, OrderDb};
use tidegate_client::wire::Ticket;
use tidegate_client::{Fleet, OrderWorker, Transitioned};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Payments under way at once.
const PAYMENTS_MAX: usize = 64;

/// Buyers who still think about it, at most; then new orders wait.
const BUYERS_MAX: usize = 20_000;

/// How long the stop waits for payments. What is left stays confirmed and is paid by the next run.
const PAYMENTS_STOP: Duration = Duration::from_secs(15);

#[derive(Debug, Parser)]
#[command(about = "Writes Tidegate orders into SQLite and pays some of them")]
struct Options {
    /// Inner listeners of one or more gateways, repeated or with commas; the others of the fleet are found from them.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:8081")]
    inner: Vec<String>,
    /// Bearer token with scope `worker`; not needed on loopback by default. Also taken from `TIDEGATE_TOKEN`.
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with the token (an argument is seen by every user of this machine).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// SQLite file; created when missing.
    #[arg(long, default_value = "orders.sqlite")]
    db: PathBuf,
    /// Orders at once.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Share of the buyers who pay, 0 to 1; which ones follows from ticket and seed. 0: this program pays for nobody.
    #[arg(long, default_value_t = 0.8, value_parser = ratio)]
    pay_ratio: f64,
    /// How long a buyer takes to pay.
    #[arg(long, default_value_t = 200)]
    pay_delay_ms: u64,
    /// Another seed, other payers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Name in the gateway's figures.
    #[arg(long, default_value = "order_worker")]
    name: String,
}

impl Options {
    fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.token_file else {
            return Ok(self.token.clone().or_else(|| std::env::var("TIDEGATE_TOKEN").ok()));
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read --token-file {}", path.display()))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("a number between 0 and 1 is wanted".to_owned()),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let options = Options::parse();
    let token = options.token()?;
    let fleet = Fleet::builder(&options.inner)
        .client(|client| match token {
            Some(token) => client.token(token),
            None => client,
        })
        .build()?;
    let db = OrderDb::open(&options.db, DbOptions::default())
        .with_context(|| format!("cannot open {}", options.db.display()))?;
    let db = Arc::new(db);

    let (confirmed, to_pay) = mpsc::channel(1024);
    let payer = Payer {
        fleet: fleet.clone(),
        db: Arc::clone(&db),
        sample: PaySample { ratio: options.pay_ratio, seed: options.seed },
        delay: Duration::from_millis(options.pay_delay_ms),
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let paying = tokio::spawn(payer.run(to_pay));
    let worker = OrderWorker::new(fleet, Arc::clone(&db))
        .concurrency(options.concurrency)
        .consumer(&options.name)
        .confirmed(confirmed);
    tracing::info!(inner = options.inner.join(","), db = %options.db.display(), "order worker runs");
    let summary = worker
        .run(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await?;
    // The worker's end has closed the channel; what it confirmed is still paid.
    let payments = paying.await??;
    let rows = db.counts().await?;
    println!(
        "received {} (again: {}), acked {}, events {}, recovered {}",
        summary.orders.received,
        summary.orders.redelivered,
        summary.orders.acked,
        summary.events.received,
        summary.rows.recovered
    );
    println!(
        "payments: {} taken, {} to be refunded, {} failed",
        payments.taken, payments.refunds, payments.failed
    );
    println!(
        "rows: {} confirmed, {} paid, {} closed, {} pending",
        rows.confirmed, rows.paid, rows.closed, rows.pending
    );
    Ok(())
}

/// Plays the payment provider: money comes some time after the order, or never.
struct Payer {
    fleet: Fleet,
    db: Arc<OrderDb>,
    sample: PaySample,
    delay: Duration,
}

#[derive(Debug, Default)]
struct Payments {
    taken: u64,
    refunds: u64,
    failed: u64,
}

#[derive(Clone, Copy)]
enum Payment {
    Taken,
    Refund,
    Failed,
}

impl Payer {
    async fn run(self, mut confirmed: mpsc::Receiver<Ticket<'static>>) -> anyhow::Result<Payments> {
        let payer = Arc::new(self);
        let under_way = Arc::new(Semaphore::new(PAYMENTS_MAX));
        let mut payments = Payments::default();
        let mut paying = JoinSet::new();
        payer.pay_rows_left_over(&mut paying, &under_way).await?;
        while let Some(ticket) = confirmed.recv().await {
            while let Some(done) = paying.try_join_next() {
                payments.count(done?);
            }
            if paying.len() >= BUYERS_MAX
                && let Some(done) = paying.join_next().await
            {
                payments.count(done?);
            }
            Self::start(&payer, &mut paying, &under_way, ticket.ticket.into_owned());
        }
        let stop_at = Instant::now() + PAYMENTS_STOP;
        while let Ok(Some(done)) = tokio::time::timeout_at(stop_at, paying.join_next()).await {
            payments.count(done?);
        }
        Ok(payments)
    }

    /// Rows that an earlier run confirmed and did not come to pay.
    async fn pay_rows_left_over(
        self: &Arc<Self>,
        paying: &mut JoinSet<Payment>,
        under_way: &Arc<Semaphore>,
    ) -> anyhow::Result<()> {
        let mut after = String::new();
        loop {
            let page = self.db.confirmed(&after, 256).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.ticket);
            for row in page {
                Self::start(self, paying, under_way, row.ticket);
            }
        }
    }

    fn start(payer: &Arc<Self>, paying: &mut JoinSet<Payment>, under_way: &Arc<Semaphore>, ticket: String) {
        if !payer.sample.pays(&ticket) {
            return;
        }
        let (payer, under_way) = (Arc::clone(payer), Arc::clone(under_way));
        let pays_at = Instant::now() + payer.delay;
        paying.spawn(async move {
            tokio::time::sleep_until(pays_at).await;
            let _permit = under_way.acquire().await;
            match payer.pay(&ticket).await {
                Ok(payment) => payment,
                Err(error) => {
                    // The row stays confirmed: the next run pays it, or its pay window ends first.
                    tracing::warn!(ticket, error = format!("{error:#}"), "payment not reported");
                    Payment::Failed
                }
            }
        });
    }

    async fn pay(&self, ticket: &str) -> anyhow::Result<Payment> {
        // The same id on every attempt, so that a repeat is the same payment.
        let payment_id = format!("pay-{ticket}");
        match self.fleet.paid(ticket, &payment_id).await? {
            Transitioned::Done(paid) => {
                self.db.paid(ticket, &payment_id, paid.version).await?;
                Ok(Payment::Taken)
            }
            // Too late: the ticket is released, its event closes the row, the money goes back.
            Transitioned::Refused(_) => Ok(Payment::Refund),
        }
    }
}

impl Payments {
    fn count(&mut self, payment: Payment) {
        match payment {
            Payment::Taken => self.taken += 1,
            Payment::Refund => self.refunds += 1,
            Payment::Failed => self.failed += 1,
        }
    }
}
