//! Each deliberate defect does the harm it stands for. Built with the feature `defects` alone; the choice is read
//! once a process, so each defect runs in a process of its own.
#![cfg(feature = "defects")]
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use support::*;
use tidegate_stock::*;

/// Runs `harm_of_the_selected_defect` with the defect selected.
fn harm(defect: &str) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harm_of_the_selected_defect", "--ignored", "--nocapture"])
        .env("TIDEGATE_DEFECT", defect)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stdout).unwrap()
}

#[test]
#[ignore = "run by the tests below, with a defect selected"]
fn harm_of_the_selected_defect() {
    let (ledger, journal) = ledger(&spec(2));
    let first = win(&ledger, "ann");
    let second_of_ann = matches!(ledger.reserve(&order("ann", None)).unwrap(), ReserveOutcome::Won { .. });
    done(&ledger, first.ticket, Transition::Rejected { reason: "no" }, 200);
    ledger.settle(journal.sync());
    let audit = ledger.audit(SALE).unwrap();
    println!(
        "limit kept {}; available {}; audit holds {}",
        !second_of_ann, audit.stock.available, audit.holds
    );
}

#[test]
fn without_a_defect_all_is_well() {
    assert!(harm("none").contains("limit kept true; available 2; audit holds true"));
}

#[test]
fn no_limit_sells_a_second_unit() {
    assert!(harm("no-limit").contains("limit kept false; available 1; audit holds true"));
}

#[test]
fn no_decrement_and_double_return_make_units_out_of_nothing() {
    assert!(harm("no-decrement").contains("available 3; audit holds false"));
    assert!(harm("double-return").contains("available 3; audit holds false"));
}
