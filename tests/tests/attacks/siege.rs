//! The attackers: one thread of low priority, so that what they compute takes nothing from the gateway.

use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};

/// An attack under way.
pub(crate) struct Siege {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Siege {
    /// Lays it: runs the attack on a thread of its own until it is raised.
    pub(crate) fn lay<F: Future<Output = ()>>(attack: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // This thread alone: no process is named.
            let own = rustix::process::getpriority_process(None).unwrap();
            rustix::process::setpriority_process(None, (own + 10).min(19)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = attack() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop, thread }
    }

    /// Raises it; all its connections are closed when this returns. Panics when an attacker did.
    pub(crate) async fn raise(self) {
        let _ = self.stop.send(());
        let thread = tokio::task::spawn_blocking(|| self.thread.join());
        assert!(thread.await.unwrap().is_ok(), "an attacker panicked");
    }
}

/// Does something so many times a second, for ever; what is not done in time is left out. At most `at_once` are under way.
pub(crate) async fn at_rate<F: Future<Output = ()> + 'static>(
    per_s: u32,
    at_once: usize,
    mut shot: impl FnMut(u64) -> F,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_s);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    for n in 0.. {
        ticks.tick().await;
        while let Some(done) = under_way.try_join_next() {
            done.unwrap();
        }
        if under_way.len() < at_once {
            under_way.spawn_local(shot(n));
        }
    }
}

/// Never ends.
pub(crate) async fn for_ever() {
    std::future::pending::<()>().await;
}
