//! Each invariant: the smallest change to evidence that holds which must break it.

use super::{Invariant, at_kills, judge};
use crate::evidence::{
    AckSeen, BuyersSaw, CreatedSeen, Delivery, EventSeen, Evidence, ExitSeen, KeyConflict, KillSeen,
    LastLook, OrderRow, PaymentSeen, RowState, Sighting, StopSeen, TicketId, Told, WorkersSaw,
};
use crate::scenario::{Sale, Tokens};
use tidegate_client::wire::TicketStatus::{self, AwaitingPayment, Dropped, Expired, Paid, Queued};
use tidegate_client::wire::{Audit, GroupOffsets, Identity, QueueOffsets};

/// Unix milliseconds at instant 0.
const START_MS: u64 = 1_000_000;
const MS: u64 = 1_000;

fn id(number: u32) -> TicketId {
    TicketId::parse(&format!("01TEST{number:020}")).unwrap()
}

fn told(buyer: u32, told_ms: u64, states: &[(TicketStatus, u32)]) -> Told {
    let seen =
        states.iter().map(|&(status, version)| Sighting { status, version, at_us: told_ms * MS }).collect();
    Told { buyer, key: 0, quantity: 1, asked_us: told_ms * MS - 500, told_us: told_ms * MS, times: 1, seen }
}

fn event(ticket: u32, buyer: u32, at: u64, version: u32, from: TicketStatus, to: TicketStatus) -> EventSeen {
    let at_ms = START_MS + at;
    let (ticket, buyer) = (id(ticket), Some(buyer));
    EventSeen { ticket, buyer, quantity: 1, version, from, to, at_ms, refund_required: false }
}

fn delivery(ticket: u32, buyer: u32, offset: u64, at_ms: u64, ack: AckSeen) -> Delivery {
    Delivery {
        ticket: id(ticket),
        buyer: Some(buyer),
        quantity: 1,
        queue: 0,
        offset,
        deadline_ms: START_MS + 1_000,
        asked_us: (at_ms - 5) * MS,
        received_us: at_ms * MS,
        ack,
    }
}

fn row(ticket: u32, buyer: u32, state: RowState) -> OrderRow {
    OrderRow { ticket: id(ticket), buyer: Some(buyer), quantity: 1, state }
}

fn look(status: TicketStatus, version: u32, won: u64) -> LastLook {
    LastLook::Ticket { status, version, quantity: 1, won_at_ms: START_MS + won }
}

fn created(ticket: u32, at_ms: u64) -> CreatedSeen {
    CreatedSeen { ticket: id(ticket), at_us: at_ms * MS }
}

/// Two units: ticket 1 paid; 2 created and never paid; 3 dropped in the queue; 4, the resold unit of 2 or 3, paid.
fn sound() -> Evidence {
    let ok = |at_ms: u64| AckSeen::Ok(at_ms * MS);
    let identity = Identity { name: "stock".to_owned(), left: 2, right: 2, holds: true };
    let queue = QueueOffsets {
        queue: 0,
        start: 0,
        end: 4,
        floor: 4,
        dropped: vec![(2, 3)],
        dead: vec![],
        skipped: vec![],
    };
    Evidence {
        sale: Sale {
            item: "desk".to_owned(),
            stock: 2,
            per_buyer_limit: 1,
            order_deadline_ms: 900,
            pay_window_ms: 400,
        },
        buyers_count: 10,
        start_wall_us: START_MS * MS,
        buyers: BuyersSaw {
            tickets: [
                (id(1), told(1, 100, &[(Queued, 1), (Paid, 3)])),
                (id(2), told(2, 100, &[(Queued, 1), (Expired, 3)])),
                (id(3), told(3, 610, &[(Queued, 1), (Dropped, 2)])),
                (id(4), told(4, 2_000, &[(Queued, 1)])),
            ]
            .into_iter()
            .collect(),
            ..BuyersSaw::default()
        },
        workers: WorkersSaw {
            deliveries: vec![
                delivery(1, 1, 0, 110, ok(120)),
                delivery(2, 2, 1, 110, ok(120)),
                Delivery { deadline_ms: START_MS + 3_000, ..delivery(4, 4, 3, 2_010, ok(2_020)) },
            ],
            created: vec![created(1, 115), created(2, 115), created(4, 2_015)],
            payments: [1, 4]
                .map(|ticket| PaymentSeen { ticket: id(ticket), quantity: 1, accepted: true })
                .to_vec(),
            ..WorkersSaw::default()
        },
        events: vec![
            event(1, 1, 114, 2, Queued, AwaitingPayment),
            event(1, 1, 200, 3, AwaitingPayment, Paid),
            event(2, 2, 114, 2, Queued, AwaitingPayment),
            event(2, 2, 600, 3, AwaitingPayment, Expired),
            event(3, 3, 1_510, 2, Queued, Dropped),
            event(4, 4, 2_014, 2, Queued, AwaitingPayment),
            event(4, 4, 2_100, 3, AwaitingPayment, Paid),
        ],
        rows: vec![row(1, 1, RowState::Paid), row(2, 2, RowState::Closed), row(4, 4, RowState::Paid)],
        last_look: [
            (id(1), look(Paid, 3, 99)),
            (id(2), look(Expired, 3, 99)),
            (id(3), look(Dropped, 2, 609)),
            (id(4), look(Paid, 3, 1_999)),
        ]
        .into_iter()
        .collect(),
        audit: Ok(Audit {
            sale: "s".to_owned(),
            holds: true,
            initial: 2,
            restocked: 0,
            available: 0,
            held: 0,
            sold: 2,
            returned: 2,
            tickets: [(Paid, 2), (Expired, 1), (Dropped, 1)].into(),
            identities: vec![identity],
        }),
        offsets_before: Vec::new(),
        offsets: Ok(GroupOffsets {
            topic: "orders".into(),
            group: "order-workers".into(),
            queues: vec![queue],
        }),
        tokens: Some(Tokens { rate_per_s: 10, burst: 3, max_wait_ms: 0 }),
        kill_wanted: None,
        kills: Vec::new(),
        stop_wanted: false,
        stop: None,
        restart_failed: None,
        exit: Some(ExitSeen::Clean),
    }
}

fn broken(evidence: &Evidence) -> Vec<Invariant> {
    judge(evidence).into_iter().filter(|invariant| !invariant.holds).collect()
}

/// Changes sound evidence and expects `invariant` to break, with a detail that contains `detail`.
#[track_caller]
fn breaks(invariant: &str, detail: &str, change: impl FnOnce(&mut Evidence)) {
    let mut evidence = sound();
    change(&mut evidence);
    let broken = broken(&evidence);
    let found = broken.iter().find(|broken| broken.name == invariant);
    assert!(found.is_some_and(|found| found.detail.contains(detail)), "{broken:?}");
}

fn audit(evidence: &mut Evidence) -> &mut Audit {
    evidence.audit.as_mut().unwrap()
}

#[test]
fn sound_evidence_passes_every_invariant() {
    let broken = broken(&sound());
    assert!(broken.is_empty(), "{broken:?}");
    let names: Vec<_> = judge(&sound()).iter().map(|invariant| invariant.name).collect();
    assert_eq!(names.len(), 13, "{names:?}");
}

#[test]
fn more_rows_than_stock_is_an_oversell() {
    breaks("no_oversell", "3 units confirmed or paid", |e| e.rows[1].state = RowState::Confirmed);
}

#[test]
fn more_confirmed_at_one_instant_is_an_oversell_even_if_it_settles() {
    breaks("no_oversell", "3 units confirmed and not yet released at one instant", |e| {
        e.workers.created[2].at_us = 300 * MS;
    });
}

#[test]
fn an_audit_above_the_stock_is_an_oversell() {
    breaks("no_oversell", "audit: held 1 + sold 2", |e| audit(e).held = 1);
}

#[test]
fn a_ticket_that_is_not_at_its_end_is_a_lost_winner() {
    breaks("no_lost_winner", "still queued", |e| {
        e.last_look.insert(id(3), look(Queued, 1, 609));
    });
}

#[test]
fn a_ticket_that_nobody_knows_any_more_is_a_lost_winner() {
    breaks("no_lost_winner", "unknown at the end", |e| {
        e.last_look.insert(id(1), LastLook::NotFound);
    });
}

#[test]
fn a_ticket_with_two_ends_is_a_lost_winner() {
    breaks("no_lost_winner", "events tell", |e| {
        e.events.push(event(1, 1, 700, 4, AwaitingPayment, Expired));
    });
    breaks("no_lost_winner", "told expired first", |e| {
        e.buyers.tickets.get_mut(&id(1)).unwrap().seen[1].status = Expired;
    });
}

#[test]
fn a_gap_in_the_events_is_a_lost_winner() {
    breaks("no_lost_winner", "events with versions [3]", |e| {
        e.events.remove(0);
    });
}

#[test]
fn a_version_that_went_back_is_a_lost_winner() {
    breaks("no_lost_winner", "went back from 7", |e| {
        e.buyers.tickets.get_mut(&id(3)).unwrap().seen[0].version = 7;
    });
}

#[test]
fn a_winner_whom_no_worker_received_is_lost() {
    breaks("no_lost_winner", "no worker received it", |e| {
        e.workers.deliveries.remove(1);
    });
}

#[test]
fn a_win_that_was_never_queued_is_a_lost_winner_even_if_it_is_dropped_in_time() {
    breaks("no_lost_winner", "4 tickets, but only 3 messages", |e| {
        let queue = &mut e.offsets.as_mut().unwrap().queues[0];
        (queue.end, queue.dropped) = (3, vec![]);
        e.workers.deliveries[2].offset = 2;
    });
}

#[test]
fn an_identity_that_does_not_hold_is_a_leak() {
    breaks("no_leak", "stock: 2 ≠ 1", |e| {
        audit(e).identities[0] = Identity { name: "stock".to_owned(), left: 2, right: 1, holds: false };
    });
}

#[test]
fn a_unit_that_is_neither_available_nor_sold_is_a_leak() {
    breaks("no_leak", "≠ 0 available + 1 sold", |e| audit(e).sold = 1);
}

#[test]
fn a_unit_returned_that_no_event_tells_of_is_a_leak() {
    breaks("no_leak", "events tell of 2", |e| audit(e).returned = 3);
}

#[test]
fn a_ticket_that_only_the_ledger_knows_is_a_leak() {
    breaks("no_leak", "counts 5 tickets", |e| {
        audit(e).tickets.insert(Dropped, 2);
    });
}

#[test]
fn without_an_audit_there_is_no_verdict_on_leaks() {
    breaks("no_leak", "no audit", |e| e.audit = Err("refused".to_owned()));
}

#[test]
fn two_tickets_at_once_break_the_limit_and_one_after_the_other_do_not() {
    breaks("buyer_limit_kept", "buyer 1 held tickets of 2 units", |e| {
        e.buyers.tickets.get_mut(&id(2)).unwrap().buyer = 1;
    });
    let mut evidence = sound();
    evidence.buyers.tickets.get_mut(&id(3)).unwrap().buyer = 2;
    assert!(broken(&evidence).is_empty(), "ticket 2 had expired when ticket 3 was told");
}

#[test]
fn two_orders_of_one_buyer_break_the_limit() {
    breaks("buyer_limit_kept", "buyer 1 has orders of 2 units", |e| e.rows[2].buyer = Some(1));
}

#[test]
fn two_tickets_for_one_key_are_told() {
    breaks("same_key_same_ticket", "buyer 1 key 0", |e| {
        e.buyers.key_conflicts.push(KeyConflict { buyer: 1, key: 0, first: id(1), second: id(2) });
    });
    breaks("same_key_same_ticket", "to buyer 9 too", |e| e.buyers.shared_tickets.push((9, id(1))));
}

#[test]
fn an_order_that_nobody_asked_for_is_a_phantom() {
    breaks("no_phantom", "none of our buyers", |e| e.rows[0].buyer = Some(10));
    breaks("no_phantom", "does not know the ticket", |e| {
        e.last_look.insert(id(1), LastLook::NotFound);
    });
    breaks("no_phantom", "no worker received it", |e| {
        e.workers.deliveries.remove(0);
    });
}

#[test]
fn an_order_that_stands_after_its_release_is_a_phantom() {
    breaks("no_phantom", "stands, but the ticket is expired", |e| e.rows[1].state = RowState::Confirmed);
}

#[test]
fn an_order_asked_for_after_its_deadline_must_not_come() {
    breaks("no_late_delivery", "after its deadline", |e| {
        e.workers.deliveries.push(delivery(2, 2, 1, 1_011, AckSeen::Unknown));
    });
}

#[test]
fn a_delivery_under_way_at_the_deadline_is_allowed_and_counted() {
    let mut evidence = sound();
    evidence.workers.deliveries[0].asked_us = 990 * MS;
    evidence.workers.deliveries[0].received_us = 1_050 * MS;
    evidence.workers.deliveries[0].ack = AckSeen::Refused;
    let judged = judge(&evidence);
    let late = judged.iter().find(|invariant| invariant.name == "no_late_delivery").unwrap();
    assert!(late.holds && late.detail.contains("(1 read within"), "{late:?}");
}

#[test]
fn an_order_asked_for_after_its_drop_must_not_come() {
    breaks("no_late_delivery", "after its drop", |e| {
        let late = delivery(3, 3, 2, 1_600, AckSeen::Unknown);
        e.workers.deliveries.push(Delivery { deadline_ms: START_MS + 5_000, ..late });
    });
}

fn redeliver(evidence: &mut Evidence) {
    evidence.workers.deliveries.push(delivery(1, 1, 0, 800, AckSeen::Unknown));
}

#[test]
fn an_acked_message_must_not_come_again() {
    breaks("acked_not_redelivered", "680 ms after its ack", redeliver);
}

#[test]
fn a_message_whose_ack_had_no_answer_may_come_again() {
    let mut evidence = sound();
    evidence.workers.deliveries[0].ack = AckSeen::Unknown;
    redeliver(&mut evidence);
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
}

#[test]
fn a_kill_excuses_only_acks_just_before_it() {
    let kill_at = |at_ms: u64| {
        let mut evidence = sound();
        redeliver(&mut evidence);
        evidence.kills = vec![KillSeen { at_us: at_ms * MS, ready_us: (at_ms + 50) * MS }];
        broken(&evidence).len()
    };
    assert_eq!(kill_at(130), 0, "acked 10 ms before the kill");
    assert_eq!(kill_at(700), 1, "acked 580 ms before the kill");
    assert_eq!(kill_at(900), 1, "delivered again before the kill");
}

#[test]
fn an_offset_without_account_is_a_lost_message() {
    breaks("no_lost_message", "offset 0/2 was neither", |e| {
        e.offsets.as_mut().unwrap().queues[0].dropped.clear();
    });
}

#[test]
fn dropped_offsets_without_dropped_tickets_are_lost_messages() {
    breaks("no_lost_message", "only 1 tickets ended without a worker", |e| {
        let queue = &mut e.offsets.as_mut().unwrap().queues[0];
        (queue.end, queue.skipped) = (5, vec![(4, 5)]);
    });
}

#[test]
fn an_offset_beyond_the_end_is_told() {
    breaks("no_lost_message", "no such offset", |e| e.offsets.as_mut().unwrap().queues[0].end = 3);
}

#[test]
fn messages_before_the_run_are_not_ours() {
    let mut evidence = sound();
    let queue = &mut evidence.offsets.as_mut().unwrap().queues[0];
    (queue.end, queue.dropped) = (104, vec![(102, 103)]);
    evidence.workers.deliveries.iter_mut().for_each(|delivery| delivery.offset += 100);
    evidence.offsets_before = vec![(0, 100)];
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
}

#[test]
fn a_payment_accepted_for_a_ticket_that_is_not_paid_is_told() {
    breaks("paid_is_paid", "the ticket is expired", |e| {
        e.workers.payments.push(PaymentSeen { ticket: id(2), quantity: 1, accepted: true });
    });
}

#[test]
fn sold_without_a_payment_is_told() {
    breaks("paid_is_paid", "audit: 2 sold", |e| {
        e.workers.payments.pop();
    });
    breaks("paid_is_paid", "1 units paid in the database", |e| e.rows[0].state = RowState::Confirmed);
    breaks("paid_is_paid", "had no answer", |e| e.workers.payments_unknown = 1);
}

#[test]
fn a_buyer_without_an_answer_is_told() {
    breaks("every_buyer_answered", "3 orders", |e| e.buyers.unresolved = 3);
    breaks("every_buyer_answered", "status 500", |e| {
        e.buyers.undocumented_count = 1;
        e.buyers.undocumented.push("status 500: oops".to_owned());
    });
}

#[test]
fn a_window_above_the_tokens_is_told() {
    // Two tickets at 100 ms, one at 610, one at 2,000; one a second.
    breaks("tokens_bounded", "3 admissions within 510.5 ms, at most 1.5 allowed", |e| {
        e.tokens = Some(Tokens { rate_per_s: 1, burst: 0, max_wait_ms: 0 });
    });
}

fn with_stop(evidence: &mut Evidence) {
    evidence.stop_wanted = true;
    evidence.stop = Some(StopSeen { stopped_us: 300 * MS, resumed_us: 1_900 * MS });
}

#[test]
fn workers_that_stopped_leave_dropped_orders_that_are_sold_again() {
    let mut evidence = sound();
    with_stop(&mut evidence);
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
}

#[test]
fn a_stale_order_that_was_not_dropped_is_told() {
    breaks("stale_all_dropped", "waited past its deadline and is paid", |e| {
        with_stop(e);
        e.last_look.insert(id(3), look(Paid, 2, 609));
    });
    breaks("stale_all_dropped", "was delivered", |e| {
        with_stop(e);
        e.workers.deliveries.push(delivery(3, 3, 2, 700, AckSeen::Unknown));
    });
    breaks("stale_all_dropped", "not conclusive", |e| {
        with_stop(e);
        e.stop.as_mut().unwrap().resumed_us = 500 * MS;
    });
}

#[test]
fn dropped_units_that_nobody_could_buy_are_told() {
    breaks("stale_units_resold", "0 won after the first drop", |e| {
        with_stop(e);
        e.last_look.insert(id(4), look(Paid, 3, 700));
    });
}

#[test]
fn followers_who_never_saw_the_drop_are_told() {
    breaks("stale_buyers_told", "no buyer who followed", |e| {
        with_stop(e);
        e.buyers.tickets.get_mut(&id(3)).unwrap().seen.truncate(1);
    });
}

#[test]
fn a_kill_is_conclusive_only_with_orders_in_flight_and_units_left() {
    let with_kill = |at_ms: u64, in_flight_min: u64| {
        let mut evidence = sound();
        evidence.kill_wanted = Some(in_flight_min);
        evidence.kills = vec![KillSeen { at_us: at_ms * MS, ready_us: (at_ms + 200) * MS }];
        evidence
    };
    // Ticket 3 waits, ticket 2 has been released: one of two units is held by 1, one by 3.
    let sold_out = with_kill(800, 1);
    assert_eq!(
        (at_kills(&sold_out)[0].orders_in_flight_at_kill, at_kills(&sold_out)[0].units_left_at_kill),
        (1, 0)
    );
    assert!(
        broken(&sold_out).iter().any(|i| i.name == "crash_conclusive" && i.detail.contains("not conclusive"))
    );
    // Ticket 3 is dropped: its unit is back, and nothing is in flight.
    assert_eq!(at_kills(&with_kill(1_600, 1))[0].units_left_at_kill, 1);
    assert!(!broken(&with_kill(1_600, 1)).is_empty());
    assert!(broken(&with_kill(1_600, 0)).is_empty());
}

#[test]
fn a_kill_that_never_came_is_not_conclusive() {
    breaks("crash_conclusive", "no good instant", |e| e.kill_wanted = Some(50));
}

#[test]
fn a_gateway_that_does_not_come_up_or_does_not_stop_is_told() {
    breaks("gateway_restarts", "damaged", |e| {
        e.kill_wanted = Some(0);
        e.restart_failed = Some("the log is damaged".to_owned());
    });
    breaks("gateway_stops_cleanly", "signal", |e| e.exit = Some(ExitSeen::Unclean("signal 9".to_owned())));
}
