//! Each deliberate defect really does what its name says. The defect of a process is chosen by its environment,
//! so each runs in a process of its own: this test file again.
#![cfg(feature = "defects")]
#![allow(clippy::unwrap_used)]

mod queue_support;

use queue_support::*;
use std::process::Command;
use tidegate_queue::*;

fn with_defect(name: &str, child: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", child])
        .env("TIDEGATE_DEFECT", name)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn late_delivery() {
    with_defect("late-delivery", "late_delivery_child");
}

#[test]
#[ignore = "run by late_delivery in a process of its own"]
fn late_delivery_child() {
    let folder = Folder::new();
    let queue = folder.open();
    queue.put_group(TOPIC, GROUP, StartFrom::First, None, None).unwrap();
    append(&queue, &[NewMessage { deadline_ms: Some(NOW_MS + 10), ..message(b"stale") }]);
    folder.clock.advance(10);
    queue.tick();
    let reports = queue.take_reports(10, None);
    assert_eq!(reports.len(), 1, "its drop is reported");
    queue.settle(&reports[0]);
    assert_eq!(bodies(&receive(&queue, GROUP, 10, 1_000)), ["stale"], "and it is delivered");
}

#[test]
fn lost_ack() {
    with_defect("lost-ack", "lost_ack_child");
}

#[test]
#[ignore = "run by lost_ack in a process of its own"]
fn lost_ack_child() {
    let folder = Folder::new();
    let queue = folder.open();
    append(&queue, &[message(b"x")]);
    let lease = receive(&queue, GROUP, 1, 1_000).remove(0);
    assert_eq!(ack(&queue, GROUP, &lease), Ok(()));
    folder.clock.advance(1_000);
    assert_eq!(bodies(&receive(&queue, GROUP, 1, 1_000)), ["x"]);
}
