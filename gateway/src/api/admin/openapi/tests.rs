//! The document against the routes, the problem types and the wire types.

use super::DOCUMENT;
use crate::api::inner::{Scope, place};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tidegate_client::wire::{self, ProblemType, Ticket, TicketStatus};

const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

fn tags(operation: &Value) -> Vec<&str> {
    operation["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect()
}

/// Operations of the document: path, method, tags.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| Some((path.as_str(), *method, item.get(method)?)))
    })
}

/// The arms of a `route` function: methods and path patterns; a parameter is `{}`.
fn arms(source: &str) -> BTreeSet<(String, String)> {
    let mut arms = BTreeSet::new();
    let source = source.split("async fn route").nth(1).unwrap().split("\n}\n").next().unwrap();
    for arm in source.split("(&Method::").skip(1) {
        let (method, rest) = arm.split_once(", [").unwrap();
        let pattern = rest.split_once(']').unwrap().0;
        let alternatives = pattern.split(',').map(|segment| {
            let segment = segment.trim();
            if segment.starts_with('"') { segment.trim_matches('"').to_owned() } else { "{}".to_owned() }
        });
        let path = format!("/{}", alternatives.collect::<Vec<_>>().join("/"));
        arms.insert((method.to_lowercase(), path));
    }
    assert!(arms.len() > 5, "the arms are found: {arms:?}");
    arms
}

fn nameless(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
}

/// Whether a route's pattern takes a path of the document: `{}` of a route takes a word too.
fn takes(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(a, b)| a == b || *a == "{}")
}

#[test]
fn every_route_is_in_the_document_and_the_other_way_round() {
    let document = document();
    let sides =
        [("buyers", arms(include_str!("../../public.rs"))), ("inner", arms(include_str!("../../inner.rs")))];
    for (side, arms) in sides {
        let documented: Vec<(&str, String)> = operations(&document)
            .filter(|(_, _, operation)| {
                tags(operation).iter().any(|tag| (*tag == "buyers") == (side == "buyers"))
            })
            .map(|(path, method, _)| (method, nameless(path)))
            .collect();
        for (method, pattern) in &arms {
            assert!(
                documented.iter().any(|(of, path)| of == method && takes(pattern, path)),
                "{side}: {method} {pattern} is not in openapi.json"
            );
        }
        for (method, path) in &documented {
            assert!(
                arms.iter().any(|(of, pattern)| of == method && takes(pattern, path)),
                "{side}: {method} {path} of openapi.json has no route"
            );
        }
    }
}

#[test]
fn scopes_and_methods_are_those_of_the_document() {
    let document = document();
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, method, operation) in operations(&document) {
        let tags = tags(operation);
        if tags == ["buyers"] {
            continue;
        }
        let concrete = nameless(path);
        let segments: Vec<&str> =
            concrete[1..].split('/').map(|part| if part == "{}" { "x" } else { part }).collect();
        let (scope, allowed) = place(&segments).unwrap_or_else(|| panic!("{path} is no inner route"));
        let expected = match scope {
            Scope::Open => "open",
            Scope::Worker => "worker",
            Scope::Admin => "admin",
        };
        assert!(tags.contains(&expected), "{method} {path}: scope {expected}, documented {tags:?}");
        assert!(allowed.split(", ").any(|of| of.eq_ignore_ascii_case(method)), "{method} {path}: {allowed}");
        methods.entry(path.to_owned()).or_default().insert(method.to_uppercase());
        let told = &methods[path];
        assert!(told.len() <= allowed.split(", ").count(), "{path}: {told:?} of {allowed}");
    }
}

#[test]
fn every_problem_type_is_told() {
    let told = &document()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    let told: BTreeSet<&str> = told.as_array().unwrap().iter().map(|slug| slug.as_str().unwrap()).collect();
    let known: BTreeSet<&str> = ProblemType::ALL.iter().map(|kind| kind.slug()).collect();
    assert_eq!(told, known);
}

/// Members of a value that has all of them, against the properties of its schema.
fn same_members(schema: &str, value: &impl serde::Serialize) {
    let document = document();
    let properties = document["components"]["schemas"][schema]["properties"].as_object();
    let properties: BTreeSet<&str> =
        properties.unwrap_or_else(|| panic!("no schema {schema}")).keys().map(String::as_str).collect();
    let value = serde_json::to_value(value).unwrap();
    let members: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, properties, "{schema}");
}

/// A wire type from JSON that names every member of its schema, back to JSON: nothing is lost, nothing is added.
fn round_trip<T: serde::Serialize + for<'de> serde::Deserialize<'de>>(schema: &str, full: Value) {
    let value: T = serde_json::from_value(full).unwrap_or_else(|error| panic!("{schema}: {error}"));
    same_members(schema, &value);
}

#[test]
fn wire_types_have_the_members_of_their_schemas() {
    let ticket = Ticket {
        ticket: "t".into(),
        sale: "s".into(),
        item: "i".into(),
        buyer: "b".into(),
        quantity: 1,
        status: TicketStatus::Queued,
        version: 1,
        won_at_ms: 1,
        deadline_ms: 1,
        updated_at_ms: 1,
        position: Some(1),
        estimated_wait_ms: Some(1),
        order_id: Some("o".into()),
        pay_by_ms: Some(1),
        payment_id: Some("p".into()),
        reason: Some("r".into()),
    };
    same_members("Ticket", &ticket);
    let put = json!({"item":"i","title":"t","stock":1,"opens_at_ms":1,"closes_at_ms":2,"limit_group":"g"});
    round_trip::<wire::PutSale>("PutSale", put);
    let sale = json!({
        "sale":"s","item":"i","title":"t","state":"open","per_buyer_limit":1,"quantity_max":1,"opens_at_ms":1,
        "closes_at_ms":2,"order_deadline_ms":1,"pay_window_ms":1,"weight":1,"requires_pass":true,"limit_group":"g",
        "limit_counts_released":true,"initial":1,"restocked":0,"available":1,"held":0,"sold":0,"returned":0
    });
    round_trip::<wire::Sale<'static>>("Sale", sale);
    let publish = json!({
        "messages":[{"body":1}],"ack":"disk","producer_id":"p","sequence":1
    });
    let request = serde_json::to_string(&publish).unwrap();
    same_members("PublishRequest", &serde_json::from_str::<wire::PublishRequest<'_>>(&request).unwrap());
    round_trip::<wire::NackRequest>("NackRequest", json!({"receipts":["r"],"delay_ms":1}));
    round_trip::<wire::ReceiveRequest>("ReceiveRequest", json!({"consumer":"c"}));
    round_trip::<wire::PutGroup>(
        "PutGroup",
        json!({"mode":"shared","start":"first","max_attempts":1,"retry_delays_ms":[1]}),
    );
    same_members("ReleaseExcess", &wire::ReleaseExcess { tickets: Vec::new(), reason: "r".into() });
    let problem = json!({
        "type":"internal","title":"t","status":500,"detail":"d","field":"f","ticket":"t","tickets":["t"],
        "available":1,"opens_at_ms":1,"retry_after_ms":1,"refund_required":true,"problems":["p"]
    });
    round_trip::<wire::Problem<'static>>("Problem", problem);
    same_members("Reloaded", &wire::Reloaded::default());
    round_trip::<wire::PutBan>("PutBan", json!({"until_ms":1,"reason":"r"}));
    let ban = json!({"client":"buyer:b","until_ms":1,"reason":"r","since_ms":1,"manual":true,"times":0});
    round_trip::<wire::Ban>("Ban", ban);
    let gateways = wire::Gateways { gateways: vec![wire::Gateway::default()], away: vec!["g".into()] };
    same_members("Gateways", &gateways);
}
