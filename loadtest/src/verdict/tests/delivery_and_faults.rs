//! Delivery, acks, offsets, money, answers, tokens, and what was done on purpose.

use super::*;

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
        evidence.faults = vec![kill(at_ms, at_ms + 50)];
        broken(&evidence).len()
    };
    assert_eq!(kill_at(130), 0, "acked 10 ms before the kill");
    assert_eq!(kill_at(700), 1, "acked 580 ms before the kill");
    assert_eq!(kill_at(900), 1, "delivered again before the kill");
}

#[test]
fn an_offset_without_account_is_a_lost_message() {
    breaks("no_lost_message", "offset 0/2 was neither", |e| {
        queue(e).dropped.clear();
    });
}

#[test]
fn dropped_offsets_without_dropped_tickets_are_lost_messages() {
    breaks("no_lost_message", "only 1 tickets ended without a worker", |e| {
        let queue = queue(e);
        (queue.end, queue.skipped) = (5, vec![(4, 5)]);
    });
}

#[test]
fn an_offset_beyond_the_end_is_told() {
    breaks("no_lost_message", "no such offset", |e| queue(e).end = 3);
}

#[test]
fn messages_before_the_run_are_not_ours() {
    let mut evidence = sound();
    let queue = queue(&mut evidence);
    (queue.end, queue.dropped) = (104, vec![(102, 103)]);
    evidence.workers.deliveries.iter_mut().for_each(|delivery| delivery.offset += 100);
    evidence.offsets[0].before = vec![(0, 100)];
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
        evidence.faults_wanted = wanted(FaultKind::Kill, in_flight_min);
        evidence.faults = vec![kill(at_ms, at_ms + 200)];
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
    breaks("crash_conclusive", "no good instant", |e| e.faults_wanted = wanted(FaultKind::Kill, 50));
}

#[test]
fn a_gateway_that_does_not_come_up_or_does_not_stop_is_told() {
    breaks("gateway_restarts", "damaged", |e| {
        e.faults_wanted = wanted(FaultKind::Kill, 0);
        e.restart_failed = Some("the log is damaged".to_owned());
    });
    breaks("gateway_stops_cleanly", "signal", |e| e.exit = Some(ExitSeen::Unclean("signal 9".to_owned())));
}
