//! Tests of policies: what they can say, and what they cannot do.

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits { instructions_max: 10_000, memory_bytes_max: 1 << 20, time_ms_max: 1_000 };
const AGENT: HeaderName = http::header::USER_AGENT;
/// What one run may take on a slow machine in a debug build; without a limit it would be for ever.
const BOUND: Duration = Duration::from_secs(5);

fn vm(text: &str) -> Result<Vm, PolicyError> {
    let script = Script { name: "p.lua".to_owned(), text: text.to_owned() };
    Vm::load(&Sources { version: 7, scripts: vec![script] }, &[AGENT], LIMITS)
}

fn facts(headers: &HeaderMap) -> Facts<'_> {
    Facts {
        sale: "phone",
        buyer: "ann",
        address: "::ffff:198.51.100.7".parse().unwrap(),
        quantity: 2,
        has_pass: false,
        recent_by_buyer: 3,
        recent_by_address: 4,
        now_ms: 1_800_000_000_000,
        headers,
    }
}

fn run(vm: &mut Vm) -> Result<Verdict, PolicyError> {
    let headers = HeaderMap::from_iter([(AGENT, HeaderValue::from_static("Mozilla/5.0"))]);
    vm.evaluate(&facts(&headers))
}

fn once(text: &str) -> Result<Verdict, PolicyError> {
    run(&mut vm(text).unwrap())
}

/// It fails within [`BOUND`], and the same VM judges the next request.
#[track_caller]
fn stopped(text: &str) -> String {
    let mut vm = vm(text).unwrap();
    let began = Instant::now();
    let mut last = String::new();
    for _ in 0..3 {
        last = run(&mut vm).expect_err(text).message;
    }
    assert!(began.elapsed() < BOUND, "{:?} for {text}", began.elapsed());
    last
}

fn allow(attributes: serde_json::Value) -> Verdict {
    let serde_json::Value::Object(attributes) = attributes else { panic!("{attributes}") };
    Verdict::Allow(attributes.into_iter().collect())
}

#[test]
fn a_policy_allows_denies_challenges_and_sets_attributes() {
    assert_eq!(once("").unwrap(), allow(json!({})));
    assert_eq!(once("return 'allow'").unwrap(), allow(json!({})));
    let set = "return 'allow', { risk = 7 }";
    assert_eq!(once(set).unwrap(), allow(json!({ "risk": 7 })));
    assert_eq!(once("return 'deny', 'why'").unwrap(), Verdict::Deny("why".to_owned()));
    assert_eq!(once("return 'deny'").unwrap(), Verdict::Deny(String::new()));
    assert_eq!(once("return 'challenge'").unwrap(), Verdict::Challenge);
    for wrong in ["return 7", "return 'alow'", "return 'allow', 7", "return 'deny', {}", "return {}"] {
        let error = once(wrong).unwrap_err();
        assert!(error.message.contains("return nothing, \"allow\""), "{wrong}: {error}");
    }
    for wrong in [
        "return 'allow', { a = {} }",
        "return 'allow', { 'x' }",
        "return 'allow', { a = 0/0 }",
        "local t = {} for i = 1, 17 do t['a' .. i] = i end return 'allow', t",
        "local s = 'x' for i = 1, 9 do s = s .. s end return 'allow', { a = s }",
    ] {
        assert!(once(wrong).unwrap_err().message.contains("attribute"), "{wrong}");
    }
}

#[test]
fn a_policy_sees_the_request() {
    let all =
        "assert(request.sale == 'phone' and request.buyer == 'ann' and request.address == '198.51.100.7')
        assert(request.quantity == 2 and request.has_pass == false and request.now_ms == 1800000000000)
        assert(request.recent_by_buyer == 3 and request.recent_by_address == 4 and request.other == nil)
        assert(request.headers['user-agent'] == 'Mozilla/5.0' and request.headers.cookie == nil)
        local s = ('  Ab\u{e4} '):trim()
        assert(s:lower():starts_with('ab') and s:upper():starts_with('AB') and s:contains('b'))
        assert(('abc'):sub(2) == 'bc' and ('abc'):sub(-2, -2) == 'b' and ('abc'):sub(3, 1) == '')
        assert(string.ends_with('abc', 'bc') and not ('a.c'):contains('abc') and #'abc' == 3)
        assert(math.floor(2.5) == 2 and math.max(1, 2) == 2)
        return 'deny', 'all seen'";
    assert_eq!(once(all).unwrap(), Verdict::Deny("all seen".to_owned()));
}

#[test]
fn mistakes_are_told_with_their_line() {
    let error = vm("return 'allow'\n\nlocal x = = 1").unwrap_err();
    assert!(
        error.to_string().starts_with("p.lua: p.lua:1:") || error.to_string().contains("p.lua:"),
        "{error}"
    );
    let error = once("\n\nlocal x = nil .. 'a'").unwrap_err();
    assert!(error.message.starts_with("p.lua:3: attempt to concatenate a nil value"), "{error}");
    assert!(!error.message.contains('\n'));
    assert!(once("error('mine')").unwrap_err().message.contains("mine"));
    assert!(vm("\u{1b}Lua").is_err(), "no bytecode");
}

#[test]
fn fm42_an_endless_loop_is_stopped() {
    for text in [
        "while true do end",
        "for i = 1, math.huge do end",
        "::again:: goto again",
        "local function f() return f() end return f()",
        "local t = {1, 2, 3} while true do for _ in pairs(t) do end end",
        "repeat local x = ('abc'):lower() until false",
    ] {
        assert!(stopped(text).contains("it ran for too many instructions"), "{text}");
    }
}

#[test]
fn fm42_a_huge_allocation_is_stopped() {
    for text in [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = { i } end",
        "local t = {} for i = 1, 1000 do t[i] = request.buyer .. i .. ('x'):upper() end local s = 'y' while true do s = s .. s end",
    ] {
        let said = stopped(text);
        assert!(said.contains("memory") || said.contains("instructions"), "{text}: {said}");
    }
    let deep = stopped("local function f(n) return 1 + f(n + 1) end return f(1)");
    assert!(
        deep.contains("stack overflow") || deep.contains("memory") || deep.contains("instructions"),
        "{deep}"
    );
    let large = stopped("local s = 'x' for i = 1, 21 do s = s .. s end return 'deny', 'two million bytes'");
    assert_eq!(large, "it took too much memory");
    // What one request held, the next one has again.
    let mut vm = vm("if request.quantity == 2 then local s = 'x' while true do s = s .. s end end
                     local s = 'x' for i = 1, 18 do s = s .. s end return 'deny', tostring(#s)")
    .unwrap();
    let headers = HeaderMap::new();
    for _ in 0..20 {
        vm.evaluate(&facts(&headers)).unwrap_err();
        let other = Facts { quantity: 1, ..facts(&headers) };
        assert_eq!(vm.evaluate(&other).unwrap(), Verdict::Deny("262144".to_owned()));
    }
}

#[test]
fn fm42_copies_of_large_texts_are_stopped_by_the_clock() {
    // Few instructions, each of them long: half a megabyte is copied by one.
    let text = "local s = 'a' for i = 1, 18 do s = s .. s end while true do local _ = s .. 'x' end";
    let scripts = vec![Script { name: "p.lua".to_owned(), text: text.to_owned() }];
    let limits = Limits { instructions_max: 10_000_000, time_ms_max: 5, ..LIMITS };
    let mut vm = Vm::load(&Sources { version: 1, scripts }, &[], limits).unwrap();
    let began = Instant::now();
    assert_eq!(run(&mut vm).unwrap_err().message, "it ran for too long");
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[test]
fn fm42_no_library_function_runs_long() {
    for text in [
        "return ('x'):rep(1e9)",
        "return string.rep('x', 1e9)",
        "return ('a'):find('.-.-.-.-b')",
        "return string.match('a', '.-b')",
        "return ('a'):gsub('.', 'x')",
        "return string.format('%99d', 1)",
        "return table.concat({}, 'x', 1, 1e9)",
        "return string.dump(function() end)",
        "return table.unpack({}, 1, 1e6)",
    ] {
        let said = stopped(text);
        assert!(
            said.contains("attempt to call a nil value") || said.contains("attempt to index a nil value"),
            "{text}: {said}"
        );
    }
    for text in ["return (7):lower()", "return string.lower(7)", "return ('a'):contains(nil)"] {
        let said = stopped(text);
        assert!(
            said.contains("a text is needed") || said.contains("attempt to index a number"),
            "{text}: {said}"
        );
    }
    let long = stopped("local s = 'x' for i = 1, 11 do s = s .. s end return s:lower()");
    assert!(long.contains("a text has 2048 bytes; at most 1024"), "{long}");
}

#[test]
fn fm42_no_policy_can_catch_a_limit_or_leave_its_sandbox() {
    for name in [
        "pcall",
        "xpcall",
        "coroutine",
        "debug",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "require",
        "package",
        "io",
        "os",
        "print",
        "collectgarbage",
        "setmetatable",
        "getmetatable",
        "rawset",
        "rawget",
        "rawequal",
        "rawlen",
        "utf8",
        "table",
        "warn",
        "_G",
        "setfenv",
        "getfenv",
    ] {
        assert_eq!(
            once(&format!("return 'deny', tostring({name})")).unwrap(),
            Verdict::Deny("nil".to_owned()),
            "{name}"
        );
    }
    for text in [
        "pcall(function() while true do end end)",
        "while true do xpcall(error, error) end",
        "coroutine.wrap(function() while true do end end)()",
        "getmetatable('').__index = nil",
        "local _ = setmetatable({}, { __gc = function() while true do end end })",
    ] {
        let said = stopped(text);
        assert!(said.contains("attempt to") && said.contains("nil value"), "{text}: {said}");
    }
}

#[test]
fn fm42_nothing_leaks_from_one_request_to_the_next() {
    for text in [
        "leak = 1",
        "function leak() end",
        "_ENV.leak = 1",
        "request.leak = 1",
        "request.sale = 'other'",
        "request.headers.leak = 1",
        "string.leak = 1",
        "math.floor = nil",
        "tostring = nil",
    ] {
        let said = stopped(text);
        assert!(said.contains("cannot be set"), "{text}: {said}");
    }
    // Nothing to walk through, and locals are new each time.
    let mut vm = vm("local n = 0 for _ in pairs(request) do n = n + 1 end
                     for _ in pairs(string) do n = n + 1 end for _ in pairs(_ENV) do n = n + 1 end
                     n = n + 1 return 'deny', tostring(n)")
    .unwrap();
    for _ in 0..3 {
        assert_eq!(run(&mut vm).unwrap(), Verdict::Deny("1".to_owned()));
    }
    // A header of one request is not there in the next.
    let mut vm = self::vm("return 'deny', request.headers['user-agent'] or 'none'").unwrap();
    assert_eq!(run(&mut vm).unwrap(), Verdict::Deny("Mozilla/5.0".to_owned()));
    assert_eq!(vm.evaluate(&facts(&HeaderMap::new())).unwrap(), Verdict::Deny("none".to_owned()));
}

#[test]
fn a_long_header_is_cut_and_bytes_are_no_problem() {
    let mut vm =
        vm("local a = request.headers['user-agent'] return 'deny', #a .. a:lower():sub(1, 1)").unwrap();
    let long = HeaderValue::from_str(&"A".repeat(5_000)).unwrap();
    let headers = HeaderMap::from_iter([(AGENT, long)]);
    assert_eq!(vm.evaluate(&facts(&headers)).unwrap(), Verdict::Deny("512a".to_owned()));
    let bytes = HeaderMap::from_iter([(AGENT, HeaderValue::from_bytes(b"A\xff\xfe").unwrap())]);
    assert_eq!(vm.evaluate(&facts(&bytes)).unwrap(), Verdict::Deny("3a".to_owned()));
}

#[test]
fn files_are_asked_in_their_order_until_one_does_not_allow() {
    let script = |name: &str, text: &str| Script { name: name.to_owned(), text: text.to_owned() };
    let load = |scripts| Vm::load(&Sources { version: 1, scripts }, &[], LIMITS).unwrap();
    let set = script("a.lua", "return 'allow', { a = true }");
    let more = script("b.lua", "return 'allow', { b = 'x' }");
    let deny = script("c.lua", "return 'deny', 'c'");
    let broken = script("d.lua", "error('never asked')");
    assert_eq!(run(&mut load(vec![set.clone(), more])).unwrap(), allow(json!({ "a": true, "b": "x" })));
    assert_eq!(run(&mut load(vec![set, deny, broken])).unwrap(), Verdict::Deny("c".to_owned()));
}
