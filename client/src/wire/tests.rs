use super::*;
use std::borrow::Cow;
use std::collections::HashSet;

fn ticket() -> Ticket<'static> {
    Ticket {
        ticket: "01J00000000000000000000000".into(),
        sale: "s".into(),
        item: "i".into(),
        buyer: "b".into(),
        quantity: 1,
        status: TicketStatus::Queued,
        version: 1,
        won_at_ms: 5,
        deadline_ms: 6,
        updated_at_ms: 5,
        position: Some(3),
        estimated_wait_ms: None,
        order_id: None,
        pay_by_ms: None,
        payment_id: None,
        reason: None,
    }
}

#[test]
fn absent_fields_of_a_ticket_are_left_out_and_it_comes_back_equal() {
    let text = serde_json::to_string(&ticket()).unwrap();
    assert_eq!(
        text,
        r#"{"ticket":"01J00000000000000000000000","sale":"s","item":"i","buyer":"b","quantity":1,"status":"queued","version":1,"won_at_ms":5,"deadline_ms":6,"updated_at_ms":5,"position":3}"#
    );
    assert_eq!(serde_json::from_str::<Ticket<'static>>(&text).unwrap(), ticket());
}

#[test]
fn status_spelling_matches_its_name() {
    for status in TicketStatus::ALL {
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
    }
}

#[test]
fn unknown_fields_of_requests_are_refused_by_name() {
    let errors = [
        serde_json::from_str::<OrderRequest<'_>>(r#"{"quantiy":1}"#).unwrap_err(),
        serde_json::from_str::<ReceiveRequest>(r#"{"quantiy":1}"#).unwrap_err(),
        serde_json::from_str::<PutSale>(r#"{"item":"i","stock":1,"quantiy":1}"#).unwrap_err(),
        serde_json::from_str::<PublishRequest<'_>>(r#"{"messages":[{"body":1,"quantiy":1}]}"#).unwrap_err(),
        serde_json::from_str::<CreatedRequest<'_>>(r#"{"order_id":"1","quantiy":1}"#).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("unknown field `quantiy`"), "{error}");
    }
}

#[test]
fn attributes_must_be_an_object_and_pass_through_unchanged() {
    let text = r#"{"attributes":{"b": 1.50,"a":[ ]}}"#;
    let request: OrderRequest<'_> = serde_json::from_str(text).unwrap();
    let attributes = request.attributes.unwrap();
    assert!(matches!(attributes, Cow::Borrowed(_)));
    assert_eq!(attributes.get(), r#"{"b": 1.50,"a":[ ]}"#);
    let error = serde_json::from_str::<OrderRequest<'_>>(r#"{"attributes":[]}"#).unwrap_err();
    assert!(error.to_string().contains("`attributes` must be a JSON object"), "{error}");
}

#[test]
fn order_body_borrows_from_its_text() {
    let text = r#"{"ticket":"t","sale":"s","item":"i","buyer":"b","quantity":2,"won_at_ms":1,"deadline_ms":2,"pay_window_ms":3,"attributes":{}}"#;
    let body: OrderBody<'_> = serde_json::from_slice(text.as_bytes()).unwrap();
    assert!(matches!(body.ticket, Cow::Borrowed("t")));
    assert_eq!(serde_json::to_string(&body).unwrap(), text);
    assert_eq!(serde_json::to_string(&body.into_owned()).unwrap(), text);
}

#[test]
fn start_positions_are_spelled_as_in_the_interface() {
    for (start, text) in [
        (StartFrom::First, r#""first""#),
        (StartFrom::Last, r#""last""#),
        (StartFrom::Offset(7), r#"{"offset":7}"#),
        (StartFrom::TimeMs(8), r#"{"time_ms":8}"#),
    ] {
        assert_eq!(serde_json::to_string(&start).unwrap(), text);
        assert_eq!(serde_json::from_str::<StartFrom>(text).unwrap(), start);
    }
}

#[test]
fn bytes_travel_as_base64_and_json_as_it_is() {
    let bytes = [0_u8, 159, 146, 150, b'"'];
    let wrapped = json_or_bytes(&bytes);
    assert_eq!(decode_bytes(&wrapped).unwrap().unwrap(), bytes);
    let json = json_or_bytes(br#"{"base64":"AA==","more":1}"#);
    assert!(matches!(json, Cow::Borrowed(_)));
    assert!(decode_bytes(&json).unwrap().is_none(), "an object with more members is plain JSON");
    assert!(decode_bytes(parse_raw(r#"{"base64":"*"}"#).unwrap()).is_err());
    assert_eq!(decode_bytes(&encode_bytes(b"")).unwrap().unwrap(), b"");
}

#[test]
fn message_comes_back_with_order_of_properties() {
    let text = r#"{"receipt":"r","id":"9","topic":"orders","queue":1,"offset":2,"tag":"s","keys":["k"],"properties":{"z":"1","a":"2"},"attempt":1,"born_at_ms":3,"deadline_ms":null,"body":{"x":1}}"#;
    let message: Message<'static> = serde_json::from_str(text).unwrap();
    assert_eq!(message.properties.get("a"), Some("2"));
    assert_eq!(serde_json::to_string(&message).unwrap(), text);
}

#[test]
fn slugs_are_distinct_and_lead_back() {
    let slugs: HashSet<_> = ProblemType::ALL.iter().map(|kind| kind.slug()).collect();
    assert_eq!(slugs.len(), ProblemType::ALL.len());
    for kind in ProblemType::ALL {
        assert_eq!(ProblemType::from_slug(kind.slug()), Some(*kind));
        assert!((400..600).contains(&kind.status()));
    }
}

#[test]
fn problem_keeps_members_it_does_not_know() {
    let mut problem = Problem::new(ProblemType::WrongState).detail("paid before");
    problem.ticket = Some(ProblemTicket::Object(Box::new(ticket())));
    problem.refund_required = true;
    problem.other.insert("policy".into(), "vip".into());
    let text = serde_json::to_string(&problem).unwrap();
    assert!(text.starts_with(r#"{"type":"wrong-state","title":"#), "{text}");
    let back: Problem<'static> = serde_json::from_str(&text).unwrap();
    assert_eq!(back, problem);
    assert_eq!(back.problem_type(), Some(ProblemType::WrongState));
}

#[test]
fn audit_identities_hold_sides_beyond_64_bits() {
    let identity = Identity { name: "n".into(), left: i128::from(u64::MAX) * 2, right: -1, holds: false };
    let text = serde_json::to_string(&identity).unwrap();
    assert_eq!(serde_json::from_str::<Identity>(&text).unwrap(), identity);
}

#[test]
fn defaults_of_the_interface_hold() {
    let sale: PutSale = serde_json::from_str(r#"{"item":"i","stock":9}"#).unwrap();
    assert_eq!(sale, PutSale::new("i", 9));
    assert_eq!((sale.order_deadline_ms, sale.pay_window_ms), (30_000, 900_000));
    let receive: ReceiveRequest = serde_json::from_str("{}").unwrap();
    assert_eq!(receive, ReceiveRequest::default());
    assert_eq!((receive.max, receive.wait_ms, receive.lease_ms), (32, 15_000, 30_000));
}

#[test]
fn gateway_tells_what_it_knows_and_older_lists_are_read() {
    let older = r#"{"gateways":[{"this":true,"version":"0.1.0","ready":true,"started_at_ms":5,"now_ms":9,"sales":2,"live_tickets":3,"connections":4}]}"#;
    let list: Gateways = serde_json::from_str(older).unwrap();
    assert_eq!((list.gateways[0].inner.as_deref(), list.gateways[0].now_ms), (None, Some(9)));
    let other = Gateway {
        gateway: "g2".into(),
        inner: Some("http://10.0.0.2:8081".into()),
        version: "0.1.0".into(),
        ready: true,
        started_at_ms: 5,
        seen_ms_ago: 40,
        ..Gateway::default()
    };
    let text = serde_json::to_string(&other).unwrap();
    assert_eq!(
        text,
        r#"{"gateway":"g2","inner":"http://10.0.0.2:8081","this":false,"version":"0.1.0","ready":true,"started_at_ms":5,"seen_ms_ago":40}"#
    );
    assert_eq!(serde_json::from_str::<Gateway>(&text).unwrap(), other);
}
