//! Tests of the configuration.

use super::*;

fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
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
    assert!(config.tokens.is_none() && config.quota.buyer.is_none() && config.inner_tokens.is_none());
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
