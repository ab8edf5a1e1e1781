//! One thread's way to the shared ledger. What is answered is in a durable log, but for a win, which tells the position
//! that must be durable first.
//!
//! Every wait is bounded: a reservation by the call's timeout and a margin, everything that waits for a disk by
//! [`DURABLE_WAIT_MAX`]. Cancel safe: what was sent may have been done; repeating the request tells.

use super::batcher::{Batcher, Move, Outcome};
use super::owed::Owed;
use super::shared::{SaleShared, Shared};
use crate::ledger::{LedgerError, SaleFailure};
use crate::pipeline::{CoreDurable, MemberWord, Membership};
use crate::state::{App, DURABLE_WAIT_MAX};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_stock::redis::ops::{
    ByKey, Delivers, Forgot, Moved, Recovery, ReserveCall, Reserved, Restocked, SaleMeta, Told,
    TransitionCall,
};
use tidegate_stock::redis::{CallError, Fence, Link, OpError, Ops};
use tidegate_stock::{
    Audit, Epoch, Lsn, Reserve, ReserveOutcome, SaleError, SalePut, SaleSpec, SaleSwitch, SaleView, TicketId,
    TicketView, Transition, TransitionOutcome, hash_of,
};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tracing::warn;

/// Above the call's own timeout: what a request may wait for the call before its own.
const QUEUE_MARGIN: Duration = Duration::from_millis(50);
/// First pause between two looks at a ticket that is not to be told yet; it doubles up to the last.
const PENDING_FIRST: Duration = Duration::from_millis(1);
const PENDING_LAST: Duration = Duration::from_millis(50);
/// Between two searches for tickets that nobody here knows: what a flood of made-up ids can cost.
const SEARCH_PAUSE: Duration = Duration::from_millis(20);
/// Steps of recoveries at once; the rest waits its turn.
const STEPS_MAX: usize = 64;
/// Tickets of a buyer told in one list.
const TICKETS_OF_MAX: usize = 1_000;
/// How long an operator's change may take to be seen here.
const CHANGE_MAX: Duration = Duration::from_secs(5);

/// See the module. Not `Send`: it stays on its thread.
pub struct CoreLedger {
    pub(super) app: Arc<App>,
    pub(super) shared: Arc<Shared>,
    pub(super) ops: Ops,
    pub(super) durable: Rc<CoreDurable>,
    pub(super) owed: Owed,
    batchers: RefCell<HashMap<Arc<str>, Rc<Batcher>, RandomState>>,
    searched: RefCell<Option<Search>>,
    searching: tokio::sync::Mutex<()>,
    /// Steps of recoveries at once.
    pub(super) steps: Semaphore,
}

impl CoreLedger {
    /// This thread's calls, for what is shared beside the ledger.
    pub(crate) fn ops(&self) -> &Ops {
        &self.ops
    }

    /// On the calling thread; connects when it is first used.
    pub fn new(app: Arc<App>, shared: Arc<Shared>, durable: Rc<CoreDurable>) -> Rc<Self> {
        let ops = Ops::new(Link::new(shared.options.clone()), shared.options.clone(), &shared.gateway);
        Rc::new(Self {
            app,
            shared,
            ops,
            durable,
            owed: Owed::default(),
            batchers: RefCell::default(),
            searched: RefCell::default(),
            searching: tokio::sync::Mutex::new(()),
            steps: Semaphore::new(STEPS_MAX),
        })
    }

    /// Clears notes as the log becomes durable. Runs until dropped, on the same thread.
    pub async fn run(self: Rc<Self>) {
        self.owed.run(&self.durable).await;
    }

    pub(super) fn batcher(self: &Rc<Self>, sale: &Arc<SaleShared>) -> Rc<Batcher> {
        let mut batchers = self.batchers.borrow_mut();
        if let Some(batcher) = batchers.get(&sale.keys.sale) {
            return batcher.clone();
        }
        let batcher = Batcher::new(sale.clone(), self);
        batchers.insert(sale.keys.sale.clone(), batcher.clone());
        batcher
    }

    /// What an operation's failure means for whoever asked; a sale that is not as believed is looked at.
    pub(super) fn refusal(&self, sale: &SaleShared, error: &OpError) -> LedgerError {
        match error {
            OpError::Paused | OpError::NoSale | OpError::Call(CallError::LineageChanged { .. }) => {
                self.shared.doubt(sale);
                LedgerError::Paused
            }
            OpError::Stale => {
                self.shared.look_at(sale);
                LedgerError::Unavailable("the sale has just changed")
            }
            OpError::Call(CallError::Unavailable(_)) => LedgerError::Unavailable("Redis is not reachable"),
            OpError::Call(CallError::Refused(_)) => LedgerError::Unavailable("Redis refuses the call"),
            OpError::Call(CallError::Unreplicated(why)) => {
                self.shared.trouble.unreplicated(why);
                LedgerError::Unknown { ticket: None }
            }
            OpError::Call(CallError::Unknown(_)) | OpError::Reply(_) => LedgerError::Unknown { ticket: None },
        }
    }

    fn ready(&self) -> Result<(), LedgerError> {
        self.shared.unprepared().map_or(Ok(()), |why| Err(LedgerError::Unavailable(why)))
    }

    /// A sale whose name is unknown here, for certain.
    fn sale(&self, name: &str) -> Result<Option<Arc<SaleShared>>, LedgerError> {
        match self.shared.find(name) {
            Some(sale) => Ok(Some(sale)),
            None => self.ready().map(|()| None),
        }
    }

    /// See [`tidegate_stock::Ledger::reserve`].
    pub async fn reserve(self: &Rc<Self>, r: &Reserve<'_>) -> Result<ReserveOutcome, LedgerError> {
        let Some(sale) = self.sale(r.sale)? else { return Ok(ReserveOutcome::SaleNotFound) };
        self.ready()?;
        let standing = sale.standing().ok_or(LedgerError::Unavailable("the sale has not been read yet"))?;
        let Some(spec) = &standing.meta.spec else { return Err(LedgerError::Paused) };
        if sale.is_paused() {
            return Err(LedgerError::Paused);
        }
        let call = ReserveCall::new(r, spec, &self.shared.gateway);
        let options = &self.shared.options;
        let answer = self.batcher(&sale).reserve(call, standing.fence.version, options.waiting_max)?;
        let ticket = Some(r.ticket);
        let outcome = timeout(options.call_timeout + QUEUE_MARGIN, answer).await;
        let outcome = outcome.ok().and_then(Result::ok).unwrap_or(Err(LedgerError::Unknown { ticket }))?;
        match outcome {
            Outcome::Won(view) => Ok(ReserveOutcome::Won { ticket: view }),
            Outcome::Other { reserved, feed, epoch, generation } => {
                let epoch = Epoch { generation, counter: epoch };
                self.conclude(r, &sale, reserved, feed, epoch).await
            }
        }
    }

    async fn conclude(
        &self,
        r: &Reserve<'_>,
        sale: &Arc<SaleShared>,
        reserved: Reserved,
        feed: u64,
        epoch: Epoch,
    ) -> Result<ReserveOutcome, LedgerError> {
        Ok(match reserved {
            Reserved::Won => return Err(LedgerError::Unknown { ticket: Some(r.ticket) }),
            Reserved::SoldOut => {
                // The flag that follows would tell winners "sold out" whom this gateway has not heard of.
                let standing = sale.standing().ok_or(LedgerError::Paused)?;
                self.follow_feed(sale, &standing.fence, feed).await?;
                ReserveOutcome::SoldOut { epoch }
            }
            Reserved::NotEnough { available } => ReserveOutcome::NotEnoughStock { available },
            Reserved::LimitReached { pending, tickets } => {
                if pending {
                    for &ticket in &tickets {
                        self.tell(sale, ticket).await?;
                    }
                }
                ReserveOutcome::LimitReached { tickets, lsn: Lsn(0) }
            }
            Reserved::IdempotencyMismatch => ReserveOutcome::IdempotencyMismatch,
            Reserved::Repeat { pending, ticket, packed } => {
                let told = Told { ticket, packed: *packed, pending };
                ReserveOutcome::Repeat { ticket: self.told(sale, told).await? }
            }
            Reserved::BadQuantity => {
                let spec = sale.meta().and_then(|meta| meta.spec);
                ReserveOutcome::BadQuantity { quantity_max: spec.map_or(1, |spec| spec.quantity_max) }
            }
            Reserved::NotOpen => {
                ReserveOutcome::NotOpen { opens_at_ms: sale.meta().and_then(|meta| meta.spec?.opens_at_ms) }
            }
            Reserved::Closed => ReserveOutcome::Closed,
            Reserved::TakenId | Reserved::Tombstone => return Err(LedgerError::Unavailable("try again")),
        })
    }

    /// For reading in the generation that this gateway sells in: another one may lack what was answered before.
    fn reads(&self, sale: &SaleShared) -> Result<Ops, LedgerError> {
        let standing = sale.standing().ok_or(LedgerError::Unavailable("the sale has not been read yet"))?;
        Ok(self.ops.under(standing.fence.clone()))
    }

    /// See [`tidegate_stock::Ledger::repeat`].
    pub async fn repeat(&self, r: &Reserve<'_>) -> Result<Option<ReserveOutcome>, LedgerError> {
        let (Some(key), Some(sale)) = (r.idempotency_key, self.sale(r.sale)?) else { return Ok(None) };
        if sale.is_paused() {
            return Err(LedgerError::Paused);
        }
        let found = self.reads(&sale)?.by_key(&sale.keys, r.buyer, hash_of(key), r.body_hash).await;
        Ok(match found.map_err(|error| self.refusal(&sale, &error))? {
            ByKey::NoSale => return self.none(&sale),
            ByKey::Unknown => None,
            ByKey::Mismatch => Some(ReserveOutcome::IdempotencyMismatch),
            ByKey::Ticket(told) => Some(ReserveOutcome::Repeat { ticket: self.told(&sale, *told).await? }),
        })
    }

    /// Moves a ticket. Answers when the record is durable, and units that came back are for sale.
    pub async fn transition(
        self: &Rc<Self>,
        id: TicketId,
        transition: Transition<'_>,
    ) -> Result<TransitionOutcome, LedgerError> {
        let begun = self.begin(id, transition).await?;
        self.finish(id, begun).await
    }

    /// Moves tickets, each answer its own; all are under way at once.
    pub async fn transitions(
        self: &Rc<Self>,
        moves: Vec<(TicketId, Transition<'_>)>,
    ) -> Vec<Result<TransitionOutcome, LedgerError>> {
        let mut begun = Vec::with_capacity(moves.len());
        for (id, transition) in moves {
            begun.push((id, self.begin(id, transition).await));
        }
        let mut outcomes = Vec::with_capacity(begun.len());
        for (id, begun) in begun {
            outcomes.push(match begun {
                Ok(begun) => self.finish(id, begun).await,
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    async fn begin(self: &Rc<Self>, id: TicketId, transition: Transition<'_>) -> Result<Begun, LedgerError> {
        let Some(sale) = self.locate(id).await? else { return Ok(None) };
        if sale.is_paused() {
            return Err(LedgerError::Paused);
        }
        let call = TransitionCall::new(id, transition);
        let answer = self.batcher(&sale).transition(call, self.shared.options.waiting_max)?;
        Ok(Some((sale, answer)))
    }

    async fn finish(&self, id: TicketId, begun: Begun) -> Result<TransitionOutcome, LedgerError> {
        let Some((sale, answer)) = begun else { return Ok(TransitionOutcome::TicketNotFound) };
        let unknown = || LedgerError::Unknown { ticket: Some(id) };
        // As for an order: not once for the call under way and once more for its own.
        let answer = timeout(self.shared.options.call_timeout + QUEUE_MARGIN, answer).await;
        let Move { moved, settled } = answer.ok().and_then(Result::ok).ok_or_else(unknown)??;
        if let Some(settled) = settled {
            let settled = timeout(DURABLE_WAIT_MAX, settled).await;
            settled.ok().and_then(Result::ok).ok_or_else(unknown)?;
        }
        let now = |packed: &tidegate_stock::redis::PackedTicket| packed.view(id, &sale.keys.sale, Lsn(0));
        Ok(match moved {
            Moved::Done { ticket, .. } => TransitionOutcome::Done(now(&ticket)),
            Moved::LateMoney { ticket, .. } => {
                TransitionOutcome::WrongState { ticket: now(&ticket), refund_required: true }
            }
            Moved::Repeat { ticket, pending } => {
                let told = Told { ticket: id, packed: *ticket, pending };
                TransitionOutcome::Repeat(self.told(&sale, told).await?)
            }
            Moved::WrongState { ticket, pending, refund_required } => {
                let told = Told { ticket: id, packed: *ticket, pending };
                TransitionOutcome::WrongState { ticket: self.told(&sale, told).await?, refund_required }
            }
            Moved::NotDue { ticket, pending } => {
                let told = Told { ticket: id, packed: *ticket, pending };
                TransitionOutcome::NotDue(self.told(&sale, told).await?)
            }
            Moved::NotFound => TransitionOutcome::TicketNotFound,
        })
    }

    /// The ticket as it stands; what it shows is durable.
    pub async fn ticket(&self, id: TicketId) -> Result<Option<TicketView>, LedgerError> {
        let Some(sale) = self.locate(id).await? else { return Ok(None) };
        self.tell(&sale, id).await
    }

    async fn tell(&self, sale: &Arc<SaleShared>, id: TicketId) -> Result<Option<TicketView>, LedgerError> {
        if sale.is_paused() {
            return Err(LedgerError::Paused);
        }
        let told =
            self.reads(sale)?.read(&sale.keys, &[id]).await.map_err(|error| self.refusal(sale, &error))?;
        match told.into_iter().next().flatten() {
            Some(told) => self.told(sale, told).await.map(Some),
            None => Ok(None),
        }
    }

    /// Waits until a ticket may be told.
    async fn told(&self, sale: &Arc<SaleShared>, mut told: Told) -> Result<TicketView, LedgerError> {
        let id = told.ticket;
        self.shared.place(id, sale);
        let (end, mut pause) = (Instant::now() + DURABLE_WAIT_MAX, PENDING_FIRST);
        while told.pending {
            // Without replicas no note is cleared: there is nothing to wait for.
            if Instant::now() >= end || self.shared.trouble.is_unreplicated() {
                return Err(LedgerError::Unknown { ticket: Some(id) });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PENDING_LAST);
            let again = self
                .reads(sale)?
                .read(&sale.keys, &[id])
                .await
                .map_err(|error| self.refusal(sale, &error))?;
            let again = again.into_iter().next().flatten();
            told = again.ok_or(LedgerError::Unknown { ticket: Some(id) })?;
        }
        Ok(told.packed.view(id, &sale.keys.sale, Lsn(0)))
    }

    /// A buyer's tickets in one sale. `None`: no such sale.
    pub async fn tickets_of(&self, sale: &str, buyer: &str) -> Result<Option<Vec<TicketView>>, LedgerError> {
        let Some(sale) = self.sale(sale)? else { return Ok(None) };
        if sale.is_paused() {
            return Err(LedgerError::Paused);
        }
        let found = self.reads(&sale)?.tickets_of(&sale.keys, buyer, TICKETS_OF_MAX).await;
        let Some(found) = found.map_err(|error| self.refusal(&sale, &error))? else {
            return self.none(&sale);
        };
        let mut views = Vec::with_capacity(found.len());
        for told in found {
            views.push(self.told(&sale, told).await?);
        }
        Ok(Some(views))
    }

    /// Which orders of a sale this gateway may still deliver.
    pub async fn validate(
        &self,
        sale: &str,
        orders: &[(TicketId, u32)],
    ) -> Result<Vec<Delivers>, LedgerError> {
        let Some(sale) = self.sale(sale)? else { return Ok(vec![Delivers::Unknown; orders.len()]) };
        let Some((_flight, standing)) = sale.enter() else { return Err(LedgerError::Paused) };
        let answers = self.ops.validate(&sale.keys, &standing.fence, orders).await;
        answers.map_err(|error| self.refusal(&sale, &error))
    }

    /// The sale of a ticket: known here, or found by following the feeds of all sales, at most every
    /// [`SEARCH_PAUSE`]. `None` only when every sale could be read: what is told absent is.
    async fn locate(&self, id: TicketId) -> Result<Option<Arc<SaleShared>>, LedgerError> {
        if let Some(sale) = self.shared.sale_of(id) {
            return Ok(Some(sale));
        }
        self.ready()?;
        let came = Instant::now();
        let _turn = self.searching.lock().await;
        // Somebody else's search that began after this came has found it, or it is not there; or it failed for both, for
        // one after the other each would wait as long for a Redis that does not answer.
        let last = self.searched.borrow().clone();
        let outcome = match last {
            Some(search) if search.began >= came => search.outcome,
            last => {
                if let Some(search) = last {
                    tokio::time::sleep_until(search.began + SEARCH_PAUSE).await;
                }
                self.search().await
            }
        };
        match self.shared.sale_of(id) {
            Some(sale) => Ok(Some(sale)),
            None if self.shared.any_unread() => Err(LedgerError::Paused),
            None => outcome.map(|()| None),
        }
    }

    /// Follows the feeds of all sales. Dropped before its end, it counts as failed.
    async fn search(&self) -> Result<(), LedgerError> {
        let began = Instant::now();
        let ends = |outcome| *self.searched.borrow_mut() = Some(Search { began, outcome });
        ends(Err(LedgerError::Unavailable("the search for the ticket did not end; repeat the call")));
        let mut outcome = Ok(());
        for sale in self.shared.sales() {
            if sale.is_absent() {
                continue;
            }
            let followed = match sale.standing() {
                Some(standing) => self.follow_feed(&sale, &standing.fence, u64::MAX).await,
                None => Err(LedgerError::Paused),
            };
            outcome = match followed {
                Ok(()) => continue,
                // The ticket may be of another sale.
                Err(LedgerError::Paused) => Err(LedgerError::Paused),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
        }
        ends(outcome.clone());
        outcome
    }

    /// Learns wins of a generation until `upto` elements of the feed are known; `u64::MAX`: all there are now.
    pub(super) async fn follow_feed(
        &self,
        sale: &Arc<SaleShared>,
        fence: &Fence,
        upto: u64,
    ) -> Result<(), LedgerError> {
        if sale.feed.load(Ordering::Acquire) >= upto {
            return Ok(());
        }
        let _turn = sale.following.lock().await;
        let ops = self.ops.under(fence.clone());
        loop {
            let known = sale.feed.load(Ordering::Acquire);
            if known >= upto {
                return Ok(());
            }
            let page = ops.feed(&sale.keys, known).await;
            let (wins, elements) = page.map_err(|error| self.refusal(sale, &error))?;
            if elements == 0 {
                return Ok(());
            }
            let gate = sale.gate.load_full();
            for win in wins {
                self.shared.place(win.ticket, sale);
                if let Some(gate) = &gate {
                    gate.winners.insert_hash(win.buyer_hash);
                }
            }
            // Without a gate nobody learned of the winners: they are read again once there is one.
            if gate.is_none() {
                return Ok(());
            }
            sale.feed.store(known + elements, Ordering::Release);
        }
    }

    /// The sale as Redis holds it now. `None`: no such sale.
    pub async fn sale_view(&self, name: &str) -> Result<Option<SaleView>, LedgerError> {
        let Some(sale) = self.sale(name)? else { return Ok(None) };
        let Some(meta) = self.look(&sale).await? else { return Ok(None) };
        // Without a spec no log has told of it yet.
        meta.view(name).map(Some).ok_or(LedgerError::Paused)
    }

    async fn look(&self, sale: &SaleShared) -> Result<Option<SaleMeta>, LedgerError> {
        let meta = self.ops.look(&sale.keys).await.map_err(|error| self.refusal(sale, &error))?;
        meta.map_or_else(|| self.none(sale), |meta| Ok(Some(meta)))
    }

    /// Redis does not know a sale: no such sale, or, when this gateway's log holds it, one that has been lost.
    fn none<T>(&self, sale: &SaleShared) -> Result<Option<T>, LedgerError> {
        if sale.recorded().is_none() {
            return Ok(None);
        }
        self.shared.doubt(sale);
        Err(LedgerError::Paused)
    }

    /// All sales as Redis holds them now; a paused one that no log has brought in yet, as it was seen last.
    pub async fn sales(&self) -> Result<Vec<SaleView>, LedgerError> {
        let mut views = Vec::new();
        for sale in self.shared.sales() {
            let name = &sale.keys.sale;
            views.extend(match self.sale_view(name).await {
                Err(LedgerError::Paused) => sale.meta().and_then(|meta| meta.view(name)),
                view => view?,
            });
        }
        Ok(views)
    }

    /// See [`tidegate_stock::Ledger::put_sale`]. Answers when this gateway has the change in its log.
    pub async fn put_sale(&self, name: &str, spec: &SaleSpec) -> Result<SalePut, SaleFailure> {
        self.ready()?;
        let keys = self.ops.keys(name);
        let known = self.shared.find(name).is_some_and(|sale| sale.recorded().is_some());
        let put = match self.ops.put_sale(&keys, spec, known).await {
            Ok(put) => put?,
            Err(error) => {
                return Err(match self.shared.find(name) {
                    Some(sale) => self.refusal(&sale, &error).into(),
                    None => LedgerError::Unavailable("Redis did not take the sale; repeat the call").into(),
                });
            }
        };
        let sale = self.shared.find_or_insert(name);
        self.seen(&sale).await?;
        Ok(put)
    }

    /// Opens or closes by hand. Answers when this gateway has the change in its log.
    pub async fn switch_sale(&self, name: &str, to: SaleSwitch) -> Result<(), SaleFailure> {
        let sale = self.sale(name)?.ok_or(SaleError::NotFound)?;
        let standing = sale.standing().filter(|_| !sale.is_paused()).ok_or(LedgerError::Paused)?;
        let done = self.ops.switch_sale(&sale.keys, &standing.fence.lineage, to).await;
        self.not_lost(&sale, done.map_err(|error| self.refusal(&sale, &error))?)?;
        Ok(self.seen(&sale).await?)
    }

    /// A sale that this gateway has sold in and that Redis does not know has been lost: it is no unknown one.
    fn not_lost<T>(&self, sale: &SaleShared, done: Result<T, SaleError>) -> Result<T, SaleFailure> {
        if matches!(done, Err(SaleError::NotFound)) {
            self.none::<T>(sale)?;
        }
        Ok(done?)
    }

    /// Adds units, once for each id. Answers when they are for sale.
    pub async fn restock(
        self: &Rc<Self>,
        name: &str,
        restock_id: &str,
        quantity: u64,
    ) -> Result<(), SaleFailure> {
        let sale = self.sale(name)?.ok_or(SaleError::NotFound)?;
        let (flight, standing) = sale.enter().ok_or(LedgerError::Paused)?;
        let done = self.ops.restock(&sale.keys, &standing.fence.lineage, restock_id, quantity).await;
        let done = self.not_lost(&sale, done.map_err(|error| self.refusal(&sale, &error))?)?;
        let unknown = LedgerError::Unknown { ticket: None };
        match done {
            Restocked::Done(note) => {
                let settled = self.batcher(&sale).record(self, &note, None);
                drop(flight);
                let settled = settled.ok_or(unknown.clone())?;
                let settled = timeout(DURABLE_WAIT_MAX, settled).await;
                settled.ok().and_then(Result::ok).ok_or(unknown)?;
            }
            Restocked::Repeat { pending: false } => {}
            // Another gateway's, or one of before a crash: whoever has the note writes it down within moments.
            Restocked::Repeat { pending: true } => return Err(unknown.into()),
        }
        Ok(self.seen(&sale).await?)
    }

    /// Waits until the settle thread has looked at a sale after this call, and has its record in the log.
    async fn seen(&self, sale: &Arc<SaleShared>) -> Result<(), LedgerError> {
        let end = Instant::now() + CHANGE_MAX;
        let turn = self.shared.look_at(sale);
        loop {
            let looked = self.shared.looked.notified();
            tokio::pin!(looked);
            looked.as_mut().enable();
            if sale.was_taken_over(turn) {
                return Ok(());
            }
            if tokio::time::timeout_at(end, looked).await.is_err() {
                return Err(LedgerError::Unknown { ticket: None });
            }
        }
    }

    /// How a sale and its recovery stand. `None`: no such sale.
    pub async fn recovery(&self, name: &str) -> Result<Option<(SaleMeta, Recovery)>, LedgerError> {
        let Some(sale) = self.sale(name)? else { return Ok(None) };
        let refusal = |error: OpError| self.refusal(&sale, &error);
        let Some(meta) = self.look(&sale).await? else { return Ok(None) };
        let recovery = self.ops.recovery(&sale.keys).await.map_err(refusal)?;
        Ok(Some((meta, recovery)))
    }

    /// An operator gives a gateway's log up: the paused sale goes on once all others have brought theirs in.
    pub async fn excuse(&self, name: &str, gateway: &str) -> Result<(), SaleFailure> {
        let sale = self.sale(name)?.ok_or(SaleError::NotFound)?;
        let excused = self.ops.excuse(&sale.keys, gateway).await;
        match excused.map_err(|error| self.refusal(&sale, &error))? {
            Some(left) => {
                warn!(
                    sale = name,
                    gateway,
                    available = left.available,
                    live = left.live,
                    sold = left.sold,
                    "an operator gives up what only this gateway's log holds"
                );
                Ok(())
            }
            None => Err(SaleError::Invalid("the sale is not paused".to_owned()).into()),
        }
    }

    /// An operator gives up the log of a gateway that is gone for good, for all sales and for ever. Answers when this
    /// gateway's log holds it; the others hear of it with their next heartbeats.
    pub async fn forget(&self, gateway: &str) -> Result<Forgot, LedgerError> {
        self.ready()?;
        let known = self.shared.roll.lock().is_member(gateway);
        let forgot = self.ops.forget(gateway, known).await.map_err(|error| match error {
            OpError::Call(CallError::Unavailable(_)) => LedgerError::Unavailable("Redis is not reachable"),
            OpError::Call(CallError::Refused(_)) => LedgerError::Unavailable("Redis refuses the call"),
            _ => LedgerError::Unknown { ticket: None },
        })?;
        if let Forgot::Since(at_ms) = forgot
            && known
        {
            let (gateway, membership) = (gateway.to_owned(), Membership::Forgotten);
            self.record_roll(vec![MemberWord { gateway, membership, at_ms, process: 0 }]).await?;
        }
        Ok(forgot)
    }

    /// Units sold beyond the stock; with any, live tickets, those due last first. `None`: no such sale.
    pub async fn excess(
        &self,
        name: &str,
        max: usize,
    ) -> Result<Option<(u64, Vec<TicketView>)>, LedgerError> {
        let Some(sale) = self.sale(name)? else { return Ok(None) };
        let refusal = |error: OpError| self.refusal(&sale, &error);
        let Some(meta) = self.look(&sale).await? else { return Ok(None) };
        let mut views = Vec::new();
        if meta.excess > 0 {
            for ticket in self.ops.due_last(&sale.keys, max).await.map_err(refusal)? {
                views.extend(self.tell(&sale, ticket).await?);
            }
        }
        Ok(Some((meta.excess, views)))
    }

    /// Counts again. `None`: no such sale.
    pub async fn audit(&self, name: &str) -> Result<Option<Audit>, LedgerError> {
        let Some(sale) = self.sale(name)? else { return Ok(None) };
        if sale.is_paused() {
            return Err(LedgerError::Paused);
        }
        match self.ops.audit(&sale.keys).await.map_err(|error| self.refusal(&sale, &error))? {
            Some(audit) => Ok(Some(audit)),
            None => self.none(&sale),
        }
    }
}

/// A search for tickets that were not known here.
#[derive(Clone)]
struct Search {
    began: Instant,
    outcome: Result<(), LedgerError>,
}

type Begun = Option<(Arc<SaleShared>, oneshot::Receiver<Result<Move, LedgerError>>)>;
