//! Stock, winners, limits, keys, orders.

use super::*;

#[test]
fn sound_evidence_passes_every_invariant() {
    let broken = broken(&sound());
    assert!(broken.is_empty(), "{broken:?}");
    let names: Vec<_> = judge(&sound()).iter().map(|invariant| invariant.name).collect();
    assert_eq!(names.len(), 14, "{names:?}");
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
        let queue = queue(e);
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
