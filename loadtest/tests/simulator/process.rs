//! A simulated gateway as a process, so that the load test can start, stop and kill it: it hands every connection on to
//! the sale in the test's own process.

use super::Simulator;
use serde::Deserialize;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

const ADDRESSES: &str = "SIMULATED_ADDRESSES";
const CONFIG: &str = "SIMULATED_CONFIG";

/// As much of a gateway's configuration as is needed here.
#[derive(Deserialize)]
struct Config {
    listen: Listen,
    data: Data,
    ledger: Ledger,
}

#[derive(Deserialize)]
struct Listen {
    public: SocketAddr,
    inner: SocketAddr,
}

#[derive(Deserialize)]
struct Data {
    dir: PathBuf,
}

#[derive(Deserialize)]
struct Ledger {
    kind: String,
    redis: toml::Table,
}

/// A program that takes `serve --config FILE`, as the gateway's binary does.
pub(crate) fn binary(dir: &Path, simulator: &Simulator) -> PathBuf {
    let addresses: Vec<String> = simulator.addresses.iter().map(ToString::to_string).collect();
    let this = std::env::current_exe().unwrap();
    let file = dir.join("gateway");
    let text = format!(
        "#!/bin/sh\nexport {ADDRESSES}='{}' {CONFIG}=\"$3\"\nexec '{}' --exact gateway_process --ignored\n",
        addresses.join(" "),
        this.display()
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// The process that [`binary`] starts; ends with 0 on SIGTERM.
pub(crate) fn run() {
    let Ok(config) = std::env::var(CONFIG) else { return };
    let config: Config = toml::from_str(&std::fs::read_to_string(config).unwrap()).unwrap();
    assert_eq!(config.ledger.kind, "redis");
    assert!(config.ledger.redis.contains_key("claim_after_ms"));
    let reach = ["url", "sentinels"].into_iter().filter(|key| config.ledger.redis.contains_key(*key));
    assert_eq!(reach.count(), 1);
    // `…/gateway-N`.
    let dir = config.data.dir.display().to_string();
    let number: usize = dir.rsplit_once('-').unwrap().1.parse().unwrap();
    let addresses = std::env::var(ADDRESSES).unwrap();
    let sale: SocketAddr = addresses.split(' ').nth(number).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut told_to_end = signal(SignalKind::terminate()).unwrap();
        tell_start(sale).await;
        tokio::select! {
            () = hand_on(config.listen.public, sale) => {}
            () = hand_on(config.listen.inner, sale) => {}
            _ = told_to_end.recv() => std::process::exit(0),
        }
    });
}

/// Leases are the process's: the sale, which outlives it, is told that they are over.
async fn tell_start(sale: SocketAddr) {
    let mut stream = TcpStream::connect(sale).await.unwrap();
    let request =
        "POST /simulated/start HTTP/1.1\r\nhost: sale\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

async fn hand_on(from: SocketAddr, to: SocketAddr) {
    let listener = TcpListener::bind(from).await.unwrap();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        near.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(to).await else { return };
            far.set_nodelay(true).unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}
