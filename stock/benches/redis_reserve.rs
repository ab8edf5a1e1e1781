//! Reservations a second of the Redis ledger alone, beside a bare batched script on the same Redis: `HSETNX` for each
//! buyer and one `DECRBY` a call, which keeps neither a ticket nor a note of who must deliver it.
//!
//! Starts a `redis-server` of its own on core 0 and drives it from core 1. With `--memory N`: what N live tickets
//! take in Redis, instead.

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use std::cell::Cell;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_stock::redis::ops::{Batch, ReserveCall, Reserved};
use tidegate_stock::redis::{Fence, Link, Note, Ops, RedisOptions, SaleKeys};
use tidegate_stock::{Reserve, SaleSpec, SaleSwitch, TicketId};
use tokio::task::LocalSet;

/// Reservations of one measurement.
const RESERVATIONS: u64 = 400_000;
/// Every measurement is made so often; the best one counts, the others had company on the machine.
const ROUNDS: u32 = 3;
const NOW_MS: u64 = 1_800_000_000_000;
/// Of a ULID that is made of a counter.
const RANDOM_BITS: u128 = 80;

/// The least that takes a unit once for each buyer, in a batch.
const BARE: &str = "
local left, taken = tonumber(redis.call('GET', KEYS[1])), 0
local answers = {}
for i = 1, #ARGV, 2 do
  if left - taken <= 0 then
    answers[#answers + 1] = -1
  else
    local won = redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1])
    taken = taken + won
    answers[#answers + 1] = won
  end
end
redis.call('DECRBY', KEYS[1], taken)
return answers";

struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|probe| probe.local_addr())
            .expect("a free port")
            .port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new("taskset")
            .args(["-c", "0", "redis-server", "--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server and taskset are installed (scripts/install-packages redis-server)");
        Self { child, port, _folder: folder }
    }

    /// A connection, as soon as it answers.
    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).expect("an address");
        // FLUSHALL of a million keys takes longer than the crate's own bound.
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_mins(1)));
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < end, "redis-server does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time and memory of Redis, as it tells them.
async fn info(connection: &MultiplexedConnection, section: &str, field: &str) -> f64 {
    let mut connection = connection.clone();
    let text: String =
        redis::cmd("INFO").arg(section).query_async(&mut connection).await.expect("INFO answers");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).expect("a number in INFO")
}

async fn cpu(connection: &MultiplexedConnection) -> f64 {
    info(connection, "cpu", "used_cpu_user").await + info(connection, "cpu", "used_cpu_sys").await
}

async fn flush(connection: &MultiplexedConnection) {
    let mut connection = connection.clone();
    let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("FLUSHALL");
}

/// How it is driven.
#[derive(Clone, Copy)]
struct Load {
    /// Reservations in a call.
    batch: usize,
    /// Calls under way at once: cores and gateways that sell the same sale.
    in_flight: u64,
    /// In all.
    total: u64,
}

/// Numbers of reservations, handed out a batch at a time.
struct Numbers {
    next: Cell<u64>,
    load: Load,
}

impl Numbers {
    fn new(load: Load) -> Rc<Self> {
        Rc::new(Self { next: Cell::new(0), load })
    }

    fn take(&self) -> Option<std::ops::Range<u64>> {
        let from = self.next.get();
        let to = (from + self.load.batch as u64).min(self.load.total);
        self.next.set(to);
        (from < to).then_some(from..to)
    }
}

fn ticket(number: u64) -> TicketId {
    let id = (u128::from(NOW_MS) << RANDOM_BITS) | u128::from(number);
    ulid::Ulid::from(id).to_string().parse().expect("a ticket id")
}

async fn bare(connection: &MultiplexedConnection, load: Load) {
    let mut first = connection.clone();
    let () = redis::cmd("SET").arg("{bare}stock").arg(load.total).query_async(&mut first).await.expect("SET");
    let sha: String =
        redis::cmd("SCRIPT").arg("LOAD").arg(BARE).query_async(&mut first).await.expect("SCRIPT LOAD");
    let numbers = Numbers::new(load);
    let tasks: Vec<_> = (0..load.in_flight)
        .map(|_| {
            let (mut connection, sha, numbers) = (connection.clone(), sha.clone(), numbers.clone());
            tokio::task::spawn_local(async move {
                while let Some(range) = numbers.take() {
                    let mut call = redis::cmd("EVALSHA");
                    call.arg(&sha).arg(2).arg("{bare}stock").arg("{bare}buyers");
                    for number in range.clone() {
                        call.arg(format!("buyer-{number}")).arg(ticket(number).to_string());
                    }
                    let answers: Vec<i64> = call.query_async(&mut connection).await.expect("EVALSHA");
                    assert!(
                        answers.len() as u64 == range.end - range.start
                            && answers.iter().all(|won| *won == 1)
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task of the bare script");
    }
}

fn spec(stock: u64) -> SaleSpec {
    SaleSpec {
        item: "item".to_owned(),
        title: None,
        stock,
        per_buyer_limit: 1,
        quantity_max: 1,
        opens_at_ms: None,
        closes_at_ms: None,
        order_deadline_ms: 30_000,
        pay_window_ms: 900_000,
        weight: 1,
        requires_pass: false,
        limit_group: None,
        limit_counts_released: false,
    }
}

/// An open sale, and under what it stands.
async fn sale(ops: &Ops, keys: &SaleKeys, spec: &SaleSpec) -> Fence {
    ops.put_sale(keys, spec, false).await.expect("the sale is put").expect("a good spec");
    let meta = ops.look(keys).await.expect("Redis answers").expect("the sale is there");
    let opened = ops.switch_sale(keys, &meta.lineage, SaleSwitch::Open).await;
    opened.expect("the sale opens").expect("the sale is there");
    let meta = ops.look(keys).await.expect("Redis answers").expect("the sale is there");
    Fence { lineage: meta.lineage, generation: meta.epoch.generation, version: meta.version }
}

/// Every call brings new reservations, and clears the notes of the call before.
async fn ledger(ops: &Ops, load: Load) {
    let keys = Rc::new(ops.keys("sale"));
    let spec = Rc::new(spec(load.total));
    let fence = Rc::new(sale(ops, &keys, &spec).await);
    let numbers = Numbers::new(load);
    let tasks: Vec<_> = (0..load.in_flight)
        .map(|_| {
            let (ops, numbers) = (ops.clone(), numbers.clone());
            let (keys, spec, fence) = (keys.clone(), spec.clone(), fence.clone());
            tokio::task::spawn_local(async move {
                let mut notes = Vec::new();
                while let Some(range) = numbers.take() {
                    let reserves: Vec<ReserveCall> = range.map(|number| reserve(number, &spec)).collect();
                    let batch = Batch { now_ms: NOW_MS, notes: &notes, reserves: &reserves };
                    let reply = ops.batch(&keys, &fence, &batch).await.expect("the batch is answered");
                    assert!(reply.answers.iter().all(|answer| *answer == Reserved::Won));
                    notes = reserves.iter().map(|reserve| Note::of_win(reserve.ticket)).collect();
                }
                let batch = Batch { now_ms: NOW_MS, notes: &notes, reserves: &[] };
                ops.batch(&keys, &fence, &batch).await.expect("the notes are cleared");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task of the ledger");
    }
}

fn reserve(number: u64, spec: &SaleSpec) -> ReserveCall {
    let buyer = format!("buyer-{number}");
    let request = Reserve {
        ticket: ticket(number),
        sale: "sale",
        buyer: &buyer,
        quantity: 1,
        idempotency_key: Some(&buyer),
        body_hash: 7,
        attributes: "{}",
        now_ms: NOW_MS,
    };
    ReserveCall::new(&request, spec, "bench")
}

/// A name, reservations a second, Redis's microseconds for each.
async fn measure(
    connection: &MultiplexedConnection,
    load: Load,
    name: &str,
    ops: Option<&Ops>,
) -> (f64, f64) {
    let mut best = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        flush(connection).await;
        let (busy, began) = (cpu(connection).await, Instant::now());
        match ops {
            None => bare(connection, load).await,
            Some(ops) => ledger(ops, load).await,
        }
        let (total, took) = (load.total as f64, began.elapsed().as_secs_f64());
        let busy = (cpu(connection).await - busy) * 1e6 / total;
        if total / took > best.0 {
            best = (total / took, busy);
        }
    }
    let Load { batch, in_flight, .. } = load;
    println!("{name:<32} {batch:>6} {in_flight:>10} {:>16.0} {:>24.2}", best.0, best.1);
    best
}

async fn compare(server: &Server, connection: &MultiplexedConnection) {
    let ops = ops(server);
    println!(
        "{:<32} {:>6} {:>10} {:>16} {:>24}",
        "", "batch", "in flight", "reservations/s", "us of Redis for each"
    );
    for (batch, in_flight) in [(64, 1), (64, 4), (256, 4)] {
        let load = Load { batch, in_flight, total: RESERVATIONS };
        let bare = measure(connection, load, "bare script (HSETNX, DECRBY)", None).await;
        let own = measure(connection, load, "the ledger (ticket, note, due)", Some(&ops)).await;
        println!(
            "{:<32} {:>6} {:>10} {:>15.2}x {:>23.2}x",
            "  the ledger is",
            "",
            "",
            own.0 / bare.0,
            own.1 / bare.1
        );
    }
}

async fn memory(server: &Server, connection: &MultiplexedConnection, tickets: u64) {
    let before = info(connection, "memory", "used_memory").await;
    ledger(&ops(server), Load { batch: 256, in_flight: 1, total: tickets }).await;
    let after = info(connection, "memory", "used_memory").await;
    let (each, all) = ((after - before) / tickets as f64, (after - before) / f64::from(1 << 20));
    println!("{tickets} live tickets: {all:.0} MiB in Redis, {each:.0} bytes each");
    println!(
        "(one unit a buyer, buyer ids of about 12 bytes, idempotency keys, no attributes; longer ids count twice)"
    );
}

fn ops(server: &Server) -> Ops {
    let mut options = RedisOptions::single("127.0.0.1", server.port);
    options.call_timeout = Duration::from_secs(10);
    let options = Arc::new(options);
    Ops::new(Link::new(options.clone()), options, "bench")
}

fn main() {
    let mut arguments = std::env::args();
    let tickets = arguments.find(|argument| argument == "--memory").map(|_| {
        let count = arguments.next().and_then(|count| count.parse().ok());
        count.expect("--memory wants a number of tickets")
    });
    let server = Server::start();
    // The runtime is this thread; on one core only there is nothing to keep apart.
    let _ = Command::new("taskset").args(["-cp", "1"]).arg(std::process::id().to_string()).output();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let connection = server.connect().await;
        match tickets {
            Some(tickets) => memory(&server, &connection, tickets).await,
            None => compare(&server, &connection).await,
        }
    });
}
