use super::*;

#[test]
fn every_built_in_scenario_is_valid() {
    for (name, _) in BUILT_IN {
        assert_eq!(Scenario::load(name).unwrap().name, name.replace('_', "-"));
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let text = include_str!("../../scenarios/demo.toml").replace("[workers]", "[workers]\ncuont = 3");
    let error = Scenario::parse("mine", &text).unwrap_err().to_string();
    assert!(error.contains("cuont") && error.contains("line"), "{error}");
}

#[test]
fn a_share_above_one_is_refused() {
    let text = include_str!("../../scenarios/demo.toml").replace("poll_share = 0.3", "poll_share = 3.0");
    assert!(Scenario::parse("mine", &text).unwrap_err().to_string().contains("between 0 and 1"));
}

#[test]
fn every_commented_default_may_be_written_out() {
    let text = include_str!("../../scenarios/demo.toml");
    let from = text.find("#[gateway]").unwrap();
    let until = text.find("# What goes wrong").unwrap();
    let uncommented = text[from..until].lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    let uncommented: String = uncommented.map(|line| line.to_owned() + "\n").collect();
    let written = text.replace(&text[from..until], &uncommented);
    let scenario = Scenario::parse("mine", &written).unwrap();
    assert_eq!(scenario.gateway.count, 1);
    assert_eq!(scenario.redis.unwrap().dead_after_ms, Redis::default().dead_after_ms);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let text = include_str!("../../scenarios/redis_kill_gateway.toml");
    let cases = [
        ("[redis]\nappendonly = \"everysec\"", "", "gateway.count above 1"),
        ("gateway = 0", "gateway = 2", "below gateway.count"),
        ("down_ms = 4_000", "replace = true", "goes with delete_data"),
        ("[faults.kill]\ngateway = 0", "[faults.failover]\nlose_ms = 1", "needs redis.sentinel"),
        ("appendonly = \"everysec\"", "appendonly = \"often\"", "unknown variant"),
        ("0.2, 0.6", "0.6, 0.2", "[from, to]"),
    ];
    for (from, to, expected) in cases {
        let changed = text.replace(from, to).replace("down_ms = 4_000", "");
        let changed = if to == "replace = true" { text.replace(from, to) } else { changed };
        assert_ne!(changed, text);
        let error = Scenario::parse("mine", &changed).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn on_redis_there_are_two_gateways_and_twice_the_workers() {
    let scenario = Scenario::load("demo").unwrap().on_redis().unwrap();
    assert_eq!((scenario.gateway.count, scenario.workers.count), (2, 4));
    assert!(scenario.needs_spawn());
    assert!(Scenario::load("tokens").unwrap().on_redis().is_err());
}

#[test]
fn an_unknown_name_lists_the_built_in_ones() {
    let error = Scenario::load("no-such").unwrap_err().to_string();
    assert!(error.contains("demo, crash, stale, tokens, overload"), "{error}");
}
