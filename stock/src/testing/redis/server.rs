//! One server.

use super::process::{free_port, log, start, until};
use crate::redis::options::{Password, RedisOptions, Tls};
use ::redis::{Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Value};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Until a server that was started answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// `always`, `everysec` or `no`; `None`: nothing is kept on disk.
    pub append_only: Option<&'static str>,
    /// Of the default user.
    pub password: Option<String>,
    /// On `port()`; `command` keeps to a plain port.
    pub tls: Option<TlsFiles>,
    /// Port of a master on 127.0.0.1.
    pub replica_of: Option<u16>,
    /// A node of a Cluster.
    pub cluster: bool,
    /// This port instead of a free one.
    pub port: Option<u16>,
    /// More arguments, such as `["--maxmemory", "10mb"]`.
    pub arguments: Vec<String>,
}

/// Certificates, PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Authority of both sides.
    pub ca: PathBuf,
    /// Of the server.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether clients must show a certificate.
    pub client_certificates: bool,
}

/// A `redis-server` of the test's own. Its data lives in a temporary folder. Dropped: killed.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    setup: Setup,
    port: u16,
    plain_port: u16,
    folder: TempDir,
}

impl Setup {
    /// More arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&a| a.to_owned()));
        self
    }

    /// Starts it, and waits until it answers.
    pub fn start(self) -> RedisServer {
        let folder = TempDir::with_prefix("tidegate-redis-").expect("temporary folder");
        let port = self.port.unwrap_or_else(free_port);
        let plain_port = if self.tls.is_some() { free_port() } else { port };
        let mut server = RedisServer { child: None, setup: self, port, plain_port, folder };
        server.spawn();
        server
    }
}

impl RedisServer {
    /// One that keeps nothing on disk.
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// One with an append-only file: `always`, `everysec` or `no`.
    pub fn append_only(fsync: &'static str) -> Self {
        Setup { append_only: Some(fsync), ..Setup::default() }.start()
    }

    /// A replica of this one, in step with it when this returns (about a second).
    #[must_use]
    pub fn replica(&self) -> Self {
        let setup = Setup {
            replica_of: Some(self.plain_port),
            password: self.setup.password.clone(),
            append_only: self.setup.append_only,
            ..Setup::default()
        };
        let replica = setup.start();
        // Linked is not enough: a replica counts for WAIT once it has told how far it is.
        let mark = format!(",port={},state=online,offset=", replica.port);
        until("the replica has told how far it is", START_LIMIT, || {
            self.command(&["PUBLISH", "tidegate-test", ""]);
            let info = self.info("replication");
            info.split_once(&mark).is_some_and(|(_, offset)| !offset.starts_with("0,"))
        });
        replica
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Options that lead to it, with its password and its authority.
    pub fn options(&self) -> RedisOptions {
        let mut options = RedisOptions::single("127.0.0.1", self.port);
        options.password = self.setup.password.as_deref().map(|p| Password(Arc::from(p)));
        options.tls = self.setup.tls.as_ref().map(|tls| Tls {
            ca_file: Some(tls.ca.clone()),
            client: tls.client_certificates.then(|| (tls.certificate.clone(), tls.key.clone())),
        });
        options
    }

    /// Runs one command on a connection of its own. Panics when the server cannot be reached.
    pub fn command(&self, parts: &[&str]) -> Value {
        self.try_command(parts).unwrap_or_else(|e| panic!("{parts:?}: {e}"))
    }

    /// As `command`, of one that answers a number.
    pub fn count(&self, parts: &[&str]) -> i64 {
        match self.command(parts) {
            Value::Int(count) => count,
            other => panic!("{parts:?}: {other:?} is no number"),
        }
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> bool {
        self.count(&["EXISTS", key]) == 1
    }

    /// As `command`, with the error.
    pub fn try_command(&self, parts: &[&str]) -> RedisResult<Value> {
        ask(self.plain_port, self.setup.password.as_deref(), parts)
    }

    /// A section of INFO.
    pub fn info(&self, section: &str) -> String {
        match self.try_command(&["INFO", section]) {
            Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        }
    }

    /// Value of a field of INFO, or empty.
    pub fn info_field(&self, section: &str, field: &str) -> String {
        let info = self.info(section);
        let found = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    }

    /// `kill -9`. The data stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it, if it runs, and starts it with what is on disk, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Ends it, if it runs, and starts it without any data, on the same port.
    pub fn restart_empty(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.folder.path()).expect("folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).expect("remove");
            } else if entry.file_name() != "log" {
                std::fs::remove_file(path).expect("remove");
            }
        }
        self.spawn();
    }

    /// SIGSTOP: it neither answers nor refuses.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// A port without TLS, for `command` and for replicas.
    pub fn plain_port(&self) -> u16 {
        self.plain_port
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server was killed");
        kill_process(Pid::from_child(child), signal).expect("signal");
    }

    fn spawn(&mut self) {
        self.child = Some(start("redis-server", &self.arguments(), self.folder.path()));
        until("redis-server answers PING", START_LIMIT, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("wait"));
            assert!(ended.is_none(), "redis-server ended:\n{}", log(self.folder.path()));
            self.try_command(&["PING"]).is_ok()
        });
    }

    fn arguments(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut add = |parts: &[&str]| all.extend(parts.iter().map(|&p| p.to_owned()));
        let (port, plain) = (self.port.to_string(), self.plain_port.to_string());
        add(&["--bind", "127.0.0.1", "--save", "", "--port", &plain]);
        if let Some(fsync) = self.setup.append_only {
            add(&["--appendonly", "yes", "--appendfsync", fsync]);
        }
        if let Some(password) = &self.setup.password {
            add(&["--requirepass", password, "--masterauth", password]);
        }
        if let Some(tls) = &self.setup.tls {
            let path = |p: &PathBuf| p.to_str().expect("UTF-8").to_owned();
            let auth = if tls.client_certificates { "yes" } else { "no" };
            add(&["--tls-port", &port, "--tls-ca-cert-file", &path(&tls.ca)]);
            add(&["--tls-cert-file", &path(&tls.certificate), "--tls-key-file", &path(&tls.key)]);
            add(&["--tls-auth-clients", auth]);
        }
        if let Some(master) = self.setup.replica_of {
            add(&["--replicaof", "127.0.0.1", &master.to_string(), "--repl-diskless-sync-delay", "0"]);
        } else {
            add(&["--repl-diskless-sync-delay", "0"]);
        }
        if self.setup.cluster {
            add(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
        }
        all.extend(self.setup.arguments.iter().cloned());
        all
    }
}

/// One command on a connection of its own.
pub(super) fn ask(port: u16, password: Option<&str>, parts: &[&str]) -> RedisResult<Value> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let info = ConnectionAddr::Tcp("127.0.0.1".to_owned(), port)
        .into_connection_info()?
        .set_redis_settings(settings);
    let mut connection = Client::open(info)?.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut command = Cmd::new();
    for part in parts {
        command.arg(*part);
    }
    command.query(&mut connection)
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
