//! What gates 6 and 7 cost an order: `cargo bench -p tidegate --bench policy`.

use criterion::{Criterion, criterion_group, criterion_main};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue};
use std::hint::black_box;
use tidegate::config::PolicySettings;
use tidegate::policy::{Facts, Limits, Script, Sources, Vm};

fn policies(c: &mut Criterion) {
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let headers = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(agent))]);
    let facts = Facts {
        sale: "phone",
        buyer: "buyer-123456",
        address: [198, 51, 100, 7].into(),
        quantity: 1,
        has_pass: false,
        recent_by_buyer: 1,
        recent_by_address: 3,
        now_ms: 1_800_000_000_000,
        headers: &headers,
    };
    let shortest = "if request.quantity > 3 then return 'deny' end return 'allow'";
    for (name, text) in [("shortest", shortest), ("risk", include_str!("../../lua/policy/risk.lua"))] {
        let script = Script { name: name.to_owned(), text: text.to_owned() };
        let sources = Sources { version: 1, scripts: vec![script] };
        // A busy machine may take the core away for longer than a policy may run: that is no cost of it.
        let limits = Limits { time_ms_max: 10_000, ..PolicySettings::LIMITS };
        let mut vm = Vm::load(&sources, &[USER_AGENT], limits).expect("it compiles");
        c.bench_function(&format!("policy/{name}"), |b| {
            b.iter(|| black_box(vm.evaluate(black_box(&facts)).expect("a verdict")));
        });
    }
}

criterion_group!(benches, policies);
criterion_main!(benches);
