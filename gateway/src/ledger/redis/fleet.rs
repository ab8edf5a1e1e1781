//! This gateway is there, and who else is. A newcomer may sell only when every living member has its join in its log: so
//! the list of those whose logs make up the ledger survives the loss of Redis.

use super::core::CoreLedger;
use super::shared::Shared;
use crate::ledger::LedgerError;
use crate::pipeline::{MemberWord, Membership};
use crate::state::{Core, DURABLE_WAIT_MAX};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_stock::redis::Ousted;
use tidegate_stock::redis::ops::{Beat, Fleet, Heard};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

/// Heartbeats in the time after which a gateway counts as dead.
const BEATS: u32 = 10;
/// A newcomer's join is agreed on in a few of these.
const JOINING: Duration = Duration::from_millis(50);
/// Heartbeats in a row that may each be answered by a question: as many as there are others that know of different processes.
const QUESTIONS_MAX: usize = 8;

/// What a gateway tells of itself with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tells {
    /// Base URL of its inner listener.
    pub inner: String,
    /// Base URL of its public listener.
    pub public: String,
    /// Release.
    pub version: String,
    /// Able to sell.
    pub ready: bool,
    /// When it started, Unix ms.
    pub started_at_ms: u64,
}

/// Beats until the gateway stops, or must not go on under its id: this process then sells and delivers nothing more.
pub async fn run_fleet(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let shared = ledger.shared.clone();
    let pause = shared.options.dead_after / BEATS;
    let mut recorded: Vec<String> = Vec::new();
    let mut failed = false;
    loop {
        match beat(&core, &ledger, &mut recorded).await {
            Ok(()) => failed = false,
            Err(Trouble::Ousted(ousted)) => {
                oust(&shared, ousted);
                return core.app.stopping.wait().await;
            }
            Err(Trouble::Failed(why)) => {
                if !std::mem::replace(&mut failed, true) {
                    warn!(why, "no heartbeat: this gateway will be taken for dead if it goes on");
                }
            }
        }
        let quick = !shared.is_member() || !recorded.is_empty();
        tokio::select! {
            () = tokio::time::sleep(if quick { JOINING } else { pause }) => {}
            () = shared.beat.notified() => {}
            () = core.app.stopping.wait() => return,
        }
    }
}

/// Why there was no heartbeat.
enum Trouble {
    /// There will be none.
    Ousted(Ousted),
    /// Redis or the log did not take it.
    Failed(String),
}

impl From<Ousted> for Trouble {
    fn from(ousted: Ousted) -> Self {
        Self::Ousted(ousted)
    }
}

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(error.to_string())
}

fn oust(shared: &Shared, ousted: Ousted) {
    let gateway = &*shared.gateway;
    match ousted {
        Ousted::Replaced { by } => {
            shared.replace(
                "another process runs with this gateway's id and was started later: a copied data folder?",
            );
            error!(
                gateway,
                process = by,
                "another process runs with this gateway's id and was started later: a copied data folder? This one sells \
                 and delivers nothing any more. Stop one of the two, and keep this folder until what it holds is not missed: \
                 started again, it is an old copy"
            );
        }
        Ousted::OldCopy { of } => {
            shared.replace(
                "this data folder is an old copy of the gateway's: its log lacks what was written after the copy was made; \
                 see this gateway's own messages for what to do",
            );
            error!(
                gateway,
                process = of,
                "this data folder is an old copy or a backup: its log lacks what that process of this gateway wrote, orders \
                 that were answered among it. This process sells and delivers nothing, and its log is brought into no sale. \
                 Start the gateway on its newest folder. If that is lost: remove the file gateway.id from this folder and \
                 start it as a new gateway, with what it holds; then give the old id up: tidegate gateway forget ID"
            );
        }
    }
}

async fn beat(core: &Core, ledger: &Rc<CoreLedger>, recorded: &mut Vec<String>) -> Result<(), Trouble> {
    let shared = &ledger.shared;
    if shared.process.lock().number() == 0 {
        take_number(ledger).await?;
    }
    let tells = Tells {
        inner: core.app.urls().inner.clone(),
        public: core.app.urls().public.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: shared.unready().is_none() && core.app.queue.takes_new().is_ok(),
        started_at_ms: core.app.started_at_ms,
    };
    let tells = serde_json::to_string(&tells).map_err(failed)?;
    let mut fleet = say(core, ledger, &tells, recorded).await?;
    recorded.clear();
    shared.trouble.answered();
    let written = record_members(ledger, &fleet).await;
    let news = !shared.has_beaten() || fleet.member && !shared.is_member();
    match &written {
        Ok(()) => recorded.extend(fleet.newcomers.iter().cloned()),
        // A member goes on; a newcomer sells only once the others are in its log. Who is alive is known either way.
        Err(_) => fleet.member &= shared.is_member(),
    }
    shared.fleet.store(Some(Arc::new(fleet)));
    shared.beats.fetch_add(1, Ordering::Release);
    if news {
        shared.look.notify_one();
    }
    written
}

/// This process has a number, and the log holds it before anybody else hears of it.
async fn take_number(ledger: &Rc<CoreLedger>) -> Result<(), Trouble> {
    let shared = &ledger.shared;
    let above = shared.process.lock().newest_held();
    let proposal = ledger.ops.propose(above, rand::random()).await.map_err(failed)?;
    shared.process.lock().consider(&proposal)?;
    let (gateway, membership) = (shared.gateway.to_string(), Membership::Joined);
    let word = MemberWord { gateway, membership, at_ms: proposal.now_ms, process: proposal.number };
    ledger.record_roll(vec![word]).await.map_err(failed)?;
    shared.process.lock().take(proposal.number);
    Ok(())
}

/// One heartbeat; more when somebody asks whether the log holds what another process of this gateway wrote.
async fn say(
    core: &Core,
    ledger: &Rc<CoreLedger>,
    tells: &str,
    recorded: &[String],
) -> Result<Fleet, Trouble> {
    let shared = &ledger.shared;
    for _ in 0..QUESTIONS_MAX {
        let (processes, forgotten): (Vec<_>, Vec<_>) = {
            let roll = shared.roll.lock();
            (roll.newest_processes().collect(), roll.forgotten().collect())
        };
        let process = shared.process.lock().clone();
        let beat = Beat {
            process: &process,
            log_end: core.app.queue.synced().0,
            tells,
            recorded,
            processes: &processes,
            forgotten: &forgotten,
        };
        match ledger.ops.heartbeat(&beat).await.map_err(failed)? {
            Heard::Fleet(fleet) => {
                shared.process.lock().beaten();
                return Ok(fleet);
            }
            Heard::Other(newest) => shared.process.lock().heed(newest)?,
        }
    }
    Err(failed("others ask for the processes of this gateway that their logs know; beaten again"))
}

/// Who has come and who is forgotten, as far as this gateway's log does not hold it yet: in the log before anything is sold
/// together with them.
async fn record_members(ledger: &Rc<CoreLedger>, fleet: &Fleet) -> Result<(), Trouble> {
    let missing = ledger.shared.roll.lock().missing(fleet, &ledger.shared.gateway);
    ledger.record_roll(missing).await.map_err(failed)?;
    ledger.shared.roll.lock().hear(fleet);
    Ok(())
}

/// Before this gateway's log counts in a recovery: no other one's place is taken by an old copy of its data folder, as far as
/// this log knows. Redis may just have lost who was there, so whoever beats is asked, and has the time that others are
/// given before they count as dead. Answers whom to leave out: they are waited for.
pub(super) async fn impostors(ledger: &CoreLedger) -> Vec<String> {
    let shared = &ledger.shared;
    let end = Instant::now() + shared.options.dead_after;
    // The one under way may have begun before the recovery.
    let enough = shared.beats.load(Ordering::Acquire) + 2;
    loop {
        let asked = shared.beats.load(Ordering::Acquire) >= enough;
        let fleet = shared.fleet();
        let doubted =
            fleet.map(|fleet| shared.roll.lock().doubted(&fleet, &shared.gateway)).unwrap_or_default();
        if asked && doubted.is_empty() || Instant::now() >= end || ledger.app.stopping.is_set() {
            return doubted;
        }
        shared.beat.notify_one();
        tokio::time::sleep(JOINING).await;
    }
}

impl CoreLedger {
    /// Writes down who has come and who is forgotten; known here once it is durable.
    pub(super) async fn record_roll(&self, words: Vec<MemberWord>) -> Result<(), LedgerError> {
        let mut last = None;
        for word in &words {
            last = Some(self.shared.journal.append_member(word)?);
        }
        let Some(lsn) = last else { return Ok(()) };
        self.shared.appended(lsn);
        let unknown = LedgerError::Unknown { ticket: None };
        let durable = timeout(DURABLE_WAIT_MAX, self.durable.wait(lsn)).await;
        durable.ok().and_then(Result::ok).ok_or(unknown)?;
        let mut roll = self.shared.roll.lock();
        for word in words {
            let gateway = &*word.gateway;
            match word.membership {
                Membership::Joined if roll.is_member(gateway) => {
                    debug!(gateway, process = word.process, "a process of a gateway is recorded");
                }
                Membership::Joined => info!(gateway, "a gateway of the fleet is recorded"),
                Membership::Forgotten => {
                    warn!(gateway, "a gateway is forgotten: no recovery waits for its log");
                }
            }
            roll.note(word);
        }
        Ok(())
    }
}
