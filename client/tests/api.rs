//! The API client against a scripted server: what is repeated, what is not, and for how long.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Reply, Server, within};
use tidegate_client::wire::{
    ProblemType, PublishMessage, PublishRequest, ReceiveRequest, TicketStatus, parse_raw,
};
use tidegate_client::{BuildError, Client, ClientError, RetryPolicy, Transitioned};

fn quick() -> RetryPolicy {
    RetryPolicy {
        attempts_max: 4,
        delay_base: Duration::from_millis(1),
        delay_max: Duration::from_millis(5),
        total_max: Duration::from_secs(10),
    }
}

fn client(server: &Server) -> Client {
    Client::builder(&server.url).retry(quick()).build().unwrap()
}

/// Plays the replies one after the other; the last one repeats.
async fn scripted(replies: Vec<fn() -> Reply>) -> Server {
    let next = Arc::new(AtomicUsize::new(0));
    Server::start(move |_| {
        let reply = replies[next.fetch_add(1, Ordering::Relaxed).min(replies.len() - 1)];
        async move { reply() }
    })
    .await
}

fn ticket(status: &str) -> Value {
    json!({"ticket": "T1", "sale": "s", "item": "i", "buyer": "b", "quantity": 1, "status": status, "version": 2,
        "won_at_ms": 1, "deadline_ms": 2, "updated_at_ms": 3, "order_id": "o1", "new_member": true})
}

#[tokio::test]
async fn transition_is_repeated_over_lost_answers_and_busy_gateways() {
    let server = scripted(vec![|| Reply::Drop, || Reply::problem(503, "ledger-unavailable"), || {
        Reply::Json(200, ticket("awaiting_payment"))
    }])
    .await;
    let done = within("created", client(&server).created("T1", "o1")).await.unwrap();
    let Transitioned::Done(ticket) = done else { panic!("{done:?}") };
    assert_eq!(ticket.status, TicketStatus::AwaitingPayment);
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.path == "/v1/tickets/T1/created"));
    assert!(seen.iter().all(|request| request.body == json!({"order_id": "o1"})));
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    let server = scripted(vec![|| Reply::problem(404, "ticket-not-found")]).await;
    let error = within("created", client(&server).created("T1", "o1")).await.unwrap_err();
    assert_eq!(error.problem_type(), Some(ProblemType::TicketNotFound));
    assert!(!error.is_transient());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn wrong_state_is_an_outcome_with_the_ticket() {
    let server = scripted(vec![|| {
        Reply::problem_with(
            409,
            json!({"type": "wrong-state", "title": "t", "status": 409, "detail": "expired", "ticket": ticket("expired"), "refund_required": true}),
            &[],
        )
    }])
    .await;
    let outcome = within("paid", client(&server).paid("T1", "p1")).await.unwrap();
    let Transitioned::Refused(refusal) = outcome else { panic!("{outcome:?}") };
    assert!(refusal.refund_required);
    assert_eq!(refusal.ticket.unwrap().status, TicketStatus::Expired);
}

#[tokio::test]
async fn retries_end_with_the_last_refusal() {
    let server = scripted(vec![|| Reply::problem(503, "queue-unavailable")]).await;
    let error = within("created", client(&server).created("T1", "o1")).await.unwrap_err();
    assert_eq!(error.problem_type(), Some(ProblemType::QueueUnavailable));
    assert!(error.is_transient());
    assert_eq!(server.seen().len(), 4, "attempts_max");
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let server = scripted(vec![
        || {
            Reply::problem_with(
                429,
                json!({"type": "overloaded", "title": "t", "status": 429}),
                &[("retry-after", "1")],
            )
        },
        || Reply::Json(200, json!({"messages": []})),
    ])
    .await;
    let started = Instant::now();
    within("receive", client(&server).receive("t", "g", &ReceiveRequest::default())).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn retry_after_beyond_the_bound_on_time_ends_the_call_at_once() {
    let server = scripted(vec![|| {
        Reply::problem_with(
            429,
            json!({"type": "overloaded", "title": "t", "status": 429}),
            &[("retry-after", "3600")],
        )
    }])
    .await;
    let error = within("audit", client(&server).audit()).await.unwrap_err();
    assert_eq!(error.status(), Some(429));
    assert!(
        error.to_string().ends_with("refused: overloaded (429) t"),
        "without a detail, the title: {error}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn publish_without_producer_id_is_not_repeated_after_a_lost_answer() {
    let server = scripted(vec![|| Reply::Drop, || Reply::Json(200, json!({"results": []}))]).await;
    let body = parse_raw(r#"{"a":1}"#).unwrap();
    let mut request = PublishRequest { messages: vec![PublishMessage::new(body)], ..Default::default() };
    let error = within("publish", client(&server).publish("t", &request)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { refused: false, attempts: 1, .. }), "{error:?}");
    assert_eq!(server.seen().len(), 1);

    let server = scripted(vec![|| Reply::Drop, || Reply::Json(200, json!({"results": []}))]).await;
    request.producer_id = Some("p".into());
    request.sequence = Some(1);
    within("publish", client(&server).publish("t", &request)).await.unwrap();
    assert_eq!(server.seen().len(), 2);
    assert_eq!(
        server.seen()[0].body,
        json!({"messages": [{"body": {"a": 1}}], "producer_id": "p", "sequence": 1})
    );
}

#[tokio::test]
async fn publish_is_repeated_when_no_connection_came_about() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let patient = RetryPolicy {
        attempts_max: 1000,
        delay_base: Duration::from_millis(5),
        delay_max: Duration::from_millis(20),
        ..quick()
    };
    let client = Client::builder(&format!("http://{address}")).retry(patient).build().unwrap();
    let publishing = tokio::spawn(async move {
        let message = PublishMessage::json(&1).unwrap();
        client.publish("t", &PublishRequest { messages: vec![message], ..Default::default() }).await
    });
    // The port opens only now, after at least one refused attempt may have been made.
    tokio::task::yield_now().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let server = Server::start_on(listener, |_| async {
        Reply::Json(200, json!({"results": [{"id": "5", "queue": 0, "offset": 9}]}))
    });
    let results = within("publish", publishing).await.unwrap().unwrap();
    assert_eq!(results[0].offset, 9);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn refused_connections_are_told_apart_from_lost_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::builder(&url).retry(quick()).build().unwrap();
    let error = within("paid", client.paid("T", "p")).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { refused: true, attempts: 4, .. }), "{error:?}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn silent_gateway_is_a_timeout_and_the_total_time_is_bounded() {
    let server = scripted(vec![|| Reply::Hang]).await;
    let client = Client::builder(&server.url)
        .request_timeout(Duration::from_millis(60))
        .retry(RetryPolicy { attempts_max: 1000, total_max: Duration::from_millis(300), ..quick() })
        .build()
        .unwrap();
    let started = Instant::now();
    let error = within("created", client.created("T", "o")).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { attempts: 2.., .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn long_poll_is_not_cut_short_by_the_request_timeout() {
    let server = Server::start(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Reply::Json(200, json!({"messages": []}))
    })
    .await;
    let client = Client::builder(&server.url)
        .request_timeout(Duration::from_millis(100))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let request = ReceiveRequest { wait_ms: 2_000, ..ReceiveRequest::default() };
    assert!(within("receive", client.receive("t", "g", &request)).await.unwrap().is_empty());
}

#[tokio::test]
async fn endless_answers_are_refused() {
    let server = scripted(vec![|| Reply::Raw(200, Vec::new(), vec![b' '; 4096].into())]).await;
    let client = Client::builder(&server.url).response_bytes_max(1024).retry(quick()).build().unwrap();
    let error = within("sales", client.sales()).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { bytes_max: 1024, .. }), "{error:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn audit_that_does_not_hold_is_an_answer() {
    let server = scripted(vec![|| Reply::Json(409, json!({"holds": false, "sales": []}))]).await;
    assert!(!within("audit", client(&server).audit()).await.unwrap().holds);
    let server = scripted(vec![|| Reply::problem(404, "sale-not-found")]).await;
    let error = within("audit", client(&server).audit_sale("s")).await.unwrap_err();
    assert_eq!(error.problem_type(), Some(ProblemType::SaleNotFound));
}

#[tokio::test]
async fn token_and_names_travel_as_they_should() {
    let server = scripted(vec![|| Reply::Json(200, json!({}))]).await;
    let client = Client::builder(&server.url).token("s3cret").build().unwrap();
    within("put", client.put_topic("a/b?c", 4)).await.unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/topics/a%2Fb%3Fc");
    assert_eq!(seen.headers["authorization"], "Bearer s3cret");
    assert!(!format!("{client:?}").contains("s3cret"));
}

#[tokio::test]
async fn other_servers_and_broken_answers_are_told() {
    let server = scripted(vec![|| Reply::Raw(404, Vec::new(), "nginx".into())]).await;
    let error = within("sales", client(&server).sales()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Status { status: 404, excerpt, .. } if excerpt == "nginx"),
        "{error:?}"
    );
    let server = scripted(vec![|| Reply::Json(200, json!({"sales": 1}))]).await;
    let error = within("sales", client(&server).sales()).await.unwrap_err();
    assert!(matches!(error, ClientError::Decode { .. }), "{error:?}");
}

#[test]
fn bad_addresses_and_tokens_are_refused_at_build() {
    for url in ["", "127.0.0.1:8081", "https://gateway:1", "http://gateway:1/api", "http://"] {
        assert_eq!(Client::new(url).unwrap_err(), BuildError::BaseUrl(url.to_owned()));
    }
    assert_eq!(Client::builder("http://g:1").token("a\nb").build().unwrap_err(), BuildError::Token);
}
