//! Tests of the configuration.

use super::*;
use crate::admission::TokenRate;
use std::time::Duration;

pub(super) fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("t.toml"), text, env)
        .0
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn defaults_need_no_file() {
    let config = Config::load(None, std::iter::empty()).unwrap();
    assert_eq!(config.listen.public.to_string(), "127.0.0.1:8080");
    assert!(config.listen.threads >= 1);
    assert!(
        config.tokens.rate == TokenRate::Off
            && config.quota.newcomers.is_some()
            && config.inner_tokens.is_none()
    );
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let text =
        "[listen]\npublik = \"127.0.0.1:1\"\ndrain_ms = 900_000_000\n\n[data]\nflush = \"synk\"\n[lissten]\n";
    let problems = load(text, &[]).unwrap_err();
    assert_eq!(
        problems,
        [
            "t.toml:2:1: listen.publik: unknown key; did you mean \"public\"?",
            "t.toml:3:12: listen.drain_ms: 900000000 is out of range, 0 to 600000 ms",
            "t.toml:6:9: data.flush: \"synk\" is none of \"sync\", \"async\"; did you mean \"sync\"?",
            "t.toml:7:2: lissten: unknown key; did you mean \"listen\"?",
        ]
    );
}

pub(super) fn one(text: &str, env: &[(&str, &str)]) -> String {
    let problems = load(text, env).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn text_that_is_no_toml_is_told_with_its_line() {
    let problem = one("[listen]\npublic = 127.0.0.1:80\n", &[]);
    assert!(problem.starts_with("t.toml:2:15: this is no TOML: "), "{problem}");
}

#[test]
fn broken_toml_is_told_once_and_nothing_is_made_of_the_rest() {
    let problem = one("[listen\npublik = 1\n[data]\nflush = \"synk\"\n", &[]);
    assert!(problem.starts_with("t.toml:1:") && problem.contains("this is no TOML: "), "{problem}");
    one("[listen]\npublic = 127.0.0.1:80\ninner = @\n", &[]);
    let problem = one("zzzzzzzz = 1\n", &[]);
    assert_eq!(problem.matches("admission").count(), 1, "{problem}");
}

#[test]
fn a_missing_key_is_told_with_the_line_of_its_table() {
    let text = "\n[[sale]]\nid = \"a\"\nstock = 1\n";
    assert_eq!(one(text, &[]), "t.toml:2:1: sale.item: is missing in a [[sale]]");
    let problem = one("\n\n[identity]\nmode = \"jwt\"\n", &[]);
    assert!(problem.starts_with("t.toml:3:1: identity.jwt_key_file: is missing"), "{problem}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let problems = Config::load(Some(Path::new("/nowhere/t.toml")), std::iter::empty()).unwrap_err();
    assert!(problems[0].to_string().starts_with("cannot read /nowhere/t.toml: "), "{}", problems[0]);
}

#[test]
fn the_environment_goes_before_the_file() {
    let text = "[listen]\npublic = \"127.0.0.1:1\"\n[queue]\ntopic_queues = 2\n";
    let env = [
        ("TIDEGATE__LISTEN__PUBLIC", "127.0.0.1:9"),
        ("TIDEGATE__LISTEN__INNER", "\"127.0.0.1:10\""),
        ("TIDEGATE__QUEUE__RETRY_DELAYS_MS", "[1, 2]"),
        ("TIDEGATE__ADMISSION__TOKENS__RATE_PER_S", "7"),
        ("TIDEGATE__INNER__WORKER_TOKEN", "1234"),
        ("TIDEGATE__INNER__ADMIN_TOKEN", "true"),
        ("TIDEGATE_DEFECT", "none of ours"),
        ("PATH", "/bin"),
    ];
    let config = load(text, &env).unwrap();
    assert_eq!(config.listen.public.port(), 9);
    assert_eq!(config.listen.inner.port(), 10);
    assert_eq!(config.queue.topic_queues, 2);
    assert_eq!(config.queue.retry_delays_ms, [1, 2]);
    let (tokens, wait_max) = (config.tokens, Duration::from_millis(500));
    assert_eq!((tokens.rate, tokens.burst, tokens.wait_max), (TokenRate::Fixed(7), 1_000, wait_max));
    let tokens = config.inner_tokens.unwrap();
    assert!(tokens.worker.matches(b"1234") && tokens.admin.matches(b"true"));
}

#[test]
fn an_unknown_variable_is_a_problem_with_a_suggestion() {
    assert_eq!(
        one("", &[("TIDEGATE__LISTEN__PUBLIK", "x")]),
        "TIDEGATE__LISTEN__PUBLIK: listen.publik: unknown key; did you mean TIDEGATE__LISTEN__PUBLIC?"
    );
    let sale = "[[sale]]\nid = \"a\"\nitem = \"b\"\nstock = 1\n";
    for text in ["", sale] {
        let problem = one(text, &[("TIDEGATE__SALE__ID", "x")]);
        assert!(
            problem
                .ends_with("unknown key; write [[sale]] into the file; the environment has only single keys")
        );
    }
}

#[test]
fn a_bad_value_in_the_environment_names_the_variable() {
    assert_eq!(
        one("", &[("TIDEGATE__QUEUE__LEASE_MS", "soon")]),
        "TIDEGATE__QUEUE__LEASE_MS: queue.lease_ms: expected a whole number of ms, found string"
    );
}

#[test]
fn wrong_types_are_told() {
    assert!(
        one("[listen]\nthreads = \"two\"", &[]).ends_with("expected a whole number of threads, found string")
    );
    assert!(one("[data]\ndir = 7", &[]).ends_with("data.dir: expected text in quotes, found integer"));
    assert!(one("listen = 7", &[]).contains("listen: expected a table, found integer"));
    assert!(one("[queue]\nretry_delays_ms = 5", &[]).contains("expected a list of whole numbers"));
    assert!(
        one("[queue]\nretry_delays_ms = []", &[]).contains("retry_delays_ms: is empty; give at least one")
    );
    assert!(one("[queue]\nretry_delays_ms = [1, -1]", &[]).contains("-1 is out of range"));
    assert!(one("[listen]\ninner = \"localhost\"", &[]).contains("expected an address and port"));
    assert!(
        one("[identity]\ntrusted_proxies = [\"10.0.0.0/8\", \"x\"]", &[]).contains("\"x\" is no network")
    );
    assert!(one("[log]\nlevel = \"tidegate=loud\"", &[]).contains("expected a filter"));
    assert!(one("sale = 3", &[]).contains("expected tables, found integer"));
}

#[test]
fn unknown_keys_of_nested_tables_are_told() {
    assert!(
        one("[admission.token]\nrate_per_s = 1", &[]).contains("admission.token: unknown key; did you mean")
    );
    assert!(one("[admission.tokens]\nrate_per_sec = 1", &[]).contains("did you mean \"rate_per_s\"?"));
    assert!(one("[ledger.redis]\nuri = \"x\"", &[]).contains("ledger.redis.uri: unknown key"));
}

#[test]
fn a_segment_is_whole_pages() {
    assert_eq!(
        one("[data]\nsegment_bytes = 100_000\n", &[]),
        "t.toml:2:17: data.segment_bytes: 100000 is no multiple of 4096 bytes; for example 102400 bytes"
    );
}

#[test]
fn an_inner_listener_off_loopback_needs_both_tokens() {
    let open = "[listen]\ninner = \"0.0.0.0:8081\"\n";
    assert!(one(open, &[]).contains("not loopback and has no tokens"));
    let half = format!("{open}[inner]\nworker_token = \"w\"\n");
    assert!(one(&half, &[]).contains("admin_token: is missing"));
    let both = format!("{half}admin_token = \"a\"\n");
    let tokens = load(&both, &[]).unwrap().inner_tokens.unwrap();
    assert!(tokens.worker.matches(b"w") && !tokens.worker.matches(b"a") && !tokens.worker.matches(b""));
    assert!(!tokens.worker.matches(b"ww"));
}

#[test]
fn secrets_come_from_files_and_are_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "from-a-file\n").unwrap();
    let text =
        format!("[inner]\nworker_token_file = \"{}\"\nadmin_token = \"inline-admin\"\n", path.display());
    let config = load(&text, &[]).unwrap();
    assert!(config.inner_tokens.as_ref().unwrap().worker.matches(b"from-a-file"));
    let shown = format!("{config:?}");
    assert!(!shown.contains("from-a-file") && !shown.contains("inline-admin"), "{shown}");
    assert!(one(&format!("{text}worker_token = \"x\"\n"), &[]).contains("both set"));
    std::fs::remove_file(&path).unwrap();
    assert!(one(&text, &[]).contains("worker_token_file: cannot read"));
    std::fs::write(&path, "\n").unwrap();
    assert!(one(&text, &[]).contains("the token is empty"));
    std::fs::write(&path, "two words").unwrap();
    assert!(one(&text, &[]).contains("printable ASCII"));
}

#[test]
fn jwt_needs_a_key_that_fits_its_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let text = |algorithm: &str| {
        format!(
            "[identity]\nmode = \"jwt\"\njwt_algorithm = \"{algorithm}\"\njwt_key_file = \"{}\"\n",
            path.display()
        )
    };
    assert!(one("[identity]\nmode = \"jwt\"\n", &[]).contains("jwt_key_file: is missing"));
    let unread = one(&text("HS256"), &[]);
    assert!(unread.contains("cannot read") && unread.contains("this user may read it"), "{unread}");
    std::fs::write(&path, "short").unwrap();
    assert!(one(&text("HS256"), &[]).contains("use at least 16"));
    std::fs::write(&path, "long enough to be a secret\n").unwrap();
    assert!(matches!(load(&text("HS256"), &[]).unwrap().identity, Identity::Jwt { .. }));
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        assert!(one(&text(algorithm), &[]).contains("holds no public key in PEM"), "{algorithm}");
    }
    assert!(load(&text("none"), &[]).unwrap_err()[0].contains("\"none\" is none of"));
}

#[test]
fn listeners_must_differ() {
    let text = "[listen]\npublic = \"127.0.0.1:81\"\ninner = \"127.0.0.1:81\"\n";
    assert!(one(text, &[]).contains("public and inner are both 127.0.0.1:81"));
    load("[listen]\npublic = \"127.0.0.1:0\"\ninner = \"127.0.0.1:0\"\n", &[]).unwrap();
}

#[test]
fn a_sale_of_the_file_has_the_defaults_of_the_api() {
    let config = load("[[sale]]\nid = \"s1\"\nitem = \"phone\"\nstock = 5\n", &[]).unwrap();
    let spec = &config.sales[0].spec;
    assert_eq!((config.sales[0].sale.as_str(), spec.stock, spec.per_buyer_limit), ("s1", 5, 1));
    assert_eq!((spec.order_deadline_ms, spec.pay_window_ms, spec.weight), (30_000, 900_000, 1));
}

#[test]
fn problems_of_sales_are_told() {
    let problems = load("[[sale]]\nid = \"a b\"\nstok = 5\n", &[]).unwrap_err();
    let all = problems.join("\n");
    for expected in [
        "\"a b\" is no sale id",
        "sale.item: is missing",
        "sale.stock: is missing",
        "did you mean \"stock\"?",
    ] {
        assert!(all.contains(expected), "{expected} not in\n{all}");
    }
    let base = "[[sale]]\nid = \"a\"\nitem = \"i\"\nstock = 1\n";
    assert!(
        one(&format!("{base}opens_at_ms = 5\ncloses_at_ms = 5\n"), &[]).contains("not after opens_at_ms")
    );
    load(&format!("{base}requires_pass = true\n"), &[]).unwrap();
    let shared = "[ledger]\nkind = \"redis\"\nredis.url = \"redis://127.0.0.1\"\n";
    let problem = one(&format!("{shared}{base}requires_pass = true\n"), &[]);
    assert!(problem.contains("needs keys for purchase passes"), "{problem}");
    assert!(one(&format!("{base}[[sale]]\nid = \"a\"\nitem = \"i\"\nstock = 1\n"), &[]).contains("twice"));
}

/// Takes the `#` away from settings (`#key = …`, `#[[sale]]`), not from prose (`# text`).
fn uncommented(text: &str) -> String {
    let setting = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
            .map(str::to_owned)
    };
    text.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

fn flatten(path: &str, value: &toml::Value, out: &mut std::collections::BTreeMap<String, toml::Value>) {
    let entries = match value {
        toml::Value::Table(table) => table.clone(),
        toml::Value::Array(array) if array.iter().any(toml::Value::is_table) => {
            array[0].as_table().unwrap().clone()
        }
        other => {
            out.insert(path.to_owned(), other.clone());
            return;
        }
    };
    for (key, value) in &entries {
        flatten(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, out);
    }
}

#[test]
fn the_documented_file_and_the_code_are_in_step() {
    let text = include_str!("../../../config/tidegate.toml");
    load(text, &[]).unwrap();
    let full = uncommented(text);
    let mut documented = std::collections::BTreeMap::new();
    flatten("", &toml::from_str(&full).unwrap(), &mut documented);
    let (_, keys) = Config::parse(Path::new("t.toml"), &full, std::iter::empty());
    for (key, default) in &keys {
        let written =
            documented.remove(key).unwrap_or_else(|| panic!("{key} is not in config/tidegate.toml"));
        if !default.is_empty() {
            let default: toml::Value =
                toml::from_str::<toml::Table>(&format!("v = {default}")).unwrap()["v"].clone();
            assert_eq!(written, default, "config/tidegate.toml gives another default for {key}");
        }
    }
    assert!(documented.is_empty(), "in config/tidegate.toml, but in no code: {documented:?}");
}

/// A public key: what a production file needs besides secrets that any text will do for.
const JWT_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFa1pj33p7yzoDnjE+7oRSAzQ4Jp3
0b90Ci3AwSUJUFjn4QBHe1MarCls+VjpUx6vcGBKv1geThwhpbxuWsNMPw==
-----END PUBLIC KEY-----
";

/// As on a machine where the files that it names are there.
#[track_caller]
pub(super) fn load_installed(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let names = ["worker.token", "admin.token", "redis.password", "sentinel.password", "redis-ca.pem"];
    for name in names {
        std::fs::write(folder.path().join(name), "secret\n").unwrap();
    }
    std::fs::write(folder.path().join("jwt.pem"), JWT_PEM).unwrap();
    load(&text.replace("/etc/tidegate", folder.path().to_str().unwrap()), &[]).unwrap()
}

#[test]
fn the_production_files_lack_nothing_but_their_files() {
    let embedded = include_str!("../../../config/production-embedded.toml");
    let redis = include_str!("../../../config/production.toml");
    for (text, files) in [(embedded, 3), (redis, 5)] {
        let problems = load(text, &[]).unwrap_err();
        assert_eq!(problems.len(), files, "{problems:#?}");
        assert!(
            problems.iter().all(|problem| problem.contains("cannot read /etc/tidegate/")),
            "{problems:#?}"
        );
    }
    assert!(matches!(load_installed(embedded).ledger, LedgerKind::Embedded));
    assert!(matches!(load_installed(redis).ledger, LedgerKind::Redis(_)));
}
