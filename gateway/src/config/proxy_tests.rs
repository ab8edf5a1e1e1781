//! Tests of `[[proxy]]`.

use super::super::tests::{load, one};
use super::*;

const BASE: &str = "[[proxy]]\nname = \"shop\"\npath = \"/shop/\"\nupstream = \"http://10.0.0.5:8000\"\n";

#[test]
fn a_route_of_three_keys_has_the_defaults() {
    let config = load(BASE, &[]).unwrap();
    let route = &config.proxy[0];
    assert_eq!((&*route.name, &*route.path, &*route.upstream_path), ("shop", "/shop/", "/shop/"));
    assert_eq!((route.identity, route.quotas, route.policies), (Needed::Required, true, false));
    assert_eq!((route.tokens, route.shared_tokens, route.host.clone()), (None, false, HostRule::Upstream));
    assert_eq!(route.allow, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    assert_eq!(route.upstreams[0].to_string(), "http://10.0.0.5:8000");
    let text = BASE.replace("\"http://10.0.0.5:8000\"", "[\"http://a\", \"http://b:81\"]")
        + "rate_per_s = 5\nhost = \"shop.example\"\n";
    let route = &load(&text, &[]).unwrap().proxy[0];
    assert_eq!(route.upstreams.len(), 2);
    assert_eq!(route.tokens, Some(RouteTokens { rate_per_s: 5, burst: 100, max_wait_ms: 200 }));
    assert_eq!(route.host, HostRule::Fixed(HeaderValue::from_static("shop.example")));
}

#[test]
fn what_is_missing_is_told_with_the_line_of_its_table() {
    let problems = load("\n[[proxy]]\npaht = \"/x/\"\n", &[]).unwrap_err().join("\n");
    for expected in [
        "t.toml:2:1: proxy.name: is missing in a [[proxy]]",
        "proxy.path: is missing in a [[proxy]]",
        "proxy.upstream: is missing in a [[proxy]]; such as",
        "t.toml:3:1: proxy.paht: unknown key; did you mean \"path\"?",
    ] {
        assert!(problems.contains(expected), "{expected} not in\n{problems}");
    }
}

#[test]
fn a_path_is_canonical_and_never_the_gateways_own() {
    let with = |path: &str| one(&BASE.replace("/shop/", path), &[]);
    for own in ["/v1", "/v1/", "/v1/sales/x/"] {
        assert!(with(own).contains("is the gateway's own"), "{own}");
    }
    assert_eq!(
        with("/v%31/x"),
        "t.toml:3:8: proxy.path: \"/v%31/x\" can be written simpler; write \"/v1/x\""
    );
    assert!(with("/a/../b").contains("it has a dot segment"));
    assert!(with("shop/").contains("it does not begin with /"));
    load(&BASE.replace("/shop/", "/"), &[]).unwrap();
    let problem = one(&format!("{BASE}upstream_path = \"/app\"\n"), &[]);
    assert!(problem.ends_with("write \"/app/\""), "{problem}");
}

#[test]
fn two_routes_differ_in_name_and_path() {
    let problems = load(&format!("{BASE}{BASE}"), &[]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("t.toml:6:8: proxy.name: the route \"shop\" is there twice"),
        "{problems:?}"
    );
    assert!(problems[1].contains("\"/shop/\" is the path of route \"shop\" already"), "{problems:?}");
}

#[test]
fn an_upstream_is_scheme_host_and_port_of_somebody_else() {
    let with = |upstream: &str| one(&BASE.replace("\"http://10.0.0.5:8000\"", upstream), &[]);
    let secret = with("\"http://user:secret@10.0.0.5\"");
    assert!(secret.contains("has a login") && !secret.contains("secret"), "{secret}");
    assert!(with("\"http://10.0.0.5/app\"").contains("a path goes into upstream_path"));
    assert!(with("\"10.0.0.5:80\"").contains("proxy.upstream: is no URL"));
    assert!(with("\"http://127.0.0.1:8080\"").contains("requests would go round"));
    assert!(with("[\"http://a\", \"http://a\"]").contains("is there twice"));
    assert!(with("[]").contains("names 0 upstreams"));
    assert!(with("7").contains("expected text in quotes"));
}

#[test]
fn keys_that_do_not_go_together_are_told() {
    let with = |keys: &str| one(&format!("{BASE}{keys}\n"), &[]);
    assert!(with("rate_per_s = 5\nshared_tokens = true").contains("is true while rate_per_s is set"));
    assert!(with("ca_file = \"/nowhere\"").contains("no upstream is https://"));
    assert!(with("pass_of_sale = \"s\"\nidentity = \"optional\"").contains("a pass belongs to a buyer"));
    assert!(
        with("methods = [\"GET\", \"CONNECT\"]").contains("\"CONNECT\" is no method that can be forwarded")
    );
    assert!(with("methods = []").contains("holds no method"));
    assert!(with("host = \"a/b\"").contains("expected \"upstream\", \"client\" or a host name"));
    assert!(with("add_headers = [\"Host: x\"]").contains("is no header such as"));
    assert!(with("identity_header = \"Transfer-Encoding\"").contains("expected the name of an HTTP header"));
    assert!(with("balance = \"least_load\"").contains("did you mean \"least_loaded\"?"));
    let tls = BASE.replace("http://", "https://");
    assert!(
        one(&format!("{tls}ca_file = \"/nowhere\"\n"), &[]).contains("proxy.ca_file: cannot read /nowhere")
    );
}
