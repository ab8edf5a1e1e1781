//! Several gateways, what is not known yet, and what befalls Redis.

use super::*;

fn two_gateways(evidence: &mut Evidence) {
    evidence.shared = true;
    let audit = evidence.audit.clone();
    evidence.other_audits = vec![(1, audit)];
    let mut second = GroupOffsets { topic: "orders".into(), group: "order-workers".into(), queues: vec![] };
    second.queues.push(QueueOffsets {
        queue: 0,
        start: 0,
        end: 1,
        floor: 1,
        dropped: vec![],
        dead: vec![],
        skipped: vec![(0, 1)],
    });
    evidence.offsets.push(OffsetsSeen { gateway: 1, before: Vec::new(), offsets: Ok(second) });
}

#[test]
fn a_record_in_two_logs_is_sound() {
    let mut evidence = sound();
    two_gateways(&mut evidence);
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
    assert_eq!(judge(&evidence).len(), 16);
}

#[test]
fn audits_that_differ_are_told() {
    breaks("gateways_agree", "audit of gateway 1 differs", |e| {
        two_gateways(e);
        e.other_audits[0].1.as_mut().unwrap().sold = 1;
    });
    breaks("gateways_agree", "no audit of gateway 1", |e| {
        two_gateways(e);
        e.other_audits[0].1 = Err("paused".to_owned());
    });
}

#[test]
fn tickets_that_differ_are_told() {
    breaks("gateways_agree", "gateway 1 says NotFound", |e| {
        two_gateways(e);
        e.looks_apart.push(LookApart { ticket: id(1), gateway: 1, said: LastLook::NotFound });
    });
}

fn moves(evidence: &mut Evidence, gateways: [u32; 3]) {
    two_gateways(evidence);
    let again = |at_ms, gateway| Delivery { gateway, ..delivery(1, 1, 0, at_ms, AckSeen::Unknown) };
    evidence.workers.deliveries[0] = again(110, gateways[0]);
    evidence.workers.deliveries.extend([again(300, gateways[1]), again(400, gateways[2])]);
}

#[test]
fn an_order_moves_on_and_never_back() {
    let mut evidence = sound();
    moves(&mut evidence, [0, 1, 1]);
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
    breaks("one_owner_delivers", "was delivered by gateway 1, and 100 ms later by 0 after all", |e| {
        moves(e, [0, 1, 0]);
    });
}

#[test]
fn the_seller_delivers_nothing_that_another_has_delivered() {
    breaks("one_owner_delivers", "first held by gateway 0", |e| moves(e, [1, 0, 0]));
    let mut evidence = sound();
    moves(&mut evidence, [1, 0, 0]);
    evidence.buyers.tickets.get_mut(&id(1)).unwrap().at_once = false;
    assert!(broken(&evidence).is_empty(), "who sold it is not known: {:?}", broken(&evidence));
}

#[test]
fn what_a_gateway_delivers_after_its_return_no_other_delivers() {
    let stopped = |at_ms: u64, back_ms: u64| {
        FaultSeen::new(FaultKind::StopGateway, Some(0), at_ms * MS).back_at(back_ms * MS)
    };
    breaks("one_owner_delivers", "by gateway 0 after its return, and by gateway 1 too", |e| {
        moves(e, [0, 1, 1]);
        e.faults = vec![stopped(50, 101)];
    });
    let mut evidence = sound();
    moves(&mut evidence, [0, 1, 1]);
    evidence.faults = vec![stopped(150, 200)];
    assert!(broken(&evidence).is_empty(), "delivered before it was stopped: {:?}", broken(&evidence));
}

#[test]
fn back_is_right_when_the_other_was_given_up_too() {
    let mut evidence = sound();
    moves(&mut evidence, [0, 1, 0]);
    let fault = FaultSeen::new(FaultKind::StopGateway, Some(1), 350 * MS).back_at(500 * MS);
    evidence.faults = vec![fault];
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
    evidence.faults[0].gateway = Some(0);
    assert!(!broken(&evidence).is_empty(), "the stopped one came back");
}

#[test]
fn an_answer_that_was_on_its_way_is_no_second_delivery() {
    let mut evidence = sound();
    moves(&mut evidence, [0, 1, 0]);
    evidence.workers.deliveries.last_mut().unwrap().asked_us = 299 * MS;
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
}

#[test]
fn an_offset_of_the_other_gateway_without_account_is_a_lost_message() {
    breaks(
        "no_lost_message",
        "offset 0/0 was neither delivered nor dropped nor dead-lettered at gateway 1",
        |e| {
            two_gateways(e);
            e.offsets[1].offsets.as_mut().unwrap().queues[0].skipped.clear();
        },
    );
}

fn not_yet(evidence: &mut Evidence, buyer: u32, ticket: u32, found: LastLook) -> &mut NotYetKnown {
    let ticket = id(ticket);
    evidence.not_yet_known.insert(ticket, found);
    evidence.buyers.not_yet_known.push(NotYetKnown { buyer, key: 0, ticket, refused: None });
    evidence.buyers.not_yet_known.last_mut().unwrap()
}

#[test]
fn not_known_yet_may_turn_out_either_way() {
    let mut evidence = sound();
    not_yet(&mut evidence, 1, 1, look(Paid, 3, 99));
    not_yet(&mut evidence, 2, 77, LastLook::NotFound);
    not_yet(&mut evidence, 5, 78, LastLook::NotFound).refused = Some(ProblemType::SoldOut);
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
}

#[test]
fn not_known_yet_must_not_turn_out_both_ways() {
    breaks("not_yet_known_settled", "both exist", |e| {
        not_yet(e, 1, 77, look(Paid, 3, 99));
    });
    breaks("not_yet_known_settled", "then refused as sold-out, and it exists", |e| {
        not_yet(e, 5, 77, look(Paid, 3, 99)).refused = Some(ProblemType::SoldOut);
    });
}

fn bury(evidence: &mut Evidence) {
    evidence.faults_wanted = wanted(FaultKind::DeleteGateway, 0);
    evidence.faults = vec![FaultSeen::new(FaultKind::DeleteGateway, Some(0), 1_550 * MS)];
    evidence.offsets.clear();
    // Ticket 2 expired before the kill; only the deleted log told.
    evidence.events.retain(|event| event.to != Expired);
    evidence.rows[1].state = RowState::Confirmed;
}

#[test]
fn a_deleted_folder_excuses_what_only_it_told() {
    let mut evidence = sound();
    bury(&mut evidence);
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
}

#[test]
fn a_deleted_folder_excuses_nothing_that_was_won_later() {
    breaks("no_lost_winner", "events tell []", |e| {
        bury(e);
        e.events.retain(|event| event.ticket != id(4));
    });
    breaks("no_lost_winner", "still queued", |e| {
        bury(e);
        e.last_look.insert(id(3), look(Queued, 1, 609));
    });
}

#[test]
fn a_fault_that_did_not_bite_is_not_conclusive() {
    breaks("fault_conclusive", "no good instant for kill_redis", |e| {
        e.faults_wanted = wanted(FaultKind::KillRedis, 1);
    });
    breaks("fault_conclusive", "0 rows left pending", |e| {
        e.faults_wanted = wanted(FaultKind::KillWorker, 1);
        e.faults = vec![FaultSeen::new(FaultKind::KillWorker, None, 1_600 * MS)];
    });
    breaks("fault_conclusive", "1 orders in flight at the stop_gateway, 0 units left", |e| {
        e.faults_wanted = wanted(FaultKind::StopGateway, 1);
        e.faults = vec![FaultSeen::new(FaultKind::StopGateway, Some(0), 800 * MS)];
    });
    breaks("fault_conclusive", "0 orders in flight", |e| {
        e.faults_wanted = wanted(FaultKind::StopGateway, 1);
        e.faults = vec![FaultSeen::new(FaultKind::StopGateway, Some(1), 800 * MS)];
    });
}

#[test]
fn a_failover_proves_something_only_if_wins_were_in_what_it_lost() {
    let failover = |lost_from_us| FaultSeen {
        lost_from_us,
        ..FaultSeen::new(FaultKind::Failover, None, 1_600 * MS).back_at(2_100 * MS)
    };
    breaks("fault_conclusive", "the promoted replica lacked no win", |e| {
        e.faults_wanted = wanted(FaultKind::Failover, 0);
        e.faults = vec![failover(Some(1_000 * MS))];
    });
    let mut evidence = sound();
    evidence.faults_wanted = wanted(FaultKind::Failover, 0);
    evidence.faults = vec![failover(Some(600 * MS))];
    assert!(broken(&evidence).is_empty(), "{:?}", broken(&evidence));
    assert_eq!(at_faults(&evidence)[0].won_in_lost_writes, Some(1));
}
