//! Tests of `[ledger.redis]` and of what it asks of the rest.

use super::tests::{load, load_installed, one};
use super::*;
use std::time::Duration;
use tidegate_stock::redis::{Address, RedisOptions, Topology};

/// The options of a file whose table `[ledger.redis]` is `table`.
fn options(table: &str) -> RedisOptions {
    options_with(table, &[])
}

fn options_with(table: &str, env: &[(&str, &str)]) -> RedisOptions {
    match load(&text(table), env).unwrap().ledger {
        LedgerKind::Redis(options) => RedisOptions::clone(&options),
        LedgerKind::Embedded => panic!("embedded"),
    }
}

/// The table begins in line 3.
fn text(table: &str) -> String {
    format!("[ledger]\nkind = \"redis\"\n[ledger.redis]\n{table}\n")
}

fn refused(table: &str) -> String {
    one(&text(table), &[])
}

const SENTINELS: &str = "sentinels = [\"a:26379\", \"[::1]:26380\"]\nmaster = \"stock\"\n";

fn at(host: &str, port: u16) -> Address {
    Address { host: host.to_owned(), port }
}

#[test]
fn the_defaults_are_those_of_the_ledger() {
    let read = format!("{:?}", options("url = \"redis://h:7000\""));
    assert_eq!(read, format!("{:?}", RedisOptions::single("h", 7000)));
}

#[test]
fn a_url_says_it_all() {
    let options = options("url = \"rediss://shop:p%40ss%3A%2F@db.example.com:6390/3\"");
    assert_eq!(options.topology, Topology::Single(at("db.example.com", 6390)));
    assert_eq!((options.user.as_deref(), options.database), (Some("shop"), 3));
    assert_eq!(&*options.password.unwrap().0, "p@ss:/");
    let tls = options.tls.unwrap();
    assert!(tls.ca_file.is_none() && tls.client.is_none());
}

#[test]
fn a_url_may_leave_out_what_has_a_default() {
    let plain = options("url = \"redis://[::1]/\"");
    assert_eq!(plain.topology, Topology::Single(at("::1", 6379)));
    assert!(plain.user.is_none() && plain.password.is_none() && plain.tls.is_none());
    let default_user = options("url = \"redis://:secret@h\"");
    assert!(default_user.user.is_none() && default_user.password.is_some());
}

#[test]
fn sentinels_name_their_master() {
    let read = options(&format!("{SENTINELS}sentinel_password = \"s\"\npassword = \"p\"\ntls = true\n"));
    let Topology::Sentinel { sentinels, master, password } = read.topology else { panic!("{read:?}") };
    assert_eq!((sentinels, master.as_str()), (vec![at("a", 26379), at("::1", 26380)], "stock"));
    assert_eq!(&*password.unwrap().0, "s");
    assert_eq!(&*read.password.unwrap().0, "p");
    assert!(read.tls.is_some());
    assert!(refused("sentinels = [\"a:1\"]").contains("t.toml:4:13: ledger.redis.master: is missing"));
    assert!(refused("url = \"redis://h\"\nmaster = \"m\"").contains("master: is without effect"));
}

#[test]
fn a_cluster_has_one_database() {
    assert_eq!(
        options("cluster = [\"a:1\", \"b:2\"]").topology,
        Topology::Cluster(vec![at("a", 1), at("b", 2)])
    );
    assert!(refused("cluster = [\"a:1\"]\ndatabase = 2").contains("database 0 only"));
}

#[test]
fn where_redis_is_must_be_said_once() {
    assert_eq!(
        one("[ledger]\nkind = \"redis\"\n", &[]),
        "t.toml:2:8: ledger.redis.url: is missing while ledger.kind is \"redis\"; such as url = \
         \"redis://127.0.0.1:6379\"; or sentinels with master; or cluster"
    );
    assert!(refused("url = \"redis://h\"\ncluster = [\"a:1\"]").contains("a second time where Redis is"));
    // The embedded ledger asks for nothing, but what is written is still checked.
    load("[ledger.redis]\nprefix = \"a:\"\n", &[]).unwrap();
    assert!(one("[ledger.redis]\nprefix = \"{a}\"\n", &[]).contains("ledger.redis.prefix"));
}

#[test]
fn every_problem_is_told_with_its_line() {
    let table =
        "url = \"redis://h\"\nprefix = \"a b\"\nbatch_max = 0\ncall_timout_ms = 1\nwait_replicas = 99\n";
    assert_eq!(
        load(&text(table), &[]).unwrap_err(),
        [
            "t.toml:5:10: ledger.redis.prefix: expected 1 to 64 of A-Z a-z 0-9 _ . : - /, found \"a b\"",
            "t.toml:6:13: ledger.redis.batch_max: 0 is out of range, 1 to 1024 requests",
            "t.toml:7:1: ledger.redis.call_timout_ms: unknown key; did you mean \"call_timeout_ms\"?",
            "t.toml:8:17: ledger.redis.wait_replicas: 99 is out of range, 0 to 16 replicas",
        ]
    );
}

#[test]
fn bounds_fit_each_other() {
    let url = "url = \"redis://h\"\n";
    let slow = format!("{url}call_timeout_ms = 100\nwait_timeout_ms = 100\n");
    assert_eq!(options(&slow).call_timeout, Duration::from_millis(100));
    assert!(refused(&format!("{slow}wait_replicas = 1\n")).contains("wait_timeout_ms: is not below"));
    let early = refused(&format!("{url}claim_after_ms = 200\n"));
    assert!(
        early.starts_with("t.toml:5:18: ledger.redis.claim_after_ms: is not above call_timeout_ms"),
        "{early}"
    );
    assert!(refused(&format!("{url}waiting_max = 9\n")).contains("waiting_max: is below batch_max"));
}

#[test]
fn a_redis_that_nobody_asks_is_a_mistake() {
    let help = "set while ledger.kind is \"embedded\"; set kind = \"redis\" under [ledger], or leave it out";
    for kind in ["", "[ledger]\nkind = \"embedded\"\n"] {
        let problem = one(&format!("{kind}[ledger.redis]\nurl = \"redis://localhost:6379\"\n"), &[]);
        let line = kind.lines().count() + 2;
        assert_eq!(problem, format!("t.toml:{line}:7: ledger.redis.url: is {help}"));
    }
    let sentinels = one(&format!("[ledger.redis]\n{SENTINELS}"), &[]);
    assert!(sentinels.starts_with("t.toml:2:13: ledger.redis.sentinels: is set while"), "{sentinels}");
    let from_environment = one("", &[("TIDEGATE__LEDGER__REDIS__CLUSTER", "[\"h:1\"]")]);
    assert!(from_environment.starts_with("TIDEGATE__LEDGER__REDIS__CLUSTER: "), "{from_environment}");
}

#[test]
fn addresses_are_checked() {
    for port in ["0", "99999", "port", ""] {
        let problem = refused(&format!("url = \"redis://h:{port}\""));
        let wanted = if port == "port" { "is no address" } else { "its port is not 1 to 65535" };
        assert!(problem.contains(wanted), "{problem}");
    }
    for bad in ["h", "h:0", "h:70000", ":1", "a b:1", "::1:6379", "[x]:1"] {
        let problem = refused(&format!("cluster = [\"{bad}\"]"));
        assert!(problem.contains(&format!("address 1 \"{bad}\" is no host:port")), "{problem}");
    }
    assert!(refused("cluster = \"h:1\"").contains("expected a list of texts in quotes, found string"));
    assert!(refused("cluster = [\"h:1\", 2]").contains("expected text in quotes, found integer"));
    assert!(refused("cluster = []").contains("has 0 addresses, not 1 to 64"));
}

#[test]
fn passwords_are_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hush from a file \n").unwrap();
    let read = options(&format!("url = \"redis://h\"\npassword_file = \"{}\"\n", file.display()));
    assert_eq!(&*read.password.as_ref().unwrap().0, "hush from a file ");
    let with_sentinel =
        options(&format!("{SENTINELS}sentinel_password = \"hush\"\nuser = \"u\"\npassword = \"hush\""));
    let shown = format!("{read:?} {with_sentinel:?}");
    assert!(!shown.contains("hush"), "{shown}");
    let urls = [
        "redis://u:hush@h:port",
        "redis://u:hu sh@h:1",
        "redis://u:hush@h:1/x",
        "redis://u:hush@h:1/1?a=b",
        "redis://u:hush#@h:1",
        "http://u:hush@h",
        "redis://u:hush@",
        "u:hush@h:1",
        "hush",
    ];
    for url in urls {
        let problem = refused(&format!("url = \"{url}\""));
        assert!(problem.starts_with("t.toml:4:7: ledger.redis.url: is no address of a Redis: "), "{problem}");
        assert!(!problem.contains("hush") && !problem.contains("hu sh"), "{problem}");
    }
    let in_list = refused("cluster = [\"redis://:hush@h:1\"]");
    assert!(in_list.contains("address 1 is no host:port") && !in_list.contains("hush"), "{in_list}");
    let env = [
        ("TIDEGATE__LEDGER__REDIS__URL", "redis://:hush@h:1"),
        ("TIDEGATE__LEDGER__REDIS__PASSWORD", "hush"),
    ];
    let twice = one(&text(""), &env);
    assert!(
        twice.contains("TIDEGATE__LEDGER__REDIS__PASSWORD: ledger.redis.password: is in the url too"),
        "{twice}"
    );
    assert!(!twice.contains("hush"), "{twice}");
}

#[test]
fn a_login_is_whole_and_said_once() {
    assert!(refused("url = \"redis://h\"\nuser = \"u\"").contains("user: has no password"));
    assert!(refused("url = \"redis://u@h\"").contains("user: has no password"));
    assert!(refused("url = \"redis://u:p@h/1\"\ndatabase = 1").contains("database: is in the url too"));
    assert!(refused("url = \"redis://h\"\npassword = \"\"").contains("the password is empty"));
    assert!(
        refused("url = \"redis://h\"\npassword_file = \"/nowhere/p\"").contains("cannot read /nowhere/p")
    );
    let env = [("TIDEGATE__LEDGER__REDIS__PASSWORD", "1234")];
    assert_eq!(&*options_with("url = \"redis://u@h\"", &env).password.unwrap().0, "1234");
}

#[test]
fn tls_files_need_tls_and_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("x.pem");
    std::fs::write(&pem, "").unwrap();
    let pem = pem.display();
    let all = format!("ca_file = \"{pem}\"\nclient_cert_file = \"{pem}\"\nclient_key_file = \"{pem}\"\n");
    let tls = options(&format!("url = \"rediss://h\"\n{all}")).tls.unwrap();
    assert!(tls.ca_file.is_some() && tls.client.is_some());
    let without = load(&text(&format!("url = \"redis://h\"\n{all}")), &[]).unwrap_err();
    assert_eq!(without.iter().filter(|problem| problem.contains("without effect without TLS")).count(), 3);
    let half = refused(&format!("url = \"rediss://h\"\nclient_cert_file = \"{pem}\"\n"));
    assert!(half.contains("client_key_file: is missing while client_cert_file is set"), "{half}");
    assert!(refused("url = \"redis://h\"\ntls = true").contains("tls: contradicts the url"));
    assert!(refused("url = \"rediss://h\"\nca_file = \"/nowhere/ca\"").contains("cannot read /nowhere/ca"));
}

#[test]
fn a_shared_ledger_needs_a_synced_log() {
    let table = text("url = \"redis://h\"");
    let problem = one(&format!("[data]\nflush = \"async\"\n{table}"), &[]);
    assert!(problem.starts_with("t.toml:2:9: data.flush: \"async\" is refused while"), "{problem}");
    load("[data]\nflush = \"async\"\n", &[]).unwrap();
}

#[test]
fn an_address_that_nobody_can_reach_is_not_advertised() {
    let table = text("url = \"redis://h\"");
    let listen = "[listen]\npublic = \"0.0.0.0:8080\"\n";
    let problem = one(&format!("{listen}{table}"), &[]);
    assert!(
        problem.starts_with("t.toml:2:10: listen.advertise_public: is missing while public is"),
        "{problem}"
    );
    assert!(problem.contains("\"http://10.0.0.1:8080\""), "{problem}");
    load(listen, &[]).unwrap();
    let told =
        load(&format!("{listen}advertise_public = \"https://shop.example.com/\"\n{table}"), &[]).unwrap();
    let advertised = told.listen.advertise_public.as_deref();
    assert_eq!(Listen::advertised(advertised, "http", told.listen.public), "https://shop.example.com");
    assert_eq!(Listen::advertised(None, "http", told.listen.inner), "http://127.0.0.1:8081");
    for bad in ["10.0.0.1:80", "http://", "ftp://h", "http://u:hush@h", "http://h?a", "http://h#a"] {
        let problem = one(&format!("[listen]\nadvertise_inner = \"{bad}\"\n"), &[]);
        assert!(problem.contains("is no base URL") && !problem.contains("hush"), "{problem}");
    }
}

#[test]
fn a_ledger_is_told_in_a_line_without_secrets() {
    let read = load(&text("url = \"rediss://u:hush@h:1\""), &[]).unwrap().ledger.to_string();
    assert_eq!(read, "Redis h:1 with TLS, keys tidegate:*");
    let sentinel = load(&text(SENTINELS), &[]).unwrap().ledger.to_string();
    assert_eq!(sentinel, "Redis master stock of Sentinels a:26379 ::1:26380, keys tidegate:*");
    assert_eq!(load("", &[]).unwrap().ledger.to_string(), "embedded");
}

/// The production file with the numbered choice `which` of where Redis is.
fn production(which: &str) -> RedisOptions {
    let text = include_str!("../../../config/production.toml");
    let mut choice = "";
    let lines = text.lines().filter_map(|line| {
        match line.get(..5) {
            Some(number @ ("# 1. " | "# 2. " | "# 3. ")) => choice = number.trim_matches(['#', ' ', '.']),
            Some("# Who") => choice = "",
            _ => {}
        }
        match (choice, line.starts_with("# ")) {
            ("", _) | (_, true) => Some(line),
            (chosen, false) => (chosen == which).then(|| line.trim_start_matches('#')),
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    match load_installed(&text).ledger {
        LedgerKind::Redis(options) => RedisOptions::clone(&options),
        LedgerKind::Embedded => panic!("embedded"),
    }
}

#[test]
fn each_choice_of_the_production_file_is_good() {
    let [single, sentinel, cluster] = ["1", "2", "3"].map(production);
    assert!(matches!(single.topology, Topology::Single(_)), "{single:?}");
    assert!(matches!(&sentinel.topology, Topology::Sentinel { password: Some(_), .. }), "{sentinel:?}");
    assert!(matches!(cluster.topology, Topology::Cluster(_)), "{cluster:?}");
    for options in [single, sentinel, cluster] {
        assert_eq!(options.wait_replicas, 1);
        assert!(
            options.tls.is_some() && options.password.is_some() && !options.allow_eviction,
            "{options:?}"
        );
    }
}

#[test]
fn sales_of_a_limit_group_are_refused() {
    let sale = "[[sale]]\nid = \"a\"\nitem = \"i\"\nstock = 1\nlimit_group = \"g\"\n";
    let problem = one(&format!("{sale}{}", text("url = \"redis://h\"")), &[]);
    assert!(
        problem.starts_with("t.toml:5:15: sale.limit_group: is not available with the Redis"),
        "{problem}"
    );
    load(sale, &[]).unwrap();
}
