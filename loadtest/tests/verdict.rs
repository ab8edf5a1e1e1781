//! The whole program against a gateway that is right, and against each kind that is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod schema;
mod simulator;

use serde_json::Value;
use simulator::{Bucket, Defect, Simulator};
use std::process::{Command, Output};

const SMALL: &str = r#"
name = "small"
about = "a sale that is over in three seconds"
[sale]
item = "thing"
stock = 60
order_deadline_ms = 5_000
pay_window_ms = 400
[buyers]
count = 800
arrive_within_ms = 300
press_twice_share = 0.1
cheat_share = 0.1
come_back_share = 0.5
come_back_after_ms = 200
poll_share = 0.5
sale_for_ms = 6_000
[workers]
count = 2
concurrency = 8
processing_ms = 1
lease_ms = 400
never_pay_share = 0.2
pay_after_ms = [10, 100]
[generator]
threads = 1
connections = 32
poll_connections = 32
[bounds]
drain_ms = 4_000
"#;

struct Run {
    output: Output,
    report: Value,
}

impl Run {
    fn of(scenario: &str, defect: Option<Defect>, bucket: Option<Bucket>) -> Self {
        let simulator = Simulator::start(defect, bucket);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        let url = format!("http://{}", simulator.address);
        let json = dir.path().join("copy.json");
        let output = command()
            .arg("run")
            .arg(&file)
            .args(["--target", &url, "--inner", &url, "--seed", "7"])
            .arg("--report")
            .arg(dir.path().join("report"))
            .arg("--json")
            .arg(&json)
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("no report: {output:?}"));
        Self { output, report: serde_json::from_str(&text).unwrap() }
    }

    fn broken(&self) -> Vec<&str> {
        let invariants = self.report["invariants"].as_array().unwrap();
        invariants.iter().filter(|i| i["holds"] == false).map(|i| i["name"].as_str().unwrap()).collect()
    }

    #[track_caller]
    fn names(&self, invariant: &str) {
        let stdout = String::from_utf8_lossy(&self.output.stdout);
        assert_eq!(self.output.status.code(), Some(1), "{stdout}");
        assert_eq!(self.report["verdict"], "fail");
        assert!(self.broken().contains(&invariant), "{stdout}");
        assert!(stdout.contains("verdict: fail") && stdout.contains(invariant), "{stdout}");
    }

    #[track_caller]
    fn passes(&self) {
        let (stdout, stderr) =
            (String::from_utf8_lossy(&self.output.stdout), String::from_utf8_lossy(&self.output.stderr));
        assert_eq!(self.output.status.code(), Some(0), "{stdout}{stderr}");
        assert!(stdout.contains("verdict: pass"), "{stdout}");
        assert_eq!(self.report["verdict"], "pass");
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
}

fn stale() -> String {
    SMALL.replace("order_deadline_ms = 5_000", "order_deadline_ms = 700").replace("[generator]", STOP)
}

const STOP: &str = "[faults.stop_workers]\nat_ms = 20\nfor_ms = 2_000\n[generator]";

#[test]
fn a_right_sale_passes_and_its_report_adds_up() {
    let run = Run::of(SMALL, None, None);
    run.passes();
    let report = &run.report;
    let outcomes = report["outcomes"].as_object().unwrap();
    let counted: u64 = outcomes.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(Some(counted), report["answered"].as_u64());
    assert_eq!(report["offered"], report["answered"], "{report}");
    let stock = |field: &str| report["stock"][field].as_u64().unwrap();
    assert_eq!((stock("initial"), stock("sold"), stock("available"), stock("held")), (60, 60, 0, 0));
    assert!(stock("returned") > 0, "somebody never paid");
    assert_eq!(outcomes["won"].as_u64().unwrap(), stock("sold") + stock("returned"));
    assert!(outcomes["limit-reached"].as_u64().unwrap() > 0 && outcomes["won-repeat"].as_u64().unwrap() > 0);
    assert!(report["gateway_cpu_us_per_request"].is_null(), "not our process");
}

#[test]
fn a_report_matches_the_published_schema() {
    let run = Run::of(SMALL, None, None);
    let text = include_str!("../report.schema.json");
    schema::validate(&serde_json::from_str(text).unwrap(), &run.report).unwrap();
}

#[test]
fn a_reservation_that_does_not_decrement_breaks_no_oversell() {
    Run::of(SMALL, Some(Defect::NoDecrement), None).names("no_oversell");
}

#[test]
fn a_skipped_append_breaks_no_lost_winner() {
    Run::of(SMALL, Some(Defect::SkipAppend), None).names("no_lost_winner");
}

#[test]
fn a_unit_returned_twice_breaks_no_oversell_and_no_leak() {
    let run = Run::of(SMALL, Some(Defect::DoubleReturn), None);
    run.names("no_oversell");
    run.names("no_leak");
}

#[test]
fn a_lost_ack_breaks_acked_not_redelivered() {
    Run::of(SMALL, Some(Defect::LostAck), None).names("acked_not_redelivered");
}

#[test]
fn a_limit_that_is_not_kept_breaks_buyer_limit_kept() {
    Run::of(SMALL, Some(Defect::NoLimit), None).names("buyer_limit_kept");
}

#[test]
fn a_forgotten_key_breaks_same_key_same_ticket() {
    Run::of(SMALL, Some(Defect::ForgetsKeys), None).names("same_key_same_ticket");
}

#[test]
fn a_paid_ticket_that_is_cancelled_breaks_paid_is_paid() {
    Run::of(SMALL, Some(Defect::RefundsPaid), None).names("paid_is_paid");
}

#[test]
fn stale_orders_are_dropped_and_sold_again() {
    let run = Run::of(&stale(), None, None);
    run.passes();
    let names: Vec<_> =
        run.report["invariants"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    for name in ["stale_all_dropped", "stale_units_resold", "stale_buyers_told"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn a_delivery_after_the_deadline_breaks_no_late_delivery() {
    let run = Run::of(&stale(), Some(Defect::LateDelivery), None);
    run.names("no_late_delivery");
    run.names("stale_all_dropped");
}

fn with_tokens() -> String {
    SMALL.replace("stock = 60", "stock = 700").replace(
        "[generator]",
        "[gateway.tokens]\nrate_per_s = 400\nburst = 20\nmax_wait_ms = 0\n[generator]",
    )
}

#[test]
fn tokens_bound_admissions() {
    let run = Run::of(&with_tokens(), None, Some(Bucket { rate_per_s: 400, burst: 20 }));
    run.passes();
    assert!(run.report["outcomes"]["overloaded"].as_u64().unwrap() > 0);
}

#[test]
fn admissions_without_tokens_break_tokens_bounded() {
    let bucket = Bucket { rate_per_s: 400, burst: 20 };
    Run::of(&with_tokens(), Some(Defect::IgnoresTokens), Some(bucket)).names("tokens_bounded");
}

#[test]
fn a_run_that_cannot_be_carried_through_says_why_and_ends_with_2() {
    let cases: [(&[&str], &str); 6] = [
        (&["run", "no-such"], "no scenario `no-such`"),
        (&["run", "demo"], "say which gateway"),
        (&["run", "demo", "--spawn", "/no/such/binary"], "no such file"),
        (&["run", "demo", "--target", "ftp://x", "--inner", "http://127.0.0.1:1"], "http://host:port"),
        (&["run", "crash", "--target", "http://127.0.0.1:1", "--inner", "http://127.0.0.1:1"], "--spawn"),
        (
            &["run", "demo", "--target", "http://127.0.0.1:1", "--inner", "http://127.0.0.1:1"],
            "create the sale",
        ),
    ];
    for (arguments, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let output = command().args(arguments).current_dir(dir.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_child_that_dies_at_once_is_reported_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("gateway");
    std::fs::write(&binary, "#!/bin/sh\necho cannot lock the folder >&2\nexit 3\n").unwrap();
    std::os::unix::fs::PermissionsExt::set_mode(
        &mut std::fs::metadata(&binary).unwrap().permissions(),
        0o755,
    );
    std::fs::set_permissions(&binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output =
        command().args(["run", "demo", "--spawn"]).arg(&binary).current_dir(dir.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("exit status: 3") && stderr.contains("cannot lock the folder"), "{stderr}");
}
