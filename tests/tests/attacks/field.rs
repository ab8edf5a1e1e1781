//! A gateway, honest buyers, and rounds without and with an attack in turns.

use crate::honest::{Credentials, Honest, Round};
use crate::siege::Siege;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate_tests::{Sale, Server, Settings, Shop};
use tokio::sync::{Mutex, MutexGuard};

/// Honest buyers may wait so many times longer under attack.
const SLOWER_MAX: u32 = 2;
/// The gateway may grow by so much.
const GROWTH_KB_MAX: u64 = 64 * 1024;
/// Pairs of rounds after which the verdict may be good.
const PAIRS_MIN: usize = 3;
/// … and after which it is bad: others on this machine disturb single rounds, not the median of many.
const PAIRS_MAX: usize = 12;
/// A round under attack takes at most so many times longer.
const LONGER_MAX: usize = 20;
/// Between two looks at the gateway's memory.
const LOOK: Duration = Duration::from_millis(50);
/// A round, mostly: its 99th percentile is the third slowest of three hundred.
pub(crate) const TIME: Duration = Duration::from_millis(1_500);
const WARM_UP: Duration = Duration::from_secs(1);

/// One attack at a time: they share the machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// What an attack has done in a round.
#[derive(Clone, Default)]
pub(crate) struct Done(Arc<AtomicU64>);

impl Done {
    pub(crate) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where it happens.
pub(crate) struct Field {
    pub(crate) server: Server,
    honest: Honest,
    _turn: MutexGuard<'static, ()>,
}

impl Field {
    /// A gateway with these settings and an open sale for honest buyers.
    pub(crate) async fn new(settings: Settings, credentials: Credentials) -> Self {
        let turn = TURN.lock().await;
        allow_files(12_500);
        // The gate under attack must hold by itself: attackers who come too often would not even get to it. And nobody works
        // the orders off here, so after a while none would be admitted.
        let settings = settings
            .set("admission.quota.buyer_per_s", 0)
            .value("admission.blacklist.enabled", "false")
            .value("admission.wait.enabled", "false");
        let server = Server::start_with(settings).await;
        let honest = Honest::new(server.settings.public_url(), "honest", credentials);
        let field = Self { server, honest, _turn: turn };
        field.shop().open("honest", &Sale::of(1_000_000).with("order_deadline_ms", 600_000)).await;
        field
    }

    pub(crate) fn shop(&self) -> &Shop {
        &self.server.shop
    }

    /// `host:port` of the buyers' listener.
    pub(crate) fn address(&self) -> String {
        self.shop().public.authority().to_owned()
    }

    /// Rounds of `time` without and with the attack, in turns; panics when honest buyers are slower than they may be, are
    /// not served, or the gateway grows by more than it may. Afterwards nothing of the honest sale is held but what its
    /// buyers won.
    ///
    /// The attack counts what it does; a round under attack goes on until that is `least`, on a busy machine too.
    pub(crate) async fn withstands<F: Future<Output = ()>>(
        &self,
        name: &str,
        time: Duration,
        least: u64,
        attack: impl Fn(Done) -> F + Clone + Send + 'static,
    ) {
        self.honest.round(WARM_UP).await;
        let before = self.rss_kb();
        let (mut calm, mut attacked) = (Vec::new(), Vec::new());
        let mut peak = before;
        let slower = loop {
            calm.push(self.round(time, "without attack").await.p99());
            let (done, attack) = (Done::default(), attack.clone());
            let counted = done.clone();
            let siege = Siege::lay(move || attack(counted));
            let round = async {
                let mut round = self.round(time, "under attack").await;
                for _ in 0..LONGER_MAX {
                    if done.so_far() >= least {
                        return round.p99();
                    }
                    round.append(self.round(time, "under attack").await);
                }
                panic!("{name}: the attackers came to {} of {least} in a round", done.so_far());
            };
            let watch = async {
                loop {
                    peak = peak.max(self.rss_kb());
                    tokio::time::sleep(LOOK).await;
                }
            };
            attacked.push(tokio::select! {
                p99 = round => p99,
                () = watch => unreachable!("it never ends"),
            });
            siege.raise().await;
            let slower = median(&attacked).as_secs_f64() / median(&calm).as_secs_f64();
            let good = slower <= f64::from(SLOWER_MAX);
            if (good && calm.len() >= PAIRS_MIN) || calm.len() >= PAIRS_MAX {
                break slower;
            }
        };
        let grown = peak.saturating_sub(before);
        let figures = format!(
            "{name}: honest p99 {:.1?} without, {:.1?} under attack ({slower:.2} times, {} rounds each); memory {} MiB, \
             grown by {:.1} MiB at most",
            median(&calm),
            median(&attacked),
            calm.len(),
            before / 1024,
            grown as f64 / 1024.0,
        );
        println!("{figures}");
        assert!(slower <= f64::from(SLOWER_MAX), "{figures}\nwithout {calm:.1?}\nunder {attacked:.1?}");
        assert!(grown <= GROWTH_KB_MAX, "{figures}");
        let audit = self.shop().audit("honest").await;
        assert_eq!(audit.number("held"), self.honest.won(), "{}", audit.text);
    }

    async fn round(&self, time: Duration, when: &str) -> Round {
        let round = self.honest.round(time).await;
        assert!(
            round.failed.is_empty(),
            "{when}, {} were not served: {}",
            round.failed.len(),
            round.failed[0]
        );
        round
    }

    /// Resident memory of the gateway, the mapped log included.
    fn rss_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// A figure of `/metrics`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = self.shop().inner.get("/metrics", &[]).await.text;
        let line =
            metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Both sides of 10,000 connections need so many; the gateway inherits what this process may have.
fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        assert!(
            limit.maximum.is_none_or(|maximum| maximum >= count),
            "the attacks need {count} open files and this user may have {:?}: raise `ulimit -Hn`",
            limit.maximum
        );
        setrlimit(Resource::Nofile, raised).unwrap();
    }
}
