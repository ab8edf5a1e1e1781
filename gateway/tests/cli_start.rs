//! The built `tidegate` command: starts, bad starts, and `check`. Each bad start is one clear line and an exit
//! code of its own.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{damage, send, start, tidegate};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A `tidegate serve` process; killed when dropped.
struct Server {
    child: Child,
    public: SocketAddr,
    inner: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts over `dir` and waits for the line that tells the ports.
    fn start(dir: &Path) -> Self {
        let mut child =
            serve(dir, "127.0.0.1:0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports: Vec<SocketAddr> = line
            .split("http://")
            .skip(1)
            .map(|at| at.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ports.len(), 2, "{line}");
        Self { child, public: ports[0], inner: ports[1] }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

fn serve(dir: &Path, public: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .arg("serve")
        .env("TIDEGATE__LISTEN__PUBLIC", public)
        .env("TIDEGATE__LISTEN__INNER", "127.0.0.1:0")
        .env("TIDEGATE__LISTEN__THREADS", "1")
        .env("TIDEGATE__DATA__SEGMENT_BYTES", "8388608")
        .env("TIDEGATE__DATA__DIR", dir);
    command
}

/// Runs a start that must fail; answers its one line.
fn bad_start(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_owned()
}

#[test]
fn sigterm_drains_and_the_next_start_knows_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let put = send(server.inner, "PUT", "/v1/sales/s", "", "{\"item\":\"i\",\"stock\":2}");
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(send(server.inner, "POST", "/v1/sales/s/open", "", "").status, 200);
    let key = "X-User-Id: alice\r\nIdempotency-Key: k\r\n";
    let won = send(server.public, "POST", "/v1/sales/s/orders", key, "");
    assert_eq!(won.status, 202);
    // A hang-up is no reason to end.
    server.signal("HUP");
    assert_eq!(send(server.inner, "GET", "/healthz", "", "").status, 200);
    server.signal("TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let again = Server::start(dir.path());
    let repeat = send(again.public, "POST", "/v1/sales/s/orders", key, "");
    assert_eq!(repeat.json()["ticket"], won.json()["ticket"]);
}

#[test]
fn fm54_a_port_in_use_is_refused() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let error = bad_start(serve(second.path(), &address), 3);
    assert!(error.contains(&address) && error.contains("another process has the port"), "{error}");
    // A gateway sets SO_REUSEPORT, with which a second one could bind.
    let server = Server::start(first.path());
    let error = bad_start(serve(second.path(), &server.public.to_string()), 3);
    assert!(error.contains("another process has the port"), "{error}");
}

#[test]
fn a_data_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Server::start(dir.path());
    let error = bad_start(serve(dir.path(), "127.0.0.1:0"), 3);
    assert!(error.contains("locked by another process"), "{error}");
    assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = bad_start(serve(&file.join("data"), "127.0.0.1:0"), 3);
    assert!(error.contains("cannot use the data folder"), "{error}");
}

#[test]
fn fm29_a_damaged_log_is_refused_by_file_and_offset() {
    let gateway = start("");
    gateway.sale("s", 5, "");
    gateway.win("s", "alice");
    let dir = gateway.stop();
    let data = dir.path().join("data");
    damage(&data, b"alice");
    let error = bad_start(serve(&data, "127.0.0.1:0"), 3);
    assert!(error.contains("log is damaged") && error.contains("commitlog/"), "{error}");
    assert!(error.contains("at byte") && error.contains("salvage"), "{error}");
}

#[test]
fn an_unknown_key_is_told_with_line_and_suggestion() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.toml");
    std::fs::write(&path, "[listen]\n\npublick = \"127.0.0.1:0\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["serve", "--config"]).arg(&path);
    let error = bad_start(command, 2);
    assert!(error.contains("tidegate.toml:3:1: listen.publick: unknown key"), "{error}");
    assert!(error.contains("did you mean \"public\"?"), "{error}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("serve").env("TIDEGATE__DATA__DIRR", "x");
    let error = bad_start(command, 2);
    assert!(error.contains("did you mean TIDEGATE__DATA__DIR?"), "{error}");
}

#[test]
fn check_tells_every_mistake_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    std::fs::write(&path, "[listen]\ninner = \"0.0.0.0:1\"\n[data]\nflush = \"never\"\n[queue]\nlease = 1\n")
        .unwrap();
    let (code, out, err) = tidegate(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert_eq!(err.lines().count(), 3, "{err}");
    for expected in ["inner.worker_token", "data.flush", "queue.lease"] {
        assert!(err.contains(expected), "{expected}: {err}");
    }
    std::fs::write(&path, "[[sale]]\nid = \"s\"\nitem = \"i\"\nstock = 1\n").unwrap();
    let (code, out, err) = tidegate(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("is good") && out.contains("1 sale(s)"), "{out}");
    let (code, _, err) = tidegate(&["check", "--config", "/nowhere.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("cannot read /nowhere.toml"), "{err}");
}

#[test]
fn the_shipped_configuration_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/tidegate.toml");
    let (code, _, err) = tidegate(&["check", "--config", file]);
    assert_eq!((code, err.as_str()), (0, ""));
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    let commands: [&[&str]; 5] =
        [&[], &["sale"], &["sale", "create"], &["sale", "resume"], &["log", "verify"]];
    for command in commands {
        let mut help = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let help = help.args(command).arg("--help").env("COLUMNS", "80").output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
}

#[test]
fn a_gateway_goes_on_when_nobody_reads_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut child =
        serve(dir.path(), "127.0.0.1:0").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    drop(child.stderr.take());
    let id = child.id().to_string();
    // What it logs now goes nowhere.
    for signal in ["HUP", "TERM"] {
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn help_documents_the_exit_codes() {
    let (code, out, _) = tidegate(&["--help"]);
    assert_eq!(code, 0);
    for command in ["serve", "check", "audit", "log", "sale"] {
        assert!(out.contains(&format!("  {command} ")), "{out}");
    }
    assert!(out.contains("Exit codes:"), "{out}");
    let (code, out, _) = tidegate(&["--version"]);
    assert_eq!((code, out.trim()), (0, concat!("tidegate ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(tidegate(&["sell"]).0, 2);
    assert_eq!(tidegate(&["check"]).0, 2);
}

#[test]
fn the_log_goes_to_standard_error_in_the_format_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path(), "127.0.0.1:0");
    command.env("TIDEGATE__LOG__FORMAT", "json").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("tidegate listens: "), "{line}");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(record["message"].is_string() && record["level"].is_string(), "{line}");
    }
    assert!(log.contains("gateway is open") && log.contains("gateway is closed"), "{log}");
}
