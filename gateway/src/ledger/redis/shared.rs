//! What all threads of this gateway know of the shared ledger.

use super::keep::Kept;
use super::passes::Passes;
use super::roll::Roll;
use super::room::Promised;
use super::trouble::Trouble;
use crate::admission::SaleGate;
use crate::pipeline::Journal;
use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tidegate_stock::redis::ops::{Fleet, SaleMeta, SaleRecorded};
use tidegate_stock::redis::{Fence, Process, RedisOptions, SaleKeys};
use tidegate_stock::{Lsn, SaleSpec, SaleSwitch, TicketId};
use tokio::sync::Notify;

const SHARDS: usize = 16;

/// This gateway's share.
pub struct Shared {
    /// Its id, for as long as its data folder lives.
    pub gateway: Arc<str>,
    /// Of the configuration.
    pub options: Arc<RedisOptions>,
    /// Its log.
    pub journal: Journal,
    sales: RwLock<HashMap<Arc<str>, Arc<SaleShared>, RandomState>>,
    tickets: [Mutex<HashMap<TicketId, Arc<SaleShared>, RandomState>>; SHARDS],
    /// Who else is there, as of the last heartbeat.
    pub(super) fleet: ArcSwapOption<Fleet>,
    /// Whose logs make up the ledger, as this gateway's own log tells.
    pub(super) roll: Mutex<Roll>,
    /// Whether this process is the one that goes on under the id; the fleet's task's alone.
    pub(super) process: Mutex<Process>,
    /// Heartbeats that counted.
    pub(super) beats: AtomicU64,
    /// A heartbeat is wanted at once.
    pub(super) beat: Notify,
    /// All sales were looked at once: an unknown name is then unknown.
    pub(super) followed: AtomicBool,
    /// What is wrong with Redis.
    pub trouble: Trouble,
    /// Another process goes on in this one's place, or its log lacks what another one wrote. For good: only a new start
    /// sells again.
    replaced: Arc<AtomicBool>,
    /// Why.
    replaced_by: OnceLock<&'static str>,
    /// Newest record appended for the shared ledger.
    last: AtomicU64,
    /// What the log told at the start, for whoever keeps it up from there.
    pub(super) kept: Mutex<Option<Kept>>,
    /// Room in the log that is set aside for calls under way.
    pub(super) promised: Promised,
    /// Recoveries that wait for this gateway's log to be read.
    pub(super) passes: Passes,
    /// Something is to be looked at.
    pub(super) look: Notify,
    /// A sale has been looked at.
    pub(super) looked: Notify,
}

/// One sale.
pub struct SaleShared {
    /// Its names in Redis.
    pub keys: SaleKeys,
    /// How it stood at the last look, and what calls must name.
    standing: ArcSwapOption<Standing>,
    /// Nobody sends: a recovery, or the first look is still to come. Only the settle thread lifts it …
    paused: AtomicBool,
    /// … and never when this process has been replaced.
    replaced: Arc<AtomicBool>,
    /// Calls under way whose wins would have to be recorded.
    in_flight: AtomicUsize,
    /// The newest sale record in this gateway's log.
    recorded: ArcSwapOption<SaleInLog>,
    /// Elements of the feed that are known here.
    pub(super) feed: AtomicU64,
    /// Held while following the feed.
    pub(super) following: tokio::sync::Mutex<()>,
    /// Looks asked for …
    asked: AtomicU64,
    /// … how many of them were made …
    made: AtomicU64,
    /// … and which was the last that took over what it saw.
    taken: AtomicU64,
    /// A task looks at it.
    looking: AtomicBool,
    /// The last look failed.
    troubled: AtomicBool,
    /// There is only the name: neither Redis nor this gateway's log holds the sale.
    absent: AtomicBool,
    /// Newest news heard.
    pub(super) news: AtomicU64,
    /// A recovery task is at it.
    pub(super) recovering: AtomicBool,
    /// News of it came.
    pub(super) changed: Notify,
    /// The gate that buyers meet.
    pub(super) gate: ArcSwapOption<SaleGate>,
}

/// The newest record of a sale in this gateway's log, as it stands there.
#[derive(Debug, Clone)]
pub(super) struct SaleInLog {
    pub(super) recorded: SaleRecorded,
    pub(super) spec: SaleSpec,
    pub(super) switch: SaleSwitch,
}

/// How a sale stood.
#[derive(Debug, Clone)]
pub struct Standing {
    /// As told.
    pub meta: SaleMeta,
    /// What calls name.
    pub fence: Fence,
}

impl Shared {
    /// Nothing is known yet.
    pub(super) fn new(gateway: &str, options: Arc<RedisOptions>, journal: Journal) -> Self {
        Self {
            gateway: Arc::from(gateway),
            options,
            journal,
            sales: RwLock::default(),
            tickets: std::array::from_fn(|_| Mutex::default()),
            fleet: ArcSwapOption::empty(),
            roll: Mutex::default(),
            followed: AtomicBool::new(false),
            trouble: Trouble::default(),
            process: Mutex::new(Process::new(BTreeSet::new(), 0)),
            beats: AtomicU64::new(0),
            beat: Notify::new(),
            replaced: Arc::default(),
            replaced_by: OnceLock::new(),
            last: AtomicU64::new(0),
            kept: Mutex::default(),
            promised: Promised::default(),
            passes: Passes::default(),
            look: Notify::new(),
            looked: Notify::new(),
        }
    }

    /// All sales known here.
    pub fn sales(&self) -> Vec<Arc<SaleShared>> {
        self.sales.read().values().cloned().collect()
    }

    /// By name.
    pub fn find(&self, sale: &str) -> Option<Arc<SaleShared>> {
        self.sales.read().get(sale).filter(|sale| !sale.is_absent()).cloned()
    }

    /// Whether there may be tickets that nobody here knows of: a sale that cannot be read now may hold any.
    pub(super) fn any_unread(&self) -> bool {
        self.sales.read().values().any(|sale| sale.is_paused() && !sale.is_absent())
    }

    /// By name; a new one is paused until it has been looked at.
    pub(super) fn find_or_insert(&self, sale: &str) -> Arc<SaleShared> {
        if let Some(known) = self.sales.read().get(sale) {
            return known.clone();
        }
        let mut sales = self.sales.write();
        let new =
            || Arc::new(SaleShared::new(SaleKeys::new(&self.options.prefix, sale), self.replaced.clone()));
        sales.entry(Arc::from(sale)).or_insert_with(new).clone()
    }

    /// The sale of a ticket, if it is known here.
    pub(super) fn sale_of(&self, ticket: TicketId) -> Option<Arc<SaleShared>> {
        self.shard(ticket).lock().get(&ticket).cloned()
    }

    pub(super) fn place(&self, ticket: TicketId, sale: &Arc<SaleShared>) {
        self.shard(ticket).lock().insert(ticket, sale.clone());
    }

    fn shard(&self, ticket: TicketId) -> &Mutex<HashMap<TicketId, Arc<SaleShared>, RandomState>> {
        &self.tickets[ticket.0 as usize % SHARDS]
    }

    /// Whether every living gateway has this one's join in its log.
    pub fn is_member(&self) -> bool {
        self.fleet.load().as_ref().is_some_and(|fleet| fleet.member)
    }

    /// Who else is there, as of the last heartbeat.
    pub fn fleet(&self) -> Option<Arc<Fleet>> {
        self.fleet.load_full()
    }

    /// This process must not go on under its id: every sale is paused here, and stays so.
    pub(super) fn replace(&self, why: &'static str) {
        let _first_word_counts = self.replaced_by.set(why);
        self.replaced.store(true, Ordering::SeqCst);
        self.look.notify_one();
        for sale in self.sales() {
            sale.pause();
        }
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::SeqCst)
    }

    /// Whether this process is known to be the one that goes on under the id: nothing is sold, told or brought in before.
    pub(super) fn has_beaten(&self) -> bool {
        self.fleet.load().is_some()
    }

    /// Every gateway whose log may hold something of a sale, as far as it is known here; in order.
    pub fn members(&self) -> Vec<String> {
        let mut members: BTreeSet<String> = self.roll.lock().members().cloned().collect();
        if let Some(fleet) = &*self.fleet.load() {
            members.extend(fleet.members.iter().cloned());
        }
        members.into_iter().collect()
    }

    /// Why this gateway cannot sell, or nothing.
    pub fn unready(&self) -> Option<&'static str> {
        if self.is_replaced() {
            return self.unprepared();
        }
        self.trouble.now().or_else(|| self.unprepared())
    }

    /// Why this gateway could not sell even if Redis answered, or nothing.
    pub(super) fn unprepared(&self) -> Option<&'static str> {
        if self.is_replaced() {
            self.replaced_by.get().copied()
        } else if !self.is_member() {
            Some("this gateway waits for the others to record that it joins")
        } else if !self.followed.load(Ordering::Relaxed) {
            Some("the sales have not been read from Redis yet")
        } else {
            None
        }
    }

    /// A record for the shared ledger went into the log.
    pub(super) fn appended(&self, lsn: Lsn) {
        self.last.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Newest record for the shared ledger.
    pub(super) fn last_appended(&self) -> Lsn {
        Lsn(self.last.load(Ordering::Acquire))
    }

    /// Something about a sale is not as believed: nobody sends until it has been looked at.
    pub(super) fn doubt(&self, sale: &SaleShared) {
        sale.pause();
        self.look_at(sale);
    }

    /// A sale has changed: it is looked at soon. Answers which look will have seen it.
    pub(super) fn look_at(&self, sale: &SaleShared) -> u64 {
        let turn = sale.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.look.notify_one();
        turn
    }
}

impl SaleShared {
    fn new(keys: SaleKeys, replaced: Arc<AtomicBool>) -> Self {
        Self {
            keys,
            standing: ArcSwapOption::empty(),
            paused: AtomicBool::new(true),
            replaced,
            in_flight: AtomicUsize::new(0),
            recorded: ArcSwapOption::empty(),
            feed: AtomicU64::new(0),
            following: tokio::sync::Mutex::new(()),
            asked: AtomicU64::new(1),
            made: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            looking: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            news: AtomicU64::new(0),
            recovering: AtomicBool::new(false),
            changed: Notify::new(),
            gate: ArcSwapOption::empty(),
        }
    }

    /// How it stood at the last look.
    pub fn standing(&self) -> Option<Arc<Standing>> {
        self.standing.load_full()
    }

    /// What the last look told.
    pub fn meta(&self) -> Option<SaleMeta> {
        self.standing.load().as_ref().map(|standing| standing.meta.clone())
    }

    /// The newest sale record in this gateway's log. `None`: there is none.
    pub(super) fn recorded(&self) -> Option<SaleRecorded> {
        self.recorded.load().as_ref().map(|in_log| in_log.recorded)
    }

    /// That record, whole.
    pub(super) fn in_log(&self) -> Option<Arc<SaleInLog>> {
        self.recorded.load_full()
    }

    /// At the start, and then the settle thread's alone.
    pub(super) fn set_recorded(&self, recorded: SaleRecorded, spec: SaleSpec, switch: SaleSwitch) {
        self.recorded.store(Some(Arc::new(SaleInLog { recorded, spec, switch })));
    }

    /// The look that is asked for, if one is.
    pub(super) fn look_due(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Acquire);
        (asked > self.made.load(Ordering::Acquire)).then_some(asked)
    }

    /// Begins to look; `false`: another task is at it.
    pub(super) fn begin_looking(&self) -> bool {
        !self.looking.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_looking(&self) {
        self.looking.store(false, Ordering::Release);
    }

    /// A look is made, and with it those asked for before; `taken`: what it saw is believed here from now on.
    pub(super) fn looked(&self, turn: u64, taken: bool) {
        self.troubled.store(false, Ordering::Relaxed);
        self.made.fetch_max(turn, Ordering::AcqRel);
        if taken {
            self.taken.fetch_max(turn, Ordering::AcqRel);
        }
    }

    /// A look failed; whether it is the first since one did not.
    pub(super) fn look_failed(&self) -> bool {
        !self.troubled.swap(true, Ordering::Relaxed)
    }

    /// Whether it was looked at, whatever was seen.
    pub(super) fn was_looked_at(&self) -> bool {
        self.made.load(Ordering::Acquire) > 0
    }

    /// Whether what stood when that look was asked for is believed here.
    pub(super) fn was_taken_over(&self, turn: u64) -> bool {
        self.taken.load(Ordering::Acquire) >= turn
    }

    /// Whether there is only its name: a put that never came to its end.
    pub(super) fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Acquire)
    }

    pub(super) fn set_absent(&self, absent: bool) {
        self.absent.store(absent, Ordering::Release);
    }

    /// Whether nobody may send.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    pub(super) fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
        if let Some(gate) = &*self.gate.load() {
            gate.pause(true);
        }
    }

    /// Lets calls through under this standing. The settle thread's alone: it is the one that sees every change of
    /// server, so no core with an old connection can lift what a recovery has put down.
    pub(super) fn go_on(&self, standing: Standing) {
        if self.replaced.load(Ordering::SeqCst) {
            return;
        }
        self.standing.store(Some(Arc::new(standing)));
        self.paused.store(false, Ordering::SeqCst);
        if let Some(gate) = &*self.gate.load() {
            gate.pause(false);
        }
    }

    /// What was known by number is numbered anew.
    pub(super) async fn forget(&self) {
        let _turn = self.following.lock().await;
        self.feed.store(0, Ordering::Release);
        self.news.store(0, Ordering::Release);
    }

    /// A call that may win begins; `None` while paused. Until the guard is dropped, no recovery reads the log.
    pub(super) fn enter(self: &Arc<Self>) -> Option<(Flight, Arc<Standing>)> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let flight = Flight(self.clone());
        if self.is_paused() {
            return None;
        }
        let standing = self.standing.load_full()?;
        Some((flight, standing))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0
    }
}

/// A call under way.
pub(super) struct Flight(Arc<SaleShared>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}
