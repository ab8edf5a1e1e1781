//! The crowd: generator threads, each with its own runtime, calendar and connections.
//!
//! A thread's calendar is the arrival plan merged with what answers led to. What is due moves to the ready queue,
//! from where a fixed number of connections take it. When all connections are busy a request waits here, and its
//! latency keeps running from the instant it was due.

use super::answer::Answer;
use super::book::Book;
use super::connection::Connection;
use super::errand::{Due, Errand, Follow, Order};
use super::next_step::{Habits, Step};
use super::ready::Ready;
use super::tally::{Outcome, Tally};
use crate::clock::{Clock, Micros};
use crate::evidence::BuyersSaw;
use crate::gateway::{Member, Roster};
use crate::scenario::{Abusers, Scenario, is_made_up};
use crate::schedule::{Arrival, Persona, arrivals, persona};
use crate::seeded::Seed;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Empty;
use std::cell::{Cell, RefCell};
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tidegate_client::wire::ProblemType;
use tokio::sync::Notify;

/// The calendar is looked at this often at least, to see that the sale is over.
const LOOK_US: Micros = 20_000;
/// A long poll waits this long at the gateway; well under the request timeout.
const POLL_WAIT_S: u64 = 2;

/// Figures of a run that is under way, for progress, faults and the end of the sale.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) offered: AtomicU64,
    pub(crate) answered: AtomicU64,
    /// Distinct tickets told.
    pub(crate) won: AtomicU64,
    pub(crate) sold_out: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) unsent: AtomicU64,
    /// Threads whose arrival plan is through.
    pub(crate) arrived: AtomicU64,
    stop: AtomicBool,
    abandon: AtomicBool,
}

impl Live {
    /// There is no gateway any more: nobody waits for an answer.
    pub(crate) fn abandon(&self) {
        self.abandon.store(true, Relaxed);
        self.stop.store(true, Relaxed);
    }

    pub(crate) fn abandoned(&self) -> bool {
        self.abandon.load(Relaxed)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// All generator threads.
pub(crate) struct Crowd {
    threads: Vec<JoinHandle<std::io::Result<(Tally, BuyersSaw)>>>,
    live: Arc<Live>,
}

impl Crowd {
    /// Starts the threads; the first buyer arrives at `start_us`.
    pub(crate) fn start(
        scenario: &Scenario,
        sale: &str,
        roster: &Arc<Roster>,
        seed: Seed,
        clock: Clock,
        start_us: Micros,
        live: Arc<Live>,
    ) -> std::io::Result<Self> {
        let threads = thread_count(scenario);
        let habits = Habits {
            buyers: scenario.buyers.clone(),
            generator: scenario.generator.clone(),
            seed,
            abusers: scenario.abusers,
        };
        let threads = (0..threads)
            .map(|thread| {
                let (habits, live, sale) = (habits.clone(), Arc::clone(&live), sale.to_owned());
                let roster = Arc::clone(roster);
                std::thread::Builder::new().name(format!("buyers-{thread}")).spawn(move || {
                    let plan = arrivals(&habits.buyers, seed, thread, threads)
                        .map(|a| Arrival { at_us: a.at_us + start_us, ..a });
                    let abusers = habits.abusers.map_or(0, |abusers| abusers.count(habits.buyers.count));
                    let first = Abusers::arrivals(abusers, &habits.buyers, seed, thread, threads)
                        .map(|a| Arrival { at_us: a.at_us + start_us, ..a });
                    run_thread(&habits, roster, sale, clock, live, plan, first)
                })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { threads, live })
    }

    pub(crate) fn threads(&self) -> u64 {
        self.threads.len() as u64
    }

    /// Buyers stop coming back; those without an answer go on asking within their bound.
    pub(crate) fn stop(&self) {
        self.live.stop.store(true, Relaxed);
    }

    /// What all buyers saw, once the last of them has given up or has an answer. Call after [`Crowd::stop`].
    pub(crate) fn join(self) -> std::io::Result<(Tally, BuyersSaw)> {
        let (mut tally, mut saw) = (Tally::default(), BuyersSaw::default());
        for thread in self.threads {
            let (its_tally, its_saw) =
                thread.join().map_err(|_| std::io::Error::other("a generator thread panicked"))??;
            tally.absorb(its_tally);
            saw.absorb(its_saw);
        }
        Ok((tally, saw))
    }
}

fn thread_count(scenario: &Scenario) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let wanted = if scenario.generator.threads == 0 { cores / 2 } else { scenario.generator.threads };
    wanted.clamp(1, scenario.buyers.count)
}

struct Desk {
    habits: Habits,
    roster: Arc<Roster>,
    sale: String,
    order_path: String,
    clock: Clock,
    live: Arc<Live>,
    calendar: RefCell<BinaryHeap<Due>>,
    calendar_changed: Notify,
    orders: Ready,
    polls: Ready,
    /// Orders that are ready, under way, or waiting for a retry.
    open: Cell<u64>,
    tally: RefCell<Tally>,
    book: RefCell<Book>,
}

fn run_thread(
    habits: &Habits,
    roster: Arc<Roster>,
    sale: String,
    clock: Clock,
    live: Arc<Live>,
    plan: impl Iterator<Item = Arrival>,
    abusers: impl Iterator<Item = Arrival>,
) -> std::io::Result<(Tally, BuyersSaw)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let generator = habits.generator.clone();
    let desk = Rc::new(Desk {
        order_path: format!("/v1/sales/{sale}/orders"),
        sale,
        roster,
        clock,
        live,
        calendar: RefCell::default(),
        calendar_changed: Notify::new(),
        orders: Ready::new(generator.backlog_max),
        polls: Ready::new(generator.backlog_max),
        open: Cell::new(0),
        tally: RefCell::default(),
        book: RefCell::default(),
        habits: habits.clone(),
    });
    for Arrival { at_us, buyer } in abusers {
        let order = Order { buyer, key: 0, asked_us: at_us, tries: 0, again: false, alone: true, turn: 0 };
        desk.schedule(Due { at_us, errand: Errand::Order(order) });
    }
    let local = tokio::task::LocalSet::new();
    for _ in 0..generator.connections {
        local.spawn_local(serve_orders(Rc::clone(&desk)));
    }
    for _ in 0..generator.poll_connections {
        local.spawn_local(serve_polls(Rc::clone(&desk)));
    }
    local.block_on(&runtime, dispatch(&desk, plan));
    // Connections hold the desk; they end with their set.
    drop(local);
    drop(runtime);
    Ok((desk.tally.take(), desk.book.take().into_seen()))
}

/// Moves errands from plan and calendar to the connections as they fall due, until the sale is over and every
/// order has its answer or has given up.
async fn dispatch(desk: &Desk, plan: impl Iterator<Item = Arrival>) {
    let mut plan = plan.peekable();
    let mut all_arrived = false;
    loop {
        let now_us = desk.clock.now_us();
        while let Some(arrival) = plan.next_if(|arrival| arrival.at_us <= now_us) {
            desk.arrive(arrival);
        }
        if plan.peek().is_none() && !all_arrived {
            all_arrived = true;
            desk.live.arrived.fetch_add(1, Relaxed);
        }
        desk.release_due(now_us);
        if desk.live.stopping() {
            // A sale that is stopped early takes nobody new.
            plan.by_ref().for_each(drop);
            if desk.open.get() == 0 || desk.live.abandoned() {
                return;
            }
        }
        let next_us = plan.peek().map_or(Micros::MAX, |arrival| arrival.at_us);
        let next_us = next_us.min(desk.next_in_calendar_us()).min(now_us + LOOK_US);
        tokio::select! {
            () = tokio::time::sleep_until(desk.clock.instant(next_us)) => {}
            () = desk.calendar_changed.notified() => {}
        }
    }
}

async fn serve_orders(desk: Rc<Desk>) {
    let mut connection = Connection::new(Duration::from_millis(desk.habits.generator.request_timeout_ms));
    loop {
        let due = desk.orders.pop().await;
        let Errand::Order(order) = due.errand else { continue };
        let now_us = desk.clock.now_us();
        desk.tally.borrow_mut().left(now_us.saturating_sub(due.at_us));
        let order = order.leaving(persona(&desk.habits.buyers, desk.habits.seed, order.buyer), now_us);
        let members = desk.roster.members();
        let request = |member: &Member| desk.order_request(order, member);
        let (answer, gateway) = connection.exchange(&members, desk.habits.route(order), request, 202).await;
        desk.settle_order(due.at_us, order, &answer, gateway);
    }
}

async fn serve_polls(desk: Rc<Desk>) {
    let mut connection = Connection::new(Duration::from_millis(desk.habits.generator.request_timeout_ms));
    loop {
        let due = desk.polls.pop().await;
        let Errand::Follow(follow) = due.errand else { continue };
        let members = desk.roster.members();
        let request = |member: &Member| Desk::poll_request(follow, member);
        let (answer, _) = connection.exchange(&members, desk.habits.poll_route(follow), request, 200).await;
        desk.settle_poll(follow, &answer);
    }
}

impl Desk {
    fn arrive(&self, arrival: Arrival) {
        let Arrival { at_us, buyer } = arrival;
        let keys: &[u8] = match persona(&self.habits.buyers, self.habits.seed, buyer) {
            Persona::Plain => &[0],
            Persona::PressesTwice => &[0, 0],
            Persona::Cheats => &[0, 1],
        };
        let alone = keys != [0, 0];
        for (turn, &key) in (0..).zip(keys) {
            let order = Order { buyer, key, asked_us: at_us, tries: 0, again: false, alone, turn };
            self.open(Due { at_us, errand: Errand::Order(order) });
        }
    }

    /// A new chain begins.
    fn open(&self, due: Due) {
        self.open.set(self.open.get() + 1);
        self.send(due);
    }

    /// An order request is due.
    fn send(&self, due: Due) {
        self.tally.borrow_mut().offered += 1;
        self.live.offered.fetch_add(1, Relaxed);
        if !self.orders.push(due) {
            self.tally.borrow_mut().unsent += 1;
            self.live.unsent.fetch_add(1, Relaxed);
            if matches!(due.errand, Errand::Order(order) if order.tries > 0) {
                self.book.borrow_mut().unresolved();
            }
            self.close();
        }
    }

    fn close(&self) {
        self.open.set(self.open.get() - 1);
    }

    fn schedule(&self, due: Due) {
        self.calendar.borrow_mut().push(due);
        self.calendar_changed.notify_one();
    }

    fn next_in_calendar_us(&self) -> Micros {
        self.calendar.borrow().peek().map_or(Micros::MAX, |due| due.at_us)
    }

    fn release_due(&self, now_us: Micros) {
        let stopping = self.live.stopping();
        loop {
            let mut calendar = self.calendar.borrow_mut();
            if calendar.peek().is_none_or(|due| due.at_us > now_us) {
                return;
            }
            let Some(due) = calendar.pop() else { return };
            drop(calendar);
            match due.errand {
                // A retry: its chain is open.
                Errand::Order(order) if order.tries > 0 => self.send(due),
                Errand::Order(_) if !stopping => self.open(due),
                // A poll that finds no room is one poll less; the ticket is looked at again at the end.
                Errand::Follow(_) if !stopping => drop(self.polls.push(due)),
                Errand::Order(_) | Errand::Follow(_) => {}
            }
        }
    }

    fn settle_order(&self, due_us: Micros, order: Order, answer: &Answer, gateway: u32) {
        let now_us = self.clock.now_us();
        let outcome = match answer {
            Answer::Lost => {
                self.tally.borrow_mut().lost += 1;
                self.live.lost.fetch_add(1, Relaxed);
                None
            }
            Answer::Refused(problem) | Answer::Later(problem, _) => Some(Outcome::Refused(*problem)),
            Answer::NotYet(problem, ticket) => {
                self.book.borrow_mut().not_yet(order, *ticket);
                Some(Outcome::Refused(*problem))
            }
            Answer::Undocumented(what) => {
                self.book.borrow_mut().undocumented(what);
                Some(Outcome::Undocumented)
            }
            Answer::Ticket(ticket) => {
                let outcome = self.book.borrow_mut().told(order, *ticket, gateway, now_us);
                if outcome == Outcome::Won {
                    self.live.won.fetch_add(1, Relaxed);
                    if self.habits.follows(order.buyer) {
                        let follow = Follow {
                            ticket: ticket.ticket,
                            buyer: order.buyer,
                            version: ticket.version,
                            turn: 0,
                        };
                        self.schedule(Due { at_us: now_us, errand: Errand::Follow(follow) });
                    }
                    if let Some(due) = self.habits.ask_again(order, now_us) {
                        self.schedule(due);
                    }
                }
                Some(outcome)
            }
        };
        if let Some(outcome) = outcome {
            self.tally.borrow_mut().answer(outcome, now_us.saturating_sub(due_us));
            if outcome != Outcome::Refused(ProblemType::SoldOut) {
                self.tally.borrow_mut().contest[usize::from(is_made_up(order.buyer))] += 1;
            }
            self.live.answered.fetch_add(1, Relaxed);
            if outcome == Outcome::Refused(ProblemType::SoldOut) {
                self.live.sold_out.fetch_add(1, Relaxed);
            }
        }
        match self.habits.after_order(order, answer, now_us) {
            Step::Retry(due) => self.schedule(due),
            Step::ComeBack(due) => {
                self.settled(order, answer);
                self.schedule(due);
            }
            Step::Done => self.settled(order, answer),
            Step::Unresolved => {
                self.book.borrow_mut().unresolved();
                self.close();
            }
        }
        if self.open.get() == 0 && self.live.stopping() {
            self.calendar_changed.notify_one();
        }
    }

    /// A chain has its answer.
    fn settled(&self, order: Order, answer: &Answer) {
        if let Answer::Refused(problem) | Answer::Later(problem, _) = answer {
            self.book.borrow_mut().refused(order, *problem);
        }
        self.close();
    }

    fn settle_poll(&self, follow: Follow, answer: &Answer) {
        let now_us = self.clock.now_us();
        self.tally.borrow_mut().polls += 1;
        match answer {
            Answer::Ticket(ticket) => self.book.borrow_mut().polled(*ticket, now_us),
            Answer::Undocumented(what) => self.book.borrow_mut().undocumented(what),
            Answer::Refused(_) | Answer::Later(..) | Answer::NotYet(..) | Answer::Lost => {}
        }
        if let Some(due) = Habits::after_poll(follow, answer, now_us) {
            self.schedule(due);
        }
    }

    fn order_request(&self, order: Order, member: &Member) -> http::Result<Request<Empty<Bytes>>> {
        self.with_its_address(Request::builder(), order.buyer)
            .method(Method::POST)
            .uri(self.order_path.as_str())
            .header(header::HOST, member.host.as_str())
            .header(header::CONTENT_LENGTH, "0")
            .header("x-user-id", buyer_name(order.buyer))
            .header("idempotency-key", format!("{}-{}-{}", self.sale, order.buyer, order.key))
            .body(Empty::new())
    }

    /// As a proxy in front of the gateway says it.
    fn with_its_address(&self, request: http::request::Builder, buyer: u32) -> http::request::Builder {
        match &self.habits.abusers {
            Some(abusers) => {
                let address = abusers.address(buyer, self.habits.buyers.count, self.habits.seed);
                request.header("x-forwarded-for", address.to_string())
            }
            None => request,
        }
    }

    fn poll_request(follow: Follow, member: &Member) -> http::Result<Request<Empty<Bytes>>> {
        let Follow { ticket, buyer, version, .. } = follow;
        Request::builder()
            .uri(format!("/v1/tickets/{ticket}?wait={POLL_WAIT_S}&version={version}"))
            .header(header::HOST, member.host.as_str())
            .header("x-user-id", buyer_name(buyer))
            .body(Empty::new())
    }
}

/// The user id of a buyer; [`buyer_index`] is its inverse.
pub(crate) fn buyer_name(buyer: u32) -> String {
    format!("b{buyer}")
}

/// Which of our buyers a user id is; `None` when it is none.
pub(crate) fn buyer_index(name: &str) -> Option<u32> {
    name.strip_prefix('b')?.parse().ok()
}
