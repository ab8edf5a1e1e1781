//! The ledger against a deliberately simple model: random operations, every answer and the whole state compared
//! after each; crashes lose what was not durable, and restarts go through snapshots.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{assert_holds, spec};
use testing::MemoryJournal;
use tidegate_stock::*;

const SALES: [&str; 3] = ["alpha", "beta", "gamma"];
const BUYERS: [&str; 3] = ["ann", "bob", "cid"];
const WORDS: [&str; 2] = ["x", "y"];

#[derive(Debug, Clone)]
enum Op {
    Put { sale: usize, variant: Variant },
    Switch { sale: usize, open: bool },
    Restock { sale: usize, id: usize, quantity: u64 },
    Reserve { sale: usize, buyer: usize, quantity: u32, key: Option<usize>, body: u64 },
    Move { ticket: usize, kind: u8, word: usize },
    Due { grace_ms: u64, max: usize, apply: bool },
    Advance(u64),
    Sync { keep_back: u64 },
    Settle,
    Refuse(bool),
    Crash { snapshot_at: Option<prop::sample::Index> },
}

#[derive(Debug, Clone)]
struct Variant {
    stock: u64,
    limit: u32,
    quantity_max: u32,
    group: Option<usize>,
    counts_released: bool,
    item: usize,
    times: (Option<u64>, Option<u64>),
}

impl Variant {
    fn spec(&self) -> SaleSpec {
        SaleSpec {
            item: WORDS[self.item].to_owned(),
            per_buyer_limit: self.limit,
            quantity_max: self.quantity_max,
            limit_group: self.group.map(|group| WORDS[group].to_owned()),
            limit_counts_released: self.counts_released,
            opens_at_ms: self.times.0,
            closes_at_ms: self.times.1,
            ..spec(self.stock)
        }
    }
}

fn variant() -> impl Strategy<Value = Variant> {
    let times = prop_oneof![
        6 => Just((Some(0), None)),
        1 => Just((None, None)),
        1 => Just((Some(2_000), Some(9_000))),
    ];
    let stock = prop_oneof![9 => Just(4_u64), 1 => Just(5)];
    (stock, 1..4_u32, 1..4_u32, prop::option::of(0..2_usize), any::<bool>(), 0..2_usize, times).prop_map(
        |(stock, limit, quantity_max, group, counts_released, item, times)| Variant {
            stock,
            limit,
            quantity_max,
            group,
            counts_released,
            item,
            times,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let sale = 0..SALES.len();
    prop_oneof![
        3 => (sale.clone(), variant()).prop_map(|(sale, variant)| Op::Put { sale, variant }),
        1 => (sale.clone(), any::<bool>()).prop_map(|(sale, open)| Op::Switch { sale, open }),
        2 => (sale.clone(), 0..3_usize, 0..3_u64)
            .prop_map(|(sale, id, quantity)| Op::Restock { sale, id, quantity }),
        14 => (sale, 0..BUYERS.len(), 0..4_u32, prop::option::of(0..3_usize), 0..2_u64)
            .prop_map(|(sale, buyer, quantity, key, body)| Op::Reserve { sale, buyer, quantity, key, body }),
        14 => (any::<usize>(), 0..7_u8, 0..2_usize)
            .prop_map(|(ticket, kind, word)| Op::Move { ticket, kind, word }),
        3 => (0..2_000_u64, prop_oneof![Just(1_usize), Just(100)], any::<bool>())
            .prop_map(|(grace_ms, max, apply)| Op::Due { grace_ms, max, apply }),
        3 => (0..4_000_u64).prop_map(Op::Advance),
        4 => (0..4_u64).prop_map(|keep_back| Op::Sync { keep_back }),
        4 => Just(Op::Settle),
        1 => prop::bool::weighted(0.3).prop_map(Op::Refuse),
        2 => prop::option::of(any::<prop::sample::Index>()).prop_map(|snapshot_at| Op::Crash { snapshot_at }),
    ]
}

#[derive(Debug, Clone)]
struct Ticket {
    view: TicketView,
    key: Option<String>,
    body: u64,
    refunds: Vec<String>,
    released_at: Option<Lsn>,
}

#[derive(Debug, Clone)]
struct Sale {
    spec: SaleSpec,
    switch: SaleSwitch,
    restocks: BTreeMap<String, (u64, Lsn)>,
    lsn: Lsn,
}

/// All by recount, nothing by counter.
#[derive(Debug, Clone, Default)]
struct State {
    sales: BTreeMap<String, Sale>,
    tickets: Vec<Ticket>,
}

impl State {
    fn of<'a>(&'a self, sale: &'a str) -> impl Iterator<Item = &'a Ticket> {
        self.tickets.iter().filter(move |ticket| &*ticket.view.sale == sale)
    }

    fn stock(&self, sale: &str, settled: Lsn) -> Stock {
        let s = &self.sales[sale];
        let units = |wanted: &dyn Fn(&Ticket) -> bool| -> u64 {
            self.of(sale).filter(|t| wanted(t)).map(|t| u64::from(t.view.quantity)).sum()
        };
        let restocked: u64 = s.restocks.values().map(|(quantity, _)| quantity).sum();
        let coming: u64 =
            s.restocks.values().filter(|(_, lsn)| *lsn > settled).map(|(quantity, _)| quantity).sum();
        let returning = coming + units(&|t| t.released_at.is_some_and(|lsn| lsn > settled));
        let sold = units(&|t| t.view.status == TicketStatus::Paid);
        let held = units(&|t| !t.view.status.is_terminal()) + returning;
        Stock {
            initial: s.spec.stock,
            restocked,
            available: s.spec.stock + restocked - held - sold,
            held,
            sold,
            returned: units(&|t| t.released_at.is_some()),
        }
    }
}

struct Model {
    state: State,
    /// State after each record; a crash goes back to one of them.
    history: Vec<State>,
    settled: Lsn,
    now_ms: u64,
    refuse: bool,
}

#[derive(Debug, PartialEq)]
struct Refused;

impl Model {
    fn next_lsn(&self) -> Result<Lsn, Refused> {
        if self.refuse { Err(Refused) } else { Ok(Lsn(self.history.len() as u64)) }
    }

    fn recorded(&mut self) {
        self.history.push(self.state.clone());
    }

    fn put(&mut self, sale: &str, spec: &SaleSpec) -> Result<Result<SalePut, SaleError>, Refused> {
        let put = match self.state.sales.get(sale) {
            None => SalePut::Created,
            Some(known) if known.spec.stock != spec.stock => {
                return Ok(Err(SaleError::StockAlreadySet { stock: known.spec.stock }));
            }
            Some(known) if &known.spec == spec => return Ok(Ok(SalePut::Unchanged)),
            Some(_) => SalePut::Changed,
        };
        let lsn = self.next_lsn()?;
        let fresh =
            Sale { spec: spec.clone(), switch: SaleSwitch::Scheduled, restocks: BTreeMap::new(), lsn };
        let entry = self.state.sales.entry(sale.to_owned()).or_insert(fresh);
        entry.spec = spec.clone();
        entry.lsn = lsn;
        self.recorded();
        Ok(Ok(put))
    }

    fn switch(&mut self, sale: &str, to: SaleSwitch) -> Result<Result<(), SaleError>, Refused> {
        match self.state.sales.get(sale) {
            None => return Ok(Err(SaleError::NotFound)),
            Some(known) if known.switch == to => return Ok(Ok(())),
            Some(_) => {}
        }
        let lsn = self.next_lsn()?;
        let known = self.state.sales.get_mut(sale).unwrap();
        known.switch = to;
        known.lsn = lsn;
        self.recorded();
        Ok(Ok(()))
    }

    fn restock(&mut self, sale: &str, id: &str, quantity: u64) -> Result<Result<(), SaleError>, Refused> {
        let Some(known) = self.state.sales.get(sale) else { return Ok(Err(SaleError::NotFound)) };
        match known.restocks.get(id) {
            Some((before, _)) if *before == quantity => return Ok(Ok(())),
            Some((before, _)) => return Ok(Err(SaleError::RestockMismatch { quantity: *before })),
            None if quantity == 0 => {
                return Ok(Err(SaleError::Invalid("quantity must be at least 1".to_owned())));
            }
            None => {}
        }
        let lsn = self.next_lsn()?;
        let known = self.state.sales.get_mut(sale).unwrap();
        known.restocks.insert(id.to_owned(), (quantity, lsn));
        known.lsn = lsn;
        self.recorded();
        Ok(Ok(()))
    }

    /// The epoch of a sold-out answer is checked beside the model.
    fn reserve(&mut self, r: &Reserve<'_>, epoch: Epoch) -> Result<ReserveOutcome, Refused> {
        let Some(sale) = self.state.sales.get(r.sale).cloned() else {
            return Ok(ReserveOutcome::SaleNotFound);
        };
        let same_key = |t: &&Ticket| &*t.view.buyer == r.buyer && t.key.as_deref() == r.idempotency_key;
        if r.idempotency_key.is_some()
            && let Some(ticket) = self.state.of(r.sale).find(same_key)
        {
            return Ok(if ticket.body == r.body_hash {
                ReserveOutcome::Repeat { ticket: ticket.view.clone() }
            } else {
                ReserveOutcome::IdempotencyMismatch
            });
        }
        let spec = &sale.spec;
        if r.quantity == 0 || r.quantity > spec.quantity_max {
            return Ok(ReserveOutcome::BadQuantity { quantity_max: spec.quantity_max });
        }
        if sale.switch == SaleSwitch::Closed || spec.closes_at_ms.is_some_and(|at| r.now_ms >= at) {
            return Ok(ReserveOutcome::Closed);
        }
        if sale.switch == SaleSwitch::Scheduled && spec.opens_at_ms.is_none_or(|at| r.now_ms < at) {
            return Ok(ReserveOutcome::NotOpen { opens_at_ms: spec.opens_at_ms });
        }
        let group = spec.limit_group.clone();
        let shares = |name: &str| match &group {
            Some(_) => self.state.sales[name].spec.limit_group == group,
            None => name == r.sale,
        };
        let counted: Vec<_> = self
            .state
            .tickets
            .iter()
            .filter(|t| &*t.view.buyer == r.buyer && shares(&t.view.sale))
            .filter(|t| spec.limit_counts_released || t.released_at.is_none())
            .collect();
        if counted.iter().map(|t| t.view.quantity).sum::<u32>() + r.quantity > spec.per_buyer_limit {
            let mut tickets: Vec<_> = counted.iter().map(|t| t.view.ticket).collect();
            tickets.sort_unstable();
            let lsn = counted.iter().map(|t| t.view.lsn).max().unwrap_or_default();
            return Ok(ReserveOutcome::LimitReached { tickets, lsn });
        }
        let available = self.state.stock(r.sale, self.settled).available;
        if available == 0 {
            return Ok(ReserveOutcome::SoldOut { epoch });
        }
        if available < u64::from(r.quantity) {
            return Ok(ReserveOutcome::NotEnoughStock { available });
        }
        let lsn = self.next_lsn()?;
        let view = TicketView {
            ticket: r.ticket,
            sale: r.sale.into(),
            item: spec.item.as_str().into(),
            buyer: r.buyer.into(),
            quantity: r.quantity,
            status: TicketStatus::Queued,
            version: 1,
            won_at_ms: r.now_ms,
            deadline_ms: r.now_ms + spec.order_deadline_ms,
            updated_at_ms: r.now_ms,
            order_id: None,
            pay_by_ms: None,
            payment_id: None,
            reason: None,
            lsn,
        };
        self.state.tickets.push(Ticket {
            view: view.clone(),
            key: r.idempotency_key.map(str::to_owned),
            body: r.body_hash,
            refunds: Vec::new(),
            released_at: None,
        });
        self.state.sales.get_mut(r.sale).unwrap().lsn = lsn;
        self.recorded();
        Ok(ReserveOutcome::Won { ticket: view })
    }

    fn transition(
        &mut self,
        id: TicketId,
        t: Transition<'_>,
        now_ms: u64,
    ) -> Result<TransitionOutcome, Refused> {
        use TicketStatus::*;
        let Some(position) = self.state.tickets.iter().position(|ticket| ticket.view.ticket == id) else {
            return Ok(TransitionOutcome::TicketNotFound);
        };
        let mut ticket = self.state.tickets[position].clone();
        let view = &mut ticket.view;
        let wrong = |view: &TicketView, refund_required| {
            Ok(TransitionOutcome::WrongState { ticket: view.clone(), refund_required })
        };
        let (from, to, reason) = match t {
            Transition::Created { .. } => (Queued, AwaitingPayment, None),
            Transition::Rejected { reason } => (Queued, Rejected, Some(reason)),
            Transition::Paid { .. } => (AwaitingPayment, Paid, None),
            Transition::Cancelled { reason } => (AwaitingPayment, Cancelled, Some(reason)),
            Transition::Expire => (AwaitingPayment, Expired, Some("pay_window")),
            Transition::Drop => (Queued, Dropped, Some("order_deadline")),
            Transition::Fail { reason } => (Queued, Failed, Some(reason)),
        };
        let mut refund = false;
        if let Transition::Paid { payment_id } = t {
            if ticket.refunds.iter().any(|known| known == payment_id) {
                return wrong(view, true);
            }
            refund = view.status != from
                && !(view.status == Paid && view.payment_id.as_deref() == Some(payment_id));
        }
        if !refund && view.status != from {
            let repeat = match t {
                Transition::Created { order_id } => {
                    matches!(view.status, AwaitingPayment | Paid)
                        && view.order_id.as_deref() == Some(order_id)
                }
                Transition::Paid { .. } => true,
                _ => view.status == to && view.reason.as_deref() == reason,
            };
            return if repeat { Ok(TransitionOutcome::Repeat(view.clone())) } else { wrong(view, false) };
        }
        let due_ms = match t {
            Transition::Drop => view.deadline_ms,
            Transition::Expire => view.pay_by_ms.unwrap(),
            _ => 0,
        };
        if now_ms < due_ms {
            return Ok(TransitionOutcome::NotDue(view.clone()));
        }
        let lsn = self.next_lsn()?;
        let sale = view.sale.clone();
        view.lsn = lsn;
        let outcome = if refund {
            let Transition::Paid { payment_id } = t else { unreachable!() };
            ticket.refunds.push(payment_id.to_owned());
            wrong(view, true)
        } else {
            view.status = to;
            view.version += 1;
            view.updated_at_ms = now_ms;
            view.reason = reason.map(Into::into);
            match t {
                Transition::Created { order_id } => {
                    view.order_id = Some(order_id.into());
                    view.pay_by_ms = Some(now_ms + self.state.sales[&*sale].spec.pay_window_ms);
                }
                Transition::Paid { payment_id } => view.payment_id = Some(payment_id.into()),
                _ => ticket.released_at = Some(lsn),
            }
            Ok(TransitionOutcome::Done(view.clone()))
        };
        self.state.tickets[position] = ticket;
        self.state.sales.get_mut(&*sale).unwrap().lsn = lsn;
        self.recorded();
        outcome
    }

    fn due(&self, grace_ms: u64) -> Vec<(TicketId, Proposal)> {
        let late = |at_ms: u64| at_ms + grace_ms < self.now_ms;
        let views = self.state.tickets.iter().map(|ticket| &ticket.view);
        let due = views.filter_map(|view| match view.status {
            TicketStatus::Queued => late(view.deadline_ms).then_some((view.ticket, Proposal::Drop)),
            TicketStatus::AwaitingPayment => late(view.pay_by_ms?).then_some((view.ticket, Proposal::Expire)),
            _ => None,
        });
        due.collect()
    }
}

/// The ledger under test beside its model.
struct Pair {
    ledger: Ledger<MemoryJournal>,
    journal: MemoryJournal,
    model: Model,
    /// All ids ever tried.
    ids: Vec<TicketId>,
    /// Newest epoch seen of each sale.
    epochs: BTreeMap<String, Epoch>,
}

fn sorted(outcome: ReserveOutcome) -> ReserveOutcome {
    match outcome {
        ReserveOutcome::LimitReached { mut tickets, lsn } => {
            tickets.sort_unstable();
            ReserveOutcome::LimitReached { tickets, lsn }
        }
        other => other,
    }
}

/// The journal's refusal as the model knows it; other errors of the operation stay.
fn sale_result<T>(result: Result<T, SaleError>) -> Result<Result<T, SaleError>, Refused> {
    match result {
        Err(SaleError::Journal(_)) => Err(Refused),
        other => Ok(other),
    }
}

impl Pair {
    fn new() -> Self {
        let journal = MemoryJournal::new();
        let ledger = Ledger::new(journal.clone(), LedgerLimits::default());
        ledger.begin_generation();
        let model = Model {
            state: State::default(),
            history: vec![State::default()],
            settled: Lsn(0),
            now_ms: 1_000,
            refuse: false,
        };
        // The history's index is the position after that many records, so the first record has position 1.
        Self { ledger, journal, model, ids: Vec::new(), epochs: BTreeMap::new() }
    }

    fn run(&mut self, op: &Op) {
        let now_ms = self.model.now_ms;
        match op {
            Op::Put { sale, variant } => {
                let spec = variant.spec();
                let got = sale_result(self.ledger.put_sale(SALES[*sale], &spec, now_ms).map(|(_, put)| put));
                assert_eq!(got, self.model.put(SALES[*sale], &spec));
            }
            Op::Switch { sale, open } => {
                let (to, got) = if *open {
                    (SaleSwitch::Open, self.ledger.open_sale(SALES[*sale], now_ms))
                } else {
                    (SaleSwitch::Closed, self.ledger.close_sale(SALES[*sale], now_ms))
                };
                assert_eq!(sale_result(got.map(drop)), self.model.switch(SALES[*sale], to));
            }
            Op::Restock { sale, id, quantity } => {
                let id = format!("restock-{id}");
                let got = self.ledger.restock(SALES[*sale], &id, *quantity, now_ms);
                assert_eq!(sale_result(got.map(drop)), self.model.restock(SALES[*sale], &id, *quantity));
            }
            Op::Reserve { sale, buyer, quantity, key, body } => {
                let ticket = TicketId(self.ids.len() as u128 + 1);
                self.ids.push(ticket);
                let key = key.map(|key| format!("key-{key}"));
                let reserve = Reserve {
                    ticket,
                    sale: SALES[*sale],
                    buyer: BUYERS[*buyer],
                    quantity: *quantity,
                    idempotency_key: key.as_deref(),
                    body_hash: *body,
                    attributes: "{}",
                    now_ms,
                };
                let epoch = self.ledger.sale(SALES[*sale]).map(|view| view.epoch).unwrap_or_default();
                let got = self.ledger.reserve(&reserve).map(sorted).map_err(|_| Refused);
                assert_eq!(got, self.model.reserve(&reserve, epoch));
            }
            Op::Move { ticket, kind, word } => {
                // One in a while an id that nobody reserved.
                let id = self.ids.get(ticket % (self.ids.len() + 1)).copied().unwrap_or(TicketId(u128::MAX));
                let word = WORDS[*word];
                let transition = match kind {
                    0 => Transition::Created { order_id: word },
                    1 => Transition::Rejected { reason: word },
                    2 => Transition::Paid { payment_id: word },
                    3 => Transition::Cancelled { reason: word },
                    4 => Transition::Expire,
                    5 => Transition::Drop,
                    _ => Transition::Fail { reason: word },
                };
                self.transition(id, transition);
            }
            Op::Due { grace_ms, max, apply } => {
                let mut got = self.ledger.due(now_ms, *grace_ms, *max);
                let mut want = self.model.due(*grace_ms);
                assert_eq!(got.len(), want.len().min(*max));
                got.sort_unstable_by_key(|(id, _)| *id);
                want.sort_unstable_by_key(|(id, _)| *id);
                assert!(got.iter().all(|proposal| want.contains(proposal)), "{got:?} of {want:?}");
                for (id, proposal) in got.into_iter().filter(|_| *apply) {
                    self.transition(
                        id,
                        if proposal == Proposal::Drop { Transition::Drop } else { Transition::Expire },
                    );
                }
            }
            Op::Advance(by_ms) => self.model.now_ms += by_ms,
            Op::Sync { keep_back } => {
                self.journal.set_durable(Lsn(self.journal.end().0.saturating_sub(*keep_back)));
            }
            Op::Settle => self.settle(),
            Op::Refuse(refuse) => {
                self.model.refuse = *refuse;
                self.journal.refuse(refuse.then_some(JournalError::NoSpace));
            }
            Op::Crash { snapshot_at } => self.crash(snapshot_at.as_ref()),
        }
    }

    fn transition(&mut self, id: TicketId, transition: Transition<'_>) {
        let now_ms = self.model.now_ms;
        let got = self.ledger.transition(id, transition, now_ms).map_err(|_| Refused);
        assert_eq!(got, self.model.transition(id, transition, now_ms));
    }

    fn settle(&mut self) {
        let durable = self.journal.durable();
        let available = |model: &Model, settled| -> Vec<u64> {
            model.state.sales.keys().map(|sale| model.state.stock(sale, settled).available).collect()
        };
        let before = available(&self.model, self.model.settled);
        self.model.settled = durable;
        let after = available(&self.model, durable);
        let left_zero = self.model.state.sales.keys().zip(before.iter().zip(&after));
        let want: Vec<_> = left_zero
            .filter(|(_, (before, after))| **before == 0 && **after > 0)
            .map(|(sale, _)| sale)
            .collect();
        let mut got = self.ledger.settle(durable);
        got.sort_by(|a, b| a.sale.cmp(&b.sale));
        assert_eq!(got.iter().map(|reopened| &*reopened.sale).collect::<Vec<_>>(), want);
        for reopened in got {
            assert!(reopened.epoch > self.epochs[&*reopened.sale], "a reopening has a newer epoch");
        }
    }

    fn crash(&mut self, snapshot_at: Option<&prop::sample::Index>) {
        let generation = self.ledger.sales().first().map(|view| view.epoch.generation);
        let journal = self.journal.after_crash();
        let durable = journal.durable();
        let limits = LedgerLimits::default();
        let (ledger, from) = match snapshot_at {
            Some(index) => {
                let cut = Lsn(index.index(durable.0 as usize + 1) as u64);
                let copy = Ledger::new(MemoryJournal::new(), limits);
                let prefix = MemoryJournal::with_records(journal.records()[..cut.0 as usize].to_vec());
                prefix.replay(&copy, Lsn(0)).unwrap();
                let mut bytes = Vec::new();
                copy.write_snapshot(cut, &mut bytes).unwrap();
                Ledger::restore(journal.clone(), limits, bytes.as_slice()).unwrap()
            }
            None => (Ledger::new(journal.clone(), limits), Lsn(0)),
        };
        journal.replay(&ledger, from).unwrap();
        ledger.begin_generation();
        if let (Some(before), Some(after)) = (generation, ledger.sales().first().map(|v| v.epoch.generation))
        {
            assert!(after >= before, "the generation never falls");
        }
        self.model.state = self.model.history[durable.0 as usize].clone();
        self.model.history.truncate(durable.0 as usize + 1);
        self.model.settled = durable;
        self.model.refuse = false;
        // What waited for units that a crash took from others is another process now: flags begin anew.
        self.epochs.clear();
        (self.ledger, self.journal) = (ledger, journal);
    }

    /// Everything that can be asked.
    fn compare(&mut self) {
        let state = &self.model.state;
        let views = self.ledger.sales();
        assert_eq!(views.len(), state.sales.len());
        for view in views {
            let sale = &state.sales[&*view.sale];
            assert_eq!(view.spec, sale.spec);
            assert_eq!(view.switch, sale.switch);
            assert_eq!(view.stock, state.stock(&view.sale, self.model.settled));
            assert_eq!(view.lsn, sale.lsn);
            assert_holds(&self.ledger, &view.sale);
            let audit = self.ledger.audit(&view.sale).unwrap();
            for (status, count) in audit.tickets {
                assert_eq!(count, state.of(&view.sale).filter(|t| t.view.status == status).count() as u64);
            }
            let epoch = self.epochs.entry(view.sale.to_string()).or_default();
            assert!(view.epoch >= *epoch, "epochs never fall");
            *epoch = view.epoch;
            for buyer in BUYERS {
                let of_buyer = state.of(&view.sale).filter(|t| &*t.view.buyer == buyer);
                let want: Vec<_> = of_buyer.map(|t| t.view.clone()).collect();
                assert_eq!(self.ledger.tickets_of(&view.sale, buyer).unwrap(), want);
            }
        }
        for id in &self.ids {
            let want = state.tickets.iter().find(|t| t.view.ticket == *id).map(|t| t.view.clone());
            assert_eq!(self.ledger.status_of(*id), want.as_ref().map(|view| (view.status, view.lsn)));
            assert_eq!(self.ledger.ticket(*id), want);
        }
        let live = state.tickets.iter().filter(|t| !t.view.status.is_terminal()).count();
        assert_eq!(self.ledger.live_tickets(), live as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ledger_answers_like_the_model_through_crashes(ops in prop::collection::vec(op(), 1..120)) {
        let mut pair = Pair::new();
        // Two sales from the start, or most operations would find none.
        for (sale, group) in [(0, None), (1, Some(0))] {
            let variant = Variant {
                stock: 4, limit: 2, quantity_max: 2, group, counts_released: false, item: 0, times: (Some(0), None),
            };
            pair.run(&Op::Put { sale, variant });
        }
        for op in &ops {
            pair.run(op);
            pair.compare();
        }
    }
}
