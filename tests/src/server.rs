//! The real binary as a child process. It is never left behind: dropping it kills it.

use crate::{BOUND, Http, Settings, Shop, eventually, gateway_binary};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// `tidegate serve` with settings of its own.
#[derive(Debug)]
pub struct Server {
    /// As it runs.
    pub settings: Settings,
    /// Its two listeners.
    pub shop: Shop,
    child: Child,
    stderr: Captured,
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard error, whole.
    pub stderr: String,
    /// Standard output, whole.
    pub stdout: String,
}

impl Server {
    /// Starts with default settings; ready when this returns.
    pub async fn start() -> Self {
        Self::start_with(Settings::new()).await
    }

    /// Starts with these settings; ready when this returns.
    pub async fn start_with(settings: Settings) -> Self {
        let shop = Shop::new(Http::new(&settings.public_url()), Http::new(&settings.inner_url()));
        let (child, stderr) = launch(&settings);
        let mut server = Self { settings, shop, child, stderr };
        server.until_ready().await;
        server
    }

    /// Starts with these settings, without waiting: for a start that is expected to take long, or to fail.
    pub fn launch_with(settings: Settings) -> Self {
        let shop = Shop::new(Http::new(&settings.public_url()), Http::new(&settings.inner_url()));
        let (child, stderr) = launch(&settings);
        Self { settings, shop, child, stderr }
    }

    /// `kill -9`; the process is gone when this returns.
    pub async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.ended().await;
    }

    /// SIGTERM, and does not wait.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// SIGHUP: the gateway reloads its configuration, in its own time.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// SIGSTOP: the process neither answers nor ends until [`Server::resume`]. No thread of it runs when this returns:
    /// the signal alone leaves the others a few more milliseconds on a busy machine.
    pub fn pause(&self) {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::STOP).unwrap();
        waitid(WaitId::Pid(process), WaitIdOptions::STOPPED).unwrap();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// The gateway's id in the fleet.
    pub fn gateway_id(&self) -> String {
        std::fs::read_to_string(self.settings.data_dir().join("gateway.id")).unwrap().trim().to_owned()
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        eventually("the gateway ends", || async { child.lock().try_wait().unwrap() }).await
    }

    /// A new process on the same ports and folder, after [`Server::kill`] or the end of the old one; ready when
    /// this returns.
    pub async fn restart(&mut self) {
        self.relaunch();
        self.until_ready().await;
    }

    /// As [`Server::restart`], without waiting: for a start that is expected to fail.
    pub fn relaunch(&mut self) {
        (self.child, self.stderr) = launch(&self.settings);
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Standard error of the present process so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it can sell; panics when it ends before.
    pub async fn until_ready(&mut self) {
        let (child, stderr, inner) = (Mutex::new(&mut self.child), &self.stderr, &self.shop.inner);
        eventually("the gateway is ready", || async {
            if let Some(status) = child.lock().try_wait().unwrap() {
                panic!("the gateway ended with {status} before it was ready:\n{}", stderr.text());
            }
            let ready = inner.try_send("GET", "/readyz", &[], b"").await;
            ready.is_ok_and(|reply| reply.status == 200).then_some(())
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway said:\n{}", self.stderr.text());
        }
    }
}

fn launch(settings: &Settings) -> (Child, Captured) {
    let mut child = Command::new(gateway_binary())
        .arg("serve")
        .arg("--config")
        .arg(settings.write())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = Captured::lines_of(child.stderr.take().unwrap());
    (child, stderr)
}

/// Runs the gateway's binary with these arguments until it ends by itself, at most [`BOUND`].
pub fn run_to_its_end(arguments: &[&str]) -> Ended {
    let mut child = Command::new(gateway_binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = Captured::lines_of(child.stdout.take().unwrap());
    let stderr = Captured::lines_of(child.stderr.take().unwrap());
    let end = std::time::Instant::now() + BOUND;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if std::time::Instant::now() > end => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("tidegate {arguments:?} did not end within {BOUND:?}; it said:\n{}", stderr.text());
            }
            None => std::thread::park_timeout(std::time::Duration::from_millis(5)),
        }
    };
    Ended { code: status.code(), stderr: stderr.whole(), stdout: stdout.whole() }
}

/// What a pipe said, read by a thread of its own so that the process never blocks on it.
#[derive(Debug)]
struct Captured {
    text: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Captured {
    fn lines_of(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = text.clone();
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                sink.lock().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().clone()
    }

    /// Everything, once the process has closed the pipe.
    fn whole(self) -> String {
        let _ = self.reader.join();
        self.text.lock().clone()
    }
}
