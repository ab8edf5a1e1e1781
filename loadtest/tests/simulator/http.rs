//! The interface around the sale, as far as the load test uses it.

use super::now_ms;
use super::sale::Sale;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(5);

pub(crate) async fn answer(
    sale: Arc<Mutex<Sale>>,
    gateway: usize,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (buyer, key) = (header("x-user-id"), header("idempotency-key"));
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    sale.lock().heard_of(gateway, now_ms());
    let (status, body) = match (parts.method.as_str(), path.as_slice()) {
        ("PUT", ["v1", "sales", name]) => sale.lock().put(name, body),
        ("POST", ["v1", "sales", _, "open"]) => sale.lock().open(),
        ("GET", ["v1", "sales"]) => (200, json!({"sales": [sale.lock().sale_object()]})),
        ("GET", ["v1", "sales", _, "audit"]) => sale.lock().audit(gateway),
        ("POST", ["v1", "sales", _, "orders"]) => sale.lock().order(gateway, &buyer, &key, now_ms()),
        ("GET", ["v1", "tickets", id]) => ticket(&sale, id, &buyer, &query).await,
        ("POST", ["v1", "tickets", id, "created"]) => {
            sale.lock().created(gateway, id, body["order_id"].as_str().unwrap(), now_ms())
        }
        ("POST", ["v1", "tickets", id, "paid"]) => {
            sale.lock().paid(gateway, id, body["payment_id"].as_str().unwrap(), now_ms())
        }
        ("POST", ["v1", "topics", topic, "groups", group, "receive"]) => {
            receive(&sale, gateway, topic, group, &body).await
        }
        ("POST", ["v1", "topics", topic, "groups", group, "ack"]) => {
            let results =
                sale.lock().ack(gateway, topic, group, body["receipts"].as_array().unwrap(), now_ms());
            (200, json!({"results": results}))
        }
        ("GET", ["v1", "topics", topic, "groups", group, "offsets"]) => {
            (200, sale.lock().offsets(gateway, topic, group, now_ms()))
        }
        ("POST", ["simulated", "start"]) => {
            sale.lock().forget_leases(gateway);
            (200, json!({}))
        }
        ("PUT", ["v1", "topics", _, "groups", _]) | ("GET", ["readyz"]) => (200, json!({})),
        _ => (404, json!({"type": "not-found", "status": 404})),
    };
    let is_problem = body.get("type").is_some();
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    if is_problem {
        let kind = hyper::header::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

async fn ticket(sale: &Mutex<Sale>, id: &str, buyer: &str, query: &str) -> (u16, Value) {
    let query: HashMap<&str, u64> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let until_ms = now_ms() + query.get("wait").map_or(0, |wait_s| wait_s * 1_000);
    let past = query.get("version").copied().unwrap_or(0);
    loop {
        let Some((version, object)) = sale.lock().ticket(id, buyer) else {
            return (404, json!({"type": "ticket-not-found", "status": 404}));
        };
        if u64::from(version) > past || now_ms() >= until_ms {
            return (200, object);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn receive(sale: &Mutex<Sale>, gateway: usize, topic: &str, group: &str, body: &Value) -> (u16, Value) {
    let number = |name: &str| body[name].as_u64().unwrap();
    let until_ms = now_ms() + number("wait_ms");
    loop {
        let messages =
            sale.lock().receive(gateway, topic, group, number("max"), number("lease_ms"), now_ms());
        if !messages.is_empty() || now_ms() >= until_ms {
            return (200, json!({"messages": messages}));
        }
        tokio::time::sleep(LOOK).await;
    }
}
