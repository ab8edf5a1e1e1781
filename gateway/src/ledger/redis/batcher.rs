//! One sale's calls from one thread: what comes while a call is under way goes out together in the next one. A single
//! request goes out at once; no timer.

use super::core::CoreLedger;
use super::room::Room;
use super::shared::{Flight, SaleShared, Standing};
use crate::ledger::LedgerError;
use crate::pipeline::order_bytes_max;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tidegate_stock::redis::ops::{Batch, Moved, ReserveCall, Reserved, Told, TransitionCall};
use tidegate_stock::redis::{Note, OpError, Owed as OwedRecord};
use tidegate_stock::{JournalError, Record, TicketId, TicketView};
use tokio::sync::oneshot;
use tracing::error;

/// Pause before notes are sent again that Redis did not take.
const AGAIN: Duration = Duration::from_millis(100);
/// A batch waits for a new look at its sale at most so often; its requests end before that.
const LOOKS_MAX: usize = 3;
/// One look takes at most.
const LOOK_MAX: Duration = Duration::from_millis(100);
/// Tickets with a lost answer that are remembered, of one sale and thread; what is beyond is claimed as a note.
const LOST_MAX: usize = 10_000;
/// Lost answers resolved in one call.
const RESOLVE_BATCH: usize = 256;

/// What became of a reservation, with the wins in the log.
pub(super) enum Outcome {
    /// In the log; not to be told before it is durable.
    Won(TicketView),
    /// Anything else, and what the answer's call told of the sale.
    Other { reserved: Reserved, feed: u64, epoch: u64, generation: u64 },
}

/// What became of a transition.
pub(super) struct Move {
    pub(super) moved: Moved,
    /// Completes when its record is durable and its note is cleared.
    pub(super) settled: Option<oneshot::Receiver<()>>,
}

struct WaitingOrder {
    call: ReserveCall,
    version: u64,
    reply: oneshot::Sender<Result<Outcome, LedgerError>>,
}

struct WaitingMove {
    call: TransitionCall,
    reply: oneshot::Sender<Result<Move, LedgerError>>,
}

type WaitingNote = (Note, Option<oneshot::Sender<()>>);

/// See the module.
pub(super) struct Batcher {
    pub(super) sale: Arc<SaleShared>,
    core: Weak<CoreLedger>,
    orders: RefCell<VecDeque<WaitingOrder>>,
    notes: RefCell<VecDeque<WaitingNote>>,
    moves: RefCell<VecDeque<WaitingMove>>,
    lost: RefCell<VecDeque<TicketId>>,
    orders_fly: Cell<bool>,
    moves_fly: Cell<bool>,
    lost_fly: Cell<bool>,
    this: Weak<Batcher>,
}

impl Batcher {
    pub(super) fn new(sale: Arc<SaleShared>, core: &Rc<CoreLedger>) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            sale,
            core: Rc::downgrade(core),
            orders: RefCell::default(),
            notes: RefCell::default(),
            moves: RefCell::default(),
            lost: RefCell::default(),
            orders_fly: Cell::new(false),
            moves_fly: Cell::new(false),
            lost_fly: Cell::new(false),
            this: this.clone(),
        })
    }

    /// Sends a reservation. Refused at once when too many wait.
    pub(super) fn reserve(
        &self,
        call: ReserveCall,
        version: u64,
        waiting_max: usize,
    ) -> Result<oneshot::Receiver<Result<Outcome, LedgerError>>, LedgerError> {
        if self.orders.borrow().len() >= waiting_max {
            return Err(LedgerError::Unavailable("too many orders wait for Redis"));
        }
        let (reply, answer) = oneshot::channel();
        self.orders.borrow_mut().push_back(WaitingOrder { call, version, reply });
        self.kick();
        Ok(answer)
    }

    /// Sends a transition. Refused at once when too many wait.
    pub(super) fn transition(
        &self,
        call: TransitionCall,
        waiting_max: usize,
    ) -> Result<oneshot::Receiver<Result<Move, LedgerError>>, LedgerError> {
        if self.moves.borrow().len() >= waiting_max {
            return Err(LedgerError::Unavailable("too many transitions wait for Redis"));
        }
        let (reply, answer) = oneshot::channel();
        self.moves.borrow_mut().push_back(WaitingMove { call, reply });
        if !self.moves_fly.replace(true)
            && let Some((core, this)) = self.upgrade()
        {
            tokio::task::spawn_local(async move { this.run_moves(&core).await });
        }
        Ok(answer)
    }

    /// A note's record is durable; goes out with the next batch. Call [`Self::kick`] afterwards.
    pub(super) fn clear(&self, note: Note, cleared: Option<oneshot::Sender<()>>) {
        self.notes.borrow_mut().push_back((note, cleared));
    }

    /// Sends what waits, unless a call is under way.
    pub(super) fn kick(&self) {
        if !self.orders_fly.replace(true)
            && let Some((core, this)) = self.upgrade()
        {
            tokio::task::spawn_local(async move { this.run_orders(&core).await });
        }
    }

    fn upgrade(&self) -> Option<(Rc<CoreLedger>, Rc<Self>)> {
        Some((self.core.upgrade()?, self.this.upgrade()?))
    }

    async fn run_orders(self: Rc<Self>, core: &Rc<CoreLedger>) {
        loop {
            let mut orders = self.take_orders(core);
            let notes: Vec<WaitingNote> = {
                let mut notes = self.notes.borrow_mut();
                let count = notes.len().min(core.shared.options.batch_max);
                notes.drain(..count).collect()
            };
            if orders.calls.is_empty() && notes.is_empty() {
                self.orders_fly.set(false);
                return;
            }
            if let Err(notes) = self.send_orders(core, &mut orders, notes).await {
                // Not taken: they wait, and are sent again. Clearing twice is clearing once.
                self.put_back(notes);
                if core.app.stopping.is_set() {
                    self.orders_fly.set(false);
                    return;
                }
                if self.orders.borrow().is_empty() {
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn put_back(&self, notes: Vec<WaitingNote>) {
        let mut waiting = self.notes.borrow_mut();
        for note in notes.into_iter().rev() {
            waiting.push_front(note);
        }
    }

    /// The orders of the next call, those left out whose buyer has gone: as many as the log has room for, were they all
    /// to win. When it has room for none, all that wait are refused: before they take stock.
    fn take_orders(&self, core: &CoreLedger) -> Orders {
        let mut waiting = self.orders.borrow_mut();
        let (mut taken, mut sizes, mut wanted) = (Vec::new(), Vec::new(), 0);
        while taken.len() < core.shared.options.batch_max
            && let Some(order) = waiting.pop_front()
        {
            if !order.reply.is_closed() {
                let bytes =
                    order_bytes_max(&order.call.packed.order(order.call.ticket, &self.sale.keys.sale));
                wanted += bytes;
                sizes.push(bytes);
                taken.push(order);
            }
        }
        if taken.is_empty() {
            return Orders::default();
        }
        let room = Room::take(&core.shared, wanted);
        let fits = room.as_ref().map_or(0, |room| how_many_fit(&sizes, room.bytes()));
        if fits == 0 {
            let refused = room.err().unwrap_or(JournalError::Busy);
            for WaitingOrder { reply, .. } in taken.into_iter().chain(waiting.drain(..)) {
                let _ = reply.send(Err(refused.into()));
            }
            return Orders::default();
        }
        // What does not fit any more goes with the next call, when this one's wins are in the log.
        for order in taken.split_off(fits).into_iter().rev() {
            waiting.push_front(order);
        }
        let mut orders = Orders { _room: room.ok(), ..Orders::default() };
        for WaitingOrder { call, version, reply } in taken {
            orders.calls.push(call);
            orders.versions.push(version);
            orders.replies.push(reply);
        }
        orders
    }

    /// One call. `Err`: the notes were not cleared, or not for certain.
    async fn send_orders(
        &self,
        core: &CoreLedger,
        orders: &mut Orders,
        notes: Vec<WaitingNote>,
    ) -> Result<(), Vec<WaitingNote>> {
        let names: Vec<Note> = notes.iter().map(|(note, _)| note.clone()).collect();
        for _ in 0..LOOKS_MAX {
            let Some((flight, standing)) = self.sale.enter() else {
                orders.refuse(&LedgerError::Paused);
                return Err(notes);
            };
            orders.follow(&standing);
            let batch = Batch { now_ms: core.app.clock.now_ms(), notes: &names, reserves: &orders.calls };
            let reply = core.ops.batch(&self.sale.keys, &standing.fence, &batch).await;
            match reply {
                Ok(reply) => {
                    let told = (reply.feed, reply.epoch, standing.fence.generation);
                    let replies = std::mem::take(&mut orders.replies);
                    for ((call, to), reserved) in orders.calls.iter().zip(replies).zip(reply.answers) {
                        let _ = to.send(self.answer(core, call, reserved, told));
                    }
                    drop(flight);
                    for (_, cleared) in notes {
                        if let Some(cleared) = cleared {
                            let _ = cleared.send(());
                        }
                    }
                    return Ok(());
                }
                Err(OpError::Stale) => {
                    drop(flight);
                    let looked = core.shared.looked.notified();
                    core.shared.look_at(&self.sale);
                    let _ = tokio::time::timeout(LOOK_MAX, looked).await;
                }
                Err(error) => {
                    let unknown = error.is_unknown();
                    if unknown {
                        self.lose(orders.calls.iter().map(|call| call.ticket));
                    }
                    let refused = core.refusal(&self.sale, &error);
                    let replies = std::mem::take(&mut orders.replies);
                    for (to, call) in replies.into_iter().zip(&orders.calls) {
                        let ticket = Some(call.ticket);
                        let error = if unknown { LedgerError::Unknown { ticket } } else { refused.clone() };
                        let _ = to.send(Err(error));
                    }
                    return Err(notes);
                }
            }
        }
        orders.refuse(&LedgerError::Unavailable("the sale keeps changing"));
        Err(notes)
    }

    /// Writes a win down. One that the log does not take after all stays as a note, and whoever claims it writes it.
    fn answer(
        &self,
        core: &CoreLedger,
        call: &ReserveCall,
        reserved: Reserved,
        (feed, epoch, generation): (u64, u64, u64),
    ) -> Result<Outcome, LedgerError> {
        if reserved != Reserved::Won {
            return Ok(Outcome::Other { reserved, feed, epoch, generation });
        }
        core.shared.place(call.ticket, &self.sale);
        let record = Record::Order(call.packed.order(call.ticket, &self.sale.keys.sale));
        match core.shared.journal.append_as(&record, 0) {
            Ok(lsn) => {
                core.shared.appended(lsn);
                if let Some(this) = self.this.upgrade() {
                    core.owed.push(lsn, &this, Note::of_win(call.ticket), None);
                }
                Ok(Outcome::Won(call.packed.view(call.ticket, &self.sale.keys.sale, lsn)))
            }
            Err(refused) => {
                core.shared.trouble.unwritten(call.ticket, refused);
                Err(LedgerError::Unknown { ticket: Some(call.ticket) })
            }
        }
    }

    async fn run_moves(self: Rc<Self>, core: &Rc<CoreLedger>) {
        loop {
            let waiting: Vec<WaitingMove> = {
                let mut moves = self.moves.borrow_mut();
                let count = moves.len().min(core.shared.options.batch_max);
                moves.drain(..count).filter(|waiting| !waiting.reply.is_closed()).collect()
            };
            if waiting.is_empty() {
                if self.moves.borrow().is_empty() {
                    self.moves_fly.set(false);
                    return;
                }
                continue;
            }
            let (calls, replies): (Vec<_>, Vec<_>) =
                waiting.into_iter().map(|waiting| (waiting.call, waiting.reply)).unzip();
            match self.send_moves(core, &calls).await {
                Ok((flight, moved)) => {
                    for ((call, to), moved) in calls.into_iter().zip(replies).zip(moved) {
                        let _ = to.send(self.record_move(core, call.ticket, moved));
                    }
                    drop(flight);
                }
                Err(error) => {
                    let refused = core.refusal(&self.sale, &error);
                    for (call, to) in calls.iter().zip(replies) {
                        let error = match &refused {
                            LedgerError::Unknown { .. } => LedgerError::Unknown { ticket: Some(call.ticket) },
                            other => other.clone(),
                        };
                        let _ = to.send(Err(error));
                    }
                }
            }
        }
    }

    /// One call; the records of its steps are to be appended before the flight ends.
    async fn send_moves(
        &self,
        core: &CoreLedger,
        calls: &[TransitionCall],
    ) -> Result<(Flight, Vec<Moved>), OpError> {
        let mut last = OpError::Stale;
        for _ in 0..LOOKS_MAX {
            let Some((flight, standing)) = self.sale.enter() else { return Err(OpError::Paused) };
            let now_ms = core.app.clock.now_ms();
            match core.ops.transition(&self.sale.keys, &standing.fence, now_ms, calls).await {
                Err(OpError::Stale) => {
                    drop(flight);
                    last = OpError::Stale;
                    let looked = core.shared.looked.notified();
                    core.shared.look_at(&self.sale);
                    let _ = tokio::time::timeout(LOOK_MAX, looked).await;
                }
                other => return other.map(|moved| (flight, moved)),
            }
        }
        Err(last)
    }

    fn record_move(&self, core: &CoreLedger, ticket: TicketId, moved: Moved) -> Result<Move, LedgerError> {
        let (Moved::Done { ticket: packed, note, .. } | Moved::LateMoney { ticket: packed, note }) = &moved
        else {
            return Ok(Move { moved, settled: None });
        };
        let settled = self.record(core, note, Some(packed));
        match settled {
            Some(settled) => Ok(Move { moved, settled: Some(settled) }),
            None => Err(LedgerError::Unknown { ticket: Some(ticket) }),
        }
    }

    /// Appends the record that a note asks for; the answer completes when it is durable and the note is cleared. `None`:
    /// the log did not take it, the note stands.
    pub(super) fn record(
        &self,
        core: &CoreLedger,
        note: &Note,
        ticket: Option<&tidegate_stock::redis::PackedTicket>,
    ) -> Option<oneshot::Receiver<()>> {
        let now_ms = core.app.clock.now_ms();
        let appended = append_owed(core, &self.sale.keys.sale, note, ticket, now_ms);
        match appended {
            Ok(Some(lsn)) => {
                core.shared.appended(lsn);
                let (sender, cleared) = oneshot::channel();
                core.owed.push(lsn, &self.this.upgrade()?, note.clone(), Some(sender));
                Some(cleared)
            }
            Ok(None) => {
                // Nothing is left to be written: late money that eight later payments have pushed out.
                let (sender, cleared) = oneshot::channel();
                self.clear(note.clone(), Some(sender));
                self.kick();
                Some(cleared)
            }
            Err(refused) => {
                error!(?note, %refused, "a record could not be written down yet; its note will be claimed");
                None
            }
        }
    }

    /// Remembers tickets whose call was not answered, and asks for them until Redis has told.
    fn lose(&self, tickets: impl Iterator<Item = TicketId>) {
        let mut lost = self.lost.borrow_mut();
        lost.extend(tickets);
        let surplus = lost.len().saturating_sub(LOST_MAX);
        lost.drain(..surplus);
        drop(lost);
        if !self.lost_fly.replace(true)
            && let Some((core, this)) = self.upgrade()
        {
            tokio::task::spawn_local(async move { this.run_lost(&core).await });
        }
    }

    async fn run_lost(self: Rc<Self>, core: &Rc<CoreLedger>) {
        while !core.app.stopping.is_set() {
            tokio::time::sleep(AGAIN).await;
            let ids: Vec<TicketId> = self.lost.borrow().iter().take(RESOLVE_BATCH).copied().collect();
            if ids.is_empty() {
                break;
            }
            let Some((_flight, standing)) = self.sale.enter() else { continue };
            let Ok(answers) = core.ops.resolve(&self.sale.keys, &standing.fence, &ids).await else {
                continue;
            };
            self.lost.borrow_mut().drain(..ids.len());
            for told in answers.into_iter().flatten() {
                self.take_up(core, &told);
            }
        }
        self.lost_fly.set(false);
    }

    /// A reservation whose answer was lost has won: written down as if it had been answered.
    fn take_up(&self, core: &CoreLedger, told: &Told) {
        core.shared.place(told.ticket, &self.sale);
        let packed = &told.packed;
        if told.pending && packed.version == 1 && *packed.owner == *core.shared.gateway && packed.epoch == 0 {
            self.record(core, &Note::of_win(told.ticket), Some(packed));
        }
    }
}

/// The reservations of one call, with the version of the spec that each was made by, and who waits for it.
#[derive(Default)]
struct Orders {
    calls: Vec<ReserveCall>,
    versions: Vec<u64>,
    replies: Vec<oneshot::Sender<Result<Outcome, LedgerError>>>,
    /// For their wins, until they are in the log.
    _room: Option<Room>,
}

/// How many from the first on.
fn how_many_fit(sizes: &[u64], room: u64) -> usize {
    let mut used = 0;
    let fits = |&&bytes: &&u64| {
        used += bytes;
        used <= room
    };
    sizes.iter().take_while(fits).count()
}

impl Orders {
    /// What was made by an older spec is made by the present one.
    fn follow(&mut self, standing: &Standing) {
        let Some(spec) = &standing.meta.spec else { return };
        for (call, version) in self.calls.iter_mut().zip(&mut self.versions) {
            if *version != standing.fence.version {
                call.follow(spec);
                *version = standing.fence.version;
            }
        }
    }

    fn refuse(&mut self, error: &LedgerError) {
        for reply in self.replies.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// `Ok(None)`: there is nothing to write down any more.
fn append_owed(
    core: &CoreLedger,
    sale: &str,
    note: &Note,
    ticket: Option<&tidegate_stock::redis::PackedTicket>,
    now_ms: u64,
) -> Result<Option<tidegate_stock::Lsn>, JournalError> {
    let journal = &core.shared.journal;
    let (record, mark) = match (note.owed(), ticket) {
        (Some(OwedRecord::Order { ticket, epoch }), Some(packed)) => {
            (Record::Order(packed.order(ticket, sale)), epoch)
        }
        (Some(OwedRecord::Step { ticket, version, epoch }), Some(packed)) => {
            match packed.step(ticket, sale, version) {
                Some(step) => (Record::Transition(step), epoch),
                None => return Ok(None),
            }
        }
        (Some(OwedRecord::LateMoney { ticket, nth }), Some(packed)) => {
            match packed.late_money(ticket, sale, nth, now_ms) {
                Some(refund) => (Record::Transition(refund), 0),
                None => return Ok(None),
            }
        }
        (Some(OwedRecord::Restock { restock_id, quantity }), _) => {
            let restock = tidegate_stock::RestockRecord { sale, restock_id, quantity, at_ms: now_ms };
            (Record::Restock(restock), 0)
        }
        _ => {
            error!(?note, "a note that this release cannot read; it is left for one that can");
            return Err(JournalError::Busy);
        }
    };
    journal.append_as(&record, mark.into()).map(Some)
}
