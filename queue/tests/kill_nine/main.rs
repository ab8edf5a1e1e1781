//! kill -9 of a real process, a hundred times over one folder. What it was told is acknowledged it writes into a pipe
//! at once; the books of that, kept here, are then held against what the queue still knows.
//!
//! `TIDEGATE_KILLS` says how often, `TIDEGATE_SEED` with which choices.
#![allow(clippy::unwrap_used)]

mod books;
mod worker;

use books::Books;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use worker::{Work, number};

/// A process that does not come up, or does not come to an end of its work, in this time has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the process wrote, when it came.
type Lines = Receiver<(Instant, String)>;

fn start(dir: &Path, work: &Work) -> (Child, Lines) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "worker_process", "--nocapture"]);
    work.tell(dir, &mut command);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if send.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    (child, receive)
}

/// Reads until `until` is written, or till `deadline`; whether it was.
fn read(lines: &Lines, books: &mut Books, until: &str, deadline: Instant) -> bool {
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((_, line)) if line == until => return true,
            Ok((at, line)) => books.line(at, &line),
            // The time is over, or the process is.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn kill_again_and_again(work: Work, kills: u64) -> Books {
    let dir = tempfile::tempdir().unwrap();
    let seed = number("TIDEGATE_SEED", 1);
    let mut random = worker::Random(seed);
    let mut books = Books::default();
    for round in 0..kills {
        let work = Work { round, sequence: books.sequence(), drain: false, seed: random.next(), ..work };
        let (mut child, lines) = start(dir.path(), &work);
        let up = read(&lines, &mut books, "@up", Instant::now() + PATIENCE);
        assert!(up, "round {round}, seed {seed}: it does not come up: {}", books.said());
        // Most are short, so that starts are interrupted too; some long enough for everything to happen in them.
        let run_ms = if round % 10 == 9 { 1_500 } else { random.below(250) };
        read(&lines, &mut books, "@never", Instant::now() + Duration::from_millis(run_ms));
        let killed = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had written before.
        while read(&lines, &mut books, "@never", Instant::now() + PATIENCE) {}
        books.killed(killed);
    }
    let work = Work { round: kills, sequence: books.sequence(), drain: true, seed, ..work };
    let (mut child, lines) = start(dir.path(), &work);
    let drained = read(&lines, &mut books, "@drained", Instant::now() + PATIENCE);
    assert!(drained, "seed {seed}: what is owed is never all delivered: {}", books.said());
    assert!(child.wait().unwrap().success(), "{}", books.said());
    books.check(seed);
    if work.keeps_all() {
        books.check_log(dir.path());
    }
    books
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_acknowledged() {
    let books = kill_again_and_again(Work::keeping_all(), number("TIDEGATE_KILLS", 100));
    println!("{books}");
}

#[test]
fn kills_during_snapshots_leave_everything_that_is_owed() {
    let books = kill_again_and_again(Work::snapshots(), number("TIDEGATE_KILLS", 40));
    println!("{books}");
}

#[test]
fn fm49_kills_during_deletions_leave_everything_that_is_owed() {
    let books = kill_again_and_again(Work::deletions(), number("TIDEGATE_KILLS", 40));
    assert!(books.deleted(), "nothing was deleted: {books}");
    println!("{books}");
}

/// The process that is killed; started by the tests above.
#[test]
#[ignore = "runs until it is killed"]
fn worker_process() {
    worker::run();
}
