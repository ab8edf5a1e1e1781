//! Load on the worker API for `scripts/bench.d`: as lean as a client can be, so that the gateway is what is measured.
//!
//! ```text
//! worker_load ADDR publish TOPIC COUNT          so many messages of 300 B, accepted by the log
//! worker_load ADDR drain TOPIC GROUP THREADS    receive + ack in batches of 256 until nothing is left
//! worker_load ADDR idle COUNT                   connections with one request behind them; holds them until stdin ends
//! ```

use anyhow::{Context, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

const BATCH: usize = 256;
const BODY_BYTES: usize = 300;
const RECEIPT: &[u8] = b"{\"receipt\":\"";
const RECEIPT_BYTES: usize = 64;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [addr, "publish", topic, count] => publish(addr, topic, count.parse()?),
        [addr, "drain", topic, group, threads] => drain(addr, topic, group, threads.parse()?),
        [addr, "idle", count] => idle(addr, count.parse()?),
        _ => bail!("usage: see the head of worker_load.rs"),
    }
}

/// One connection, one request at a time.
struct Connection {
    stream: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Connection {
    fn open(addr: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), answer: Vec::new() })
    }

    /// The body of the answer; another status than 200 is an error.
    fn call(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<&[u8]> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {}\r\n\r\n", body.len())
                .into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        let (mut status, mut length) = (String::new(), 0);
        self.stream.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            ensure!(self.stream.read_line(&mut line)? > 0, "the gateway closed the connection");
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse()?,
                Some(_) => {}
                None => break,
            }
        }
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer)?;
        ensure!(
            status.contains(" 200 "),
            "{method} {path}: {status}{}",
            String::from_utf8_lossy(&self.answer)
        );
        Ok(&self.answer)
    }
}

fn publish(addr: &str, topic: &str, count: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(addr)?;
    let path = format!("/v1/topics/{topic}/messages");
    let message = format!("{{\"body\":\"{}\"}}", "x".repeat(BODY_BYTES - 2));
    for from in (0..count).step_by(BATCH) {
        let messages = vec![message.as_str(); BATCH.min(count - from)].join(",");
        let body = format!("{{\"ack\":\"memory\",\"messages\":[{messages}]}}");
        connection.call("POST", &path, body.as_bytes())?;
    }
    Ok(())
}

fn drain(addr: &str, topic: &str, group: &str, threads: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    let counts: Vec<anyhow::Result<usize>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| drain_one(addr, topic, group))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    });
    let count = counts.into_iter().sum::<anyhow::Result<usize>>()?;
    println!("{count} {:.6}", started.elapsed().as_secs_f64());
    Ok(())
}

fn drain_one(addr: &str, topic: &str, group: &str) -> anyhow::Result<usize> {
    let mut connection = Connection::open(addr)?;
    let path = |verb: &str| format!("/v1/topics/{topic}/groups/{group}/{verb}");
    let (receive, ack) = (path("receive"), path("ack"));
    let asked = format!("{{\"max\":{BATCH},\"wait_ms\":0,\"lease_ms\":60000}}");
    let (mut count, mut body) = (0, Vec::new());
    loop {
        body.clear();
        body.extend_from_slice(b"{\"receipts\":[");
        let found = receipts(connection.call("POST", &receive, asked.as_bytes())?, &mut body);
        if found == 0 {
            return Ok(count);
        }
        body.pop();
        body.extend_from_slice(b"]}");
        let answer = connection.call("POST", &ack, &body)?;
        let settled = answer.windows(9).filter(|part| *part == b"\"ok\":true").count();
        ensure!(settled == found, "{settled} of {found} were acknowledged");
        count += found;
    }
}

/// Copies the receipts of an answer, quoted and each with a comma; answers how many there are.
fn receipts(answer: &[u8], into: &mut Vec<u8>) -> usize {
    let (mut rest, mut found) = (answer, 0);
    while let Some(at) = rest.iter().position(|byte| *byte == b'{') {
        rest = &rest[at..];
        if rest.starts_with(RECEIPT) {
            let receipt = &rest[RECEIPT.len() - 1..=RECEIPT.len() + RECEIPT_BYTES];
            into.extend_from_slice(receipt);
            into.push(b',');
            found += 1;
            // The body of this message is longer than this, and holds nothing that we look for.
            rest = &rest[BODY_BYTES.min(rest.len())..];
        } else {
            rest = &rest[1..];
        }
    }
    found
}

fn idle(addr: &str, count: usize) -> anyhow::Result<()> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(addr)?;
        stream.write_all(b"GET /v1/sales/none HTTP/1.1\r\nhost: gateway\r\nx-user-id: idle\r\n\r\n")?;
        // All of the answer is read: it comes in one piece.
        ensure!(stream.read(&mut [0; 4096])? > 0, "the gateway closed a connection: see connections_max");
        connections.push(stream);
    }
    println!("{count}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
