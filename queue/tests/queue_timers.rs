//! Delayed messages and deadlines: never early, never late, never twice, and told of when nobody asks.
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use tidegate_queue::*;

fn delayed(body: &[u8], deliver_at_ms: u64) -> NewMessage<'_> {
    NewMessage { deliver_at_ms: Some(deliver_at_ms), ..message(body) }
}

fn mortal(body: &[u8], deadline_ms: u64) -> NewMessage<'_> {
    NewMessage { deadline_ms: Some(deadline_ms), ..message(body) }
}

fn tick(queue: &Queue) {
    queue.tick();
    settle_down(queue);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn fm36_a_delayed_message_comes_neither_early_nor_twice_nor_never() {
    let folder = Folder::new();
    let queue = folder.open();
    let batch = [delayed(b"at 1000", NOW_MS + 1_000), delayed(b"at 1001", NOW_MS + 1_001), message(b"now")];
    append(&queue, &batch);
    append(&queue, &[delayed(b"past", NOW_MS - 5)]);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1 << 40)), ["now", "past"]);
    folder.clock.advance(999);
    tick(&queue);
    assert!(receive(&queue, GROUP, 10, 1 << 40).is_empty(), "not a millisecond early");

    // A restart before it is due changes nothing.
    drop(queue);
    let queue = folder.open();
    tick(&queue);
    assert_eq!(queue.delayed(), 2);
    assert_eq!(bodies(&receive(&queue, "other", 10, 1 << 40)), ["now", "past"]);
    folder.clock.advance(1);
    tick(&queue);
    tick(&queue);
    let due = receive(&queue, "other", 10, 1 << 40);
    assert_eq!(bodies(&due), ["at 1000"]);
    assert_eq!(due[0].message.times.deliver_at_ms, Some(NOW_MS + 1_000));

    // A restart after it was delivered does not deliver it again; after a long outage all come at once.
    drop(queue);
    folder.clock.advance(1 << 40);
    let queue = folder.open();
    tick(&queue);
    tick(&queue);
    assert_eq!(queue.delayed(), 0);
    assert_eq!(bodies(&receive(&queue, "third", 10, 1 << 40)), ["now", "past", "at 1000", "at 1001"]);
    drop(queue);
    let queue = folder.open();
    tick(&queue);
    assert_eq!(receive(&queue, "fourth", 10, 1 << 40).len(), 4);
}

#[test]
fn a_delayed_message_keeps_its_fields_and_its_queue() {
    let folder = Folder::new();
    let queue = folder.open();
    let original = NewMessage {
        queue: QueueChoice::Explicit(2),
        tag: "pay",
        keys: &["ticket", "other"],
        properties: &[("p", "1"), ("q", "")],
        ..delayed(b"body", NOW_MS + 10)
    };
    let appended = append(&queue, &[original]);
    assert_eq!((appended.queue, appended.offset), (0, 0));
    folder.clock.advance(10);
    tick(&queue);
    let message = receive(&queue, GROUP, 1, 1_000).remove(0).message;
    assert_eq!((message.queue, message.offset, &message.tag[..]), (2, 0, "pay"));
    assert_eq!(message.keys, ["ticket", "other"]);
    assert_eq!(message.properties, [("p".to_owned(), "1".to_owned()), ("q".to_owned(), String::new())]);
    assert_eq!(&message.body[..], b"body");
    assert!(message.position > appended.first, "it stands at its own place in the log");
}

#[test]
fn a_message_is_never_delivered_at_or_after_its_deadline() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[mortal(b"a", NOW_MS + 100), mortal(b"b", NOW_MS + 101)]);
    folder.clock.advance(100);
    // Not even when the timers have not looked yet.
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["b"]);
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].kind, &reports[0].message.body[..]), (ReportKind::Dropped, &b"a"[..]));
}

#[test]
fn a_lease_ends_at_the_deadline_and_the_late_ack_is_refused() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[mortal(b"a", NOW_MS + 100), mortal(b"b", NOW_MS + 100)]);
    let leases = receive(&queue, GROUP, 2, 60_000);
    folder.clock.advance(99);
    ack(&queue, GROUP, &leases[0]).unwrap();
    let renewed = queue.extend(TOPIC, GROUP, &[leases[1].receipt.clone()], 60_000).remove(0).unwrap();
    folder.clock.advance(1);
    assert_eq!(queue.ack(TOPIC, GROUP, &[renewed]), [Err(ReceiptError::Expired)]);
    tick(&queue);
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.iter().map(|r| &r.message.body[..]).collect::<Vec<_>>(), [b"b"]);
    assert!(receive(&queue, GROUP, 10, 1_000).is_empty());
}

#[test]
fn the_groups_back_off_leaves_another_chance_before_the_deadline() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[mortal(b"a", NOW_MS + 600)]);
    let lease = receive(&queue, GROUP, 1, 60_000).remove(0);
    queue.nack(TOPIC, GROUP, &[lease.receipt], None)[0].unwrap();
    folder.clock.advance(299);
    assert!(receive(&queue, GROUP, 1, 60_000).is_empty());
    folder.clock.advance(1);
    assert_eq!(receive(&queue, GROUP, 1, 60_000)[0].attempt, 2);
}

#[test]
fn fm58_stale_messages_are_reported_when_nobody_pulls_and_never_flood_the_workers() {
    let folder = Folder::new();
    let queue = folder.open();
    for group in ["a", "b"] {
        queue.put_group(TOPIC, group, StartFrom::First, None, None).unwrap();
    }
    let bodies: Vec<[u8; 2]> = (0..300u16).map(u16::to_be_bytes).collect();
    for chunk in bodies.chunks(100) {
        let batch: Vec<_> = chunk.iter().map(|body| mortal(body, NOW_MS + 5_000)).collect();
        append(&queue, &batch);
    }
    let acked = receive(&queue, "a", 10, 60_000);
    for delivery in &acked {
        ack(&queue, "a", delivery).unwrap();
    }
    let wakes = Arc::new(Wakes::default());
    assert!(queue.take_reports(10, Some(&Waker::from(Arc::clone(&wakes)))).is_empty());
    folder.clock.advance(4_999);
    tick(&queue);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    folder.clock.advance(1);
    tick(&queue);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "woken once for all of them");

    let reports = queue.take_reports(10_000, None);
    let of = |group: &str| reports.iter().filter(|r| r.group == group).count();
    assert_eq!((of("a"), of("b")), (290, 300));
    assert!(reports.iter().all(|r| r.kind == ReportKind::Dropped));
    assert!(receive(&queue, "a", 100, 1_000).is_empty());
    let stats = group_stats(&queue, "a");
    assert_eq!((stats.backlog, stats.queues[0].floor), (0, 10), "the floor waits for the owner");

    // Unsettled ones come again after a while, and after a restart; settled ones never do.
    reports.iter().filter(|r| r.group == "a").for_each(|r| queue.settle(r));
    assert!(queue.take_reports(10_000, None).is_empty());
    folder.clock.advance(1_000);
    let again = queue.take_reports(10_000, None);
    assert_eq!((again.len(), &again[0].group[..]), (300, "b"));
    queue.settle(&again[0]);
    queue.close().unwrap();
    drop(queue);
    let queue = folder.open();
    tick(&queue);
    assert_eq!(queue.take_reports(10_000, None).len(), 299);
    assert!(receive(&queue, "b", 100, 1_000).is_empty());
    let stats = group_stats(&queue, "a");
    assert_eq!((stats.queues[0].floor, &stats.queues[0].dropped[..]), (300, &[(10, 300)][..]));
}

#[test]
fn a_new_group_is_told_of_deadlines_that_passed_before_it() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[mortal(b"gone", NOW_MS + 10), mortal(b"later", NOW_MS + 5_000), message(b"immortal")]);
    folder.clock.advance(100);
    tick(&queue);
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    tick(&queue);
    let first = queue.take_reports(10, None);
    assert_eq!(first.iter().map(|r| &r.message.body[..]).collect::<Vec<_>>(), [b"gone"]);
    folder.clock.advance(5_000);
    tick(&queue);
    for report in &first {
        queue.settle(report);
    }
    let second = queue.take_reports(10, None);
    assert_eq!(second.iter().map(|r| &r.message.body[..]).collect::<Vec<_>>(), [b"later"]);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["immortal"]);
}

#[test]
fn a_redriven_dead_letter_still_has_its_deadline() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_group(TOPIC, GROUP, StartFrom::First, Some(1), None).unwrap();
    append(&queue, &[mortal(b"a", NOW_MS + 1_000), mortal(b"b", NOW_MS + 1_000)]);
    for lease in receive(&queue, GROUP, 2, 60_000) {
        queue.nack(TOPIC, GROUP, &[lease.receipt], None)[0].unwrap();
    }
    queue.take_reports(10, None).iter().for_each(|r| queue.settle(r));
    let dead = queue.dead_letters(TOPIC, GROUP, 10);
    assert_eq!(dead.len(), 2);
    assert!(queue.redrive(TOPIC, GROUP, dead[0].position));
    folder.clock.advance(1_000);
    tick(&queue);
    let reports = queue.take_reports(10, None);
    assert_eq!((reports.len(), reports[0].kind), (1, ReportKind::Dropped));
    assert!(!queue.redrive(TOPIC, GROUP, dead[1].position), "it could only be dropped");
}

#[test]
fn space_for_pending_delayed_messages_is_kept_free() {
    let folder = Folder::new();
    let storage = folder.faulty();
    let queue = folder.open_on(&storage);
    let body = [7; 4_000];
    // Space for the index is there before the disk is full.
    append(&queue, &[message(b"first")]);
    let (mut delays, end) = (0, queue.end().0 + 100_000);
    while queue.end().0 < end {
        append(&queue, &[delayed(&body, NOW_MS + 1_000)]);
        delays += 1;
    }
    queue.tick();
    storage.set_quota(Some(storage.used()));
    let started = std::time::Instant::now();
    loop {
        match queue
            .append(&[NewMessage { deliver_at_ms: Some(NOW_MS + 9_000), ..message(&body) }], Space::New)
        {
            Ok(appended) => {
                queue.wait_durable(appended.end).unwrap();
                queue.wait_dispatched(appended.end);
            }
            Err(AppendError::NoSpace) => break,
            Err(AppendError::Busy) if started.elapsed().as_secs() < 20 => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(queue.delayed() >= delays);
    folder.clock.advance(9_000);
    queue.tick();
    assert_eq!(queue.delayed(), 0, "every one of them has found its space");
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[test]
fn forty_days_are_accepted_and_a_millisecond_more_is_refused_by_name() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[delayed(b"far", NOW_MS + 40 * DAY_MS)]);
    let further = delayed(b"further", NOW_MS + 40 * DAY_MS + 1);
    let refused = queue.append(&[message(b"with it"), further], Space::Owed).unwrap_err();
    assert!(refused.to_string().contains("40 days"), "{refused}");
    assert!(matches!(queue.begin("shop", &further), Err(TransactionError::Append(AppendError::Invalid(_)))));
    folder.clock.advance(40 * DAY_MS - 1);
    tick(&queue);
    assert!(receive(&queue, GROUP, 10, 1_000).is_empty());
    folder.clock.advance(1);
    tick(&queue);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["far"]);
}

#[test]
fn the_eighteen_levels_are_rocketmqs_or_ones_own() {
    let folder = Folder::new();
    let policies =
        Policies { delay_levels_ms: Policies::DELAY_LEVELS_MS.map(|ms| ms / 10), ..Policies::default() };
    for (policies, first_ms, last_ms) in
        [(Policies::default(), 1_000, 2 * 60 * 60 * 1_000), (policies, 100, 720_000)]
    {
        let queue = folder.open_by(policies);
        assert_eq!(queue.deliver_at_level(1), Ok(folder.clock.now_ms() + first_ms));
        assert_eq!(queue.deliver_at_level(18), Ok(folder.clock.now_ms() + last_ms));
        for none in [0, 19, u32::MAX] {
            assert!(matches!(queue.deliver_at_level(none), Err(AppendError::Invalid(_))));
        }
        append(&queue, &[delayed(b"level 1", queue.deliver_at_level(1).unwrap())]);
        folder.clock.advance(first_ms - 1);
        tick(&queue);
        assert_eq!(queue.delayed(), 1);
        folder.clock.advance(1);
        tick(&queue);
        assert_eq!(queue.delayed(), 0);
    }
}

#[test]
fn beyond_the_bound_new_delayed_messages_are_refused_and_owed_ones_are_not() {
    let folder = Folder::new();
    let bounded = || folder.open_by(Policies { delayed_max: 3, ..Policies::default() });
    let queue = bounded();
    let due_ms = NOW_MS + 1_000;
    // Not even before the dispatcher has seen those before it.
    accept(&queue, &[delayed(b"1", due_ms), delayed(b"2", due_ms), message(b"now")]);
    let two = [delayed(b"3", due_ms), delayed(b"4", due_ms)];
    assert_eq!(queue.append(&two, Space::New), Err(AppendError::TooManyDelayed));
    accept(&queue, &two[..1]);
    assert_eq!(queue.append(&two[1..], Space::New), Err(AppendError::TooManyDelayed));
    assert!(matches!(
        queue.begin("shop", &two[1]),
        Err(TransactionError::Append(AppendError::TooManyDelayed))
    ));
    queue.append(&two, Space::Owed).expect("owed work is never refused for it");
    append(&queue, &[message(b"not delayed"), delayed(b"past", NOW_MS)]);
    drop(queue);
    let queue = bounded();
    assert_eq!(queue.delayed(), 5, "nor what the log holds");
    assert_eq!(queue.append(&two[..1], Space::New), Err(AppendError::TooManyDelayed));
    folder.clock.advance(1_000);
    tick(&queue);
    append(&queue, &[delayed(b"5", due_ms + 1_000)]);
    assert_eq!(queue.delayed(), 1);
}

/// One day of retention, and so carried after half a day.
fn one_day() -> Policies {
    Policies { retention_ms: DAY_MS, ..Policies::default() }
}

#[test]
fn a_timer_of_forty_days_is_carried_forward_and_appears_once_under_its_id() {
    let folder = Folder::new();
    let mut queue = folder.open_by(one_day());
    let due_ms = NOW_MS + 40 * DAY_MS;
    let original = NewMessage {
        queue: QueueChoice::Ordered("buyer"),
        tag: "pay",
        keys: &["ticket"],
        properties: &[("p", "1")],
        ..delayed(b"long", due_ms)
    };
    let id = append(&queue, &[original, delayed(b"short", NOW_MS + 20 * 60 * 60 * 1000)]).first;
    let seen: Vec<String> = vec!["long".into(), "short".into()];
    let mut carried = 0;
    for half_day in 0..80 {
        let end = queue.end();
        folder.clock.advance(DAY_MS / 2 - 1);
        tick(&queue);
        assert!(queue.end() == end || half_day == 1, "not before its time");
        folder.clock.advance(1);
        tick(&queue);
        tick(&queue);
        carried += u64::from(queue.end() > end);
        if half_day % 9 == 0 {
            drop(queue);
            queue = folder.open_by(one_day());
        }
        if half_day < 79 {
            assert_eq!(
                queue.delayed() as u64,
                1 + u64::from(half_day == 0),
                "one message, however often carried"
            );
            let found = queue.find(id).expect("it is found by the id that its producer was told");
            assert_eq!((found.position, &found.body[..]), (id, &b"long"[..]));
        }
    }
    // Those are the short one, and the long one at its end.
    assert!((70..=82).contains(&carried), "{carried}");
    let delivered = receive(&queue, GROUP, 10, 1_000);
    let long: Vec<_> = delivered.iter().filter(|delivery| &delivery.message.body[..] == b"long").collect();
    assert_eq!((delivered.len(), long.len()), (2, 1));
    let message = &long[0].message;
    assert_eq!((&message.tag[..], &message.keys[..]), ("pay", &["ticket".to_owned()][..]));
    assert_eq!(message.properties, [("p".to_owned(), "1".to_owned())]);
    assert_eq!(message.times.deliver_at_ms, Some(due_ms));
    let told: Vec<_> = queue
        .scan(queue.start())
        .map(|message| message.unwrap())
        .filter(|message| message.position < delivered.iter().map(|d| d.message.position).min().unwrap())
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    assert_eq!(told, seen, "a scan tells of it where it stood first");
}

#[test]
fn what_is_due_before_the_log_is_deleted_is_not_carried() {
    let folder = Folder::new();
    let queue = folder.open_by(one_day());
    append(&queue, &[delayed(b"a", NOW_MS + DAY_MS), delayed(b"b", NOW_MS + DAY_MS + 1)]);
    folder.clock.advance(DAY_MS / 2);
    let end = queue.end();
    tick(&queue);
    let of_one = queue.end().0 - end.0;
    assert!((100..400).contains(&of_one), "one of them: {of_one} bytes");
    tick(&queue);
    folder.clock.advance(1_000);
    tick(&queue);
    assert_eq!(queue.end().0 - end.0, of_one, "and each once");
}

#[test]
fn many_are_carried_in_steps() {
    let folder = Folder::new();
    let queue = folder.open_by(one_day());
    let bodies: Vec<[u8; 4]> = (0..900u32).map(u32::to_be_bytes).collect();
    for chunk in bodies.chunks(100) {
        append(&queue, &chunk.iter().map(|body| delayed(body, NOW_MS + 3 * DAY_MS)).collect::<Vec<_>>());
    }
    folder.clock.advance(DAY_MS / 2);
    let mut steps = 0;
    for _ in 0..30 {
        // Accepted only when the log has a segment ready: so each step can do something.
        let end = append(&queue, &[message(b"other")]).end;
        tick(&queue);
        assert!(queue.end().0 - end.0 < 64 * 1024, "a step leaves the log to others");
        steps += u64::from(queue.end() > end);
        folder.clock.advance(100);
    }
    folder.clock.advance(60_000);
    let end = append(&queue, &[message(b"other")]).end;
    tick(&queue);
    assert_eq!((queue.end(), queue.delayed()), (end, 900), "each once");
    assert!(steps >= 4);
    folder.clock.advance(3 * DAY_MS);
    for _ in 0..10 {
        append(&queue, &[message(b"other")]);
        folder.clock.advance(100);
        tick(&queue);
    }
    assert_eq!((queue.delayed(), receive(&queue, GROUP, 1_000, 1_000).len()), (0, 941));
}

#[test]
fn a_crash_anywhere_while_carrying_leaves_one_message() {
    use tidegate_queue::storage::{FaultyCall, PowerLoss};
    for nth in 1..12u64 {
        let folder = Folder::new();
        let storage = folder.faulty();
        let open = || {
            let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
            Queue::open_with(folder.options(), one_day(), storage.as_storage(), clock).unwrap()
        };
        let mut queue = open();
        for body in [b"a", b"b", b"c"] {
            append(&queue, &[delayed(body, NOW_MS + 2 * DAY_MS)]);
        }
        let call = if nth % 2 == 0 { FaultyCall::Write } else { FaultyCall::Sync };
        storage.kill_at(call, "commitlog", nth.div_ceil(2));
        let ended = storage.ended();
        for half_day in 1.. {
            folder.clock.advance(if half_day <= 4 { DAY_MS / 2 } else { 100 });
            queue.tick();
            // Whether it becomes durable or not. What prepares segments may be what is killed.
            let end = queue.end();
            let durable = queue.wait_durable(end).is_ok();
            if storage.ended() == ended + 1 {
                drop(queue);
                storage.power_loss(nth, PowerLoss::Blocks(512));
                queue = open();
            } else {
                assert!(durable);
                queue.wait_dispatched(end);
            }
            // A log that was just opened may be busy: what it refused is tried again after a while.
            if half_day >= 4 && queue.delayed() == 0 {
                break;
            }
            assert!(half_day < 100_000);
        }
        tick(&queue);
        let mut all = bodies(&receive(&queue, GROUP, 10, 1_000));
        all.sort();
        assert_eq!(all, ["a", "b", "c"], "crash {nth}");
        assert_eq!(queue.delayed(), 0);
    }
}

#[test]
fn a_timer_of_forty_days_outlives_the_log_of_its_first_days() {
    use tidegate_queue::storage::PowerLoss;
    let folder = Folder::new();
    let storage = folder.faulty();
    let open = || {
        let options = QueueOptions { segment_bytes: 8_192, ..folder.options() };
        let clock = Arc::clone(&folder.clock) as Arc<dyn Clock>;
        Queue::open_with(options, one_day(), storage.as_storage(), clock).unwrap()
    };
    let mut queue = open();
    let due_ms = NOW_MS + 40 * DAY_MS;
    let id = append(&queue, &[NewMessage { keys: &["ticket"], ..delayed(b"long", due_ms) }]).first;
    let filler = [7; 900];
    for half_day in 1..=80u64 {
        for _ in 0..10 {
            append(&queue, &[message(&filler)]);
        }
        folder.clock.advance(DAY_MS / 2);
        if half_day % 3 == 0 {
            // Whatever of the carrying and the deleting had become durable.
            queue.tick();
            storage.kill();
            drop(queue);
            storage.power_loss(half_day, PowerLoss::Blocks(512));
            queue = open();
        }
        // A log that was just opened may be busy, and a segment is deleted when the carried message is dispatched.
        for _ in 0..3 {
            append(&queue, &[message(b"ready")]);
            folder.clock.advance(100);
            tick(&queue);
        }
        queue.delete_unheld().unwrap();
        let kept = queue.end().0 - queue.start().0;
        assert!(
            kept < 80_000,
            "{kept} bytes are kept on half day {half_day}, by {:?}",
            queue.keeping().held_by
        );
        if half_day < 80 {
            assert_eq!(queue.delayed(), 1);
            let found = queue.find(id).expect("found by its id, wherever it stands");
            assert_eq!((found.position, &found.body[..]), (id, &b"long"[..]));
        }
    }
    assert!(queue.start() > id);
    let long = |queue: &Queue| {
        let found = queue.look_up_key(TOPIC, "ticket", 10);
        assert_eq!(found.len(), 1, "in its queue once");
        assert_eq!(queue.find(id).expect("also when it was delivered").body, found[0].body);
        found[0].clone()
    };
    assert_eq!(long(&queue).times.deliver_at_ms, Some(due_ms));
    drop(queue);
    let queue = open();
    tick(&queue);
    assert_eq!((queue.delayed(), &long(&queue).body[..]), (0, &b"long"[..]));
    assert_eq!(
        bodies(&receive(&queue, GROUP, 1_000, 1_000)).iter().filter(|body| *body == "long").count(),
        1
    );
}
