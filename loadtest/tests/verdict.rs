//! The whole program against a gateway that is right, and against each kind that is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod schema;
mod simulator;

use serde_json::Value;
use simulator::{Bucket, Defect, Simulator};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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

/// As `SMALL`, from two gateways with one stock, slower, so that orders wait when something goes wrong.
fn fleet(fault: &str) -> String {
    SMALL
        .replace("stock = 60", "stock = 200")
        .replace("count = 800\narrive_within_ms = 300", "count = 1_500\narrive_within_ms = 2_000")
        .replace("sale_for_ms = 6_000", "sale_for_ms = 10_000")
        .replace("concurrency = 8\nprocessing_ms = 1\n", "concurrency = 4\nprocessing_ms = 60\n")
        .replace("[generator]", "[generator]\nrequest_timeout_ms = 2_500")
        + "[gateway]\ncount = 2\n[redis]\nappendonly = \"everysec\"\n"
        + fault
}

const KILL: &str = "[faults.kill]\nin_flight_min = 5\nafter_sold_share = [0.2, 0.5]\ndown_ms = 1_700\n";
const STOP_GATEWAY: &str =
    "[faults.stop_gateway]\nin_flight_min = 5\nafter_sold_share = [0.2, 0.5]\nfor_ms = 1_700\n";

struct Run {
    output: Output,
    report: Value,
}

impl Run {
    fn of(scenario: &str, defect: Option<Defect>, bucket: Option<Bucket>) -> Self {
        let simulator = Simulator::start(defect, bucket, 1);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        let url = format!("http://{}", simulator.addresses[0]);
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

    /// As [`Run::of`], with gateways and Redis as processes that the load test starts.
    fn spawned(scenario: &str, defect: Option<Defect>) -> Self {
        let simulator = Simulator::start(defect, None, 3);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        let binary = simulator::process::binary(dir.path(), &simulator);
        let report = dir.path().join("report");
        let output = command()
            .arg("run")
            .arg(&file)
            .args(["--seed", "7", "--spawn"])
            .arg(&binary)
            .arg("--report")
            .arg(&report)
            // What is kept of a failed run goes with this test.
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        let text = std::fs::read_to_string(report.join("report.json"));
        let text = text.unwrap_or_else(|_| panic!("no report: {output:?}"));
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

/// A simulated gateway as a process of its own; only started by [`simulator::process::binary`].
#[test]
#[ignore = "is no test: the process that stands in for a gateway"]
fn gateway_process() {
    simulator::process::run();
}

#[test]
fn two_gateways_sell_one_stock() {
    let run = Run::spawned(&fleet(""), None);
    run.passes();
    assert_eq!(run.report["gateways"], 2);
    assert!(run.report["redis"].as_str().unwrap().contains("everysec"));
    assert!(run.report["outcomes"]["ledger-unavailable"].as_u64().unwrap() > 0);
    let names = run.report["invariants"].to_string();
    assert!(names.contains("gateways_agree") && names.contains("one_owner_delivers"), "{names}");
    let text = include_str!("../report.schema.json");
    schema::validate(&serde_json::from_str(text).unwrap(), &run.report).unwrap();
}

#[test]
fn a_killed_gateway_is_taken_over_and_comes_back() {
    let run = Run::spawned(&fleet(KILL), None);
    run.passes();
    let fault = &run.report["faults"][0];
    assert_eq!((&fault["kind"], &fault["gateway"]), (&"kill".into(), &0.into()));
    assert!(fault["back_ms"].as_u64().unwrap() - fault["at_ms"].as_u64().unwrap() >= 1_700);
    let text = include_str!("../report.schema.json");
    schema::validate(&serde_json::from_str(text).unwrap(), &run.report).unwrap();
}

#[test]
fn a_deleted_gateway_leaves_no_ticket_without_an_end() {
    let fault = format!("{KILL}delete_data = true\nreplace = true\n");
    let run = Run::spawned(&fleet(&fault), None);
    run.passes();
    assert_eq!(run.report["faults"][0]["kind"], "delete_gateway");
    Run::spawned(&fleet(&fault), Some(Defect::NoTakeover)).names("no_lost_winner");
}

#[test]
fn a_stopped_gateway_delivers_nothing_that_another_has_taken_over() {
    Run::spawned(&fleet(STOP_GATEWAY), None).passes();
    Run::spawned(&fleet(STOP_GATEWAY), Some(Defect::DeliversUnowned)).names("one_owner_delivers");
}

#[test]
fn a_worker_that_dies_with_rows_pending_is_taken_over() {
    let fault = "[faults.kill_worker]\npending_min = 3\nafter_sold_share = [0.2, 0.5]\ndown_ms = 100\n";
    let run = Run::spawned(&fleet(fault), None);
    run.passes();
    assert!(run.report["faults"][0]["in_flight"].as_u64().unwrap() >= 3);
}

#[test]
fn redis_is_killed_and_comes_back() {
    let kill = "[faults.kill_redis]\nin_flight_min = 5\nafter_sold_share = [0.2, 0.5]\nlose_ms = 50\n";
    let run = Run::spawned(&fleet(kill), None);
    run.passes();
    assert!(run.report["faults"][0]["back_ms"].is_u64());
    Run::spawned(&fleet(&kill.replace("kill_redis", "empty_redis").replace("lose_ms = 50\n", "")), None)
        .passes();
}

#[test]
fn a_failover_that_lost_nothing_proves_nothing() {
    // These gateways write nothing to Redis.
    let fault = "sentinel = true\n[faults.failover]\nin_flight_min = 5\nafter_sold_share = [0.2, 0.5]\nlose_ms = 100\n";
    let run = Run::spawned(&fleet(fault), None);
    run.names("fault_conclusive");
    assert_eq!(run.broken(), ["fault_conclusive"]);
    assert!(run.report["faults"][0]["back_ms"].is_u64(), "promoted");
}

#[test]
fn audits_that_differ_break_gateways_agree() {
    Run::spawned(&fleet(""), Some(Defect::AuditsDiffer)).names("gateways_agree");
}

#[test]
fn an_order_that_turns_out_both_ways_breaks_not_yet_known_settled() {
    Run::spawned(&fleet(""), Some(Defect::BothWays)).names("not_yet_known_settled");
}

#[test]
fn nothing_is_left_behind_however_it_ends() {
    for signal in ["INT", "TERM", "KILL"] {
        let simulator = Simulator::start(None, None, 3);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("scenario.toml");
        std::fs::write(&file, fleet("sentinel = true")).unwrap();
        let mut run = command()
            .arg("run")
            .arg(&file)
            .args(["--seed", "7", "--spawn"])
            .arg(simulator::process::binary(dir.path(), &simulator))
            .arg("--report")
            .arg(dir.path().join("report"))
            .env("TMPDIR", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Two gateways, a master, a replica and a sentinel.
        let children = eventually(|| Some(children_of(run.id())).filter(|all| all.len() == 5));
        let kill = Command::new("kill").args(["-s", signal, &run.id().to_string()]).status().unwrap();
        assert!(kill.success());
        run.wait().unwrap();
        eventually(|| children.iter().all(|child| !is_running(*child)).then_some(()));
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// A zombie that nobody reaps does not run any more.
fn is_running(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "did not come about");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
