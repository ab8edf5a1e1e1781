//! The answer to a receive. What JSON adds is written into one buffer, small payloads with it; a large payload goes
//! from the mapped log to the socket as it is, without a copy.

use super::message_object;
use crate::http::{Answer, answer};
use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tidegate_client::wire;
use tidegate_queue::Delivery;

/// From this on a payload is not copied; below, a copy costs less than one more piece on its way to the socket.
const SLICE_BYTES_MIN: usize = 4_096;
/// What JSON adds to a message, about: the buffer seldom grows.
const HEAD_BYTES: usize = 400;

pub(super) fn delivered(deliveries: &[Delivery]) -> Answer {
    let copied = |delivery: &Delivery| Some(delivery.message.body.len()).filter(|len| *len < SLICE_BYTES_MIN);
    let bytes: usize = deliveries.iter().map(|delivery| HEAD_BYTES + copied(delivery).unwrap_or(0)).sum();
    let mut text = Vec::with_capacity(bytes);
    let mut pieces = Vec::new();
    text.extend_from_slice(b"{\"messages\":[");
    for (place, delivery) in deliveries.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        let mut message = message_object(&delivery.message, &delivery.receipt.0, delivery.attempt);
        match message.body {
            Cow::Borrowed(body) if body.get().len() >= SLICE_BYTES_MIN => {
                message.body = Cow::Borrowed(RawValue::NULL);
                write(&mut text, &message);
                // `body` is the last member: cut its place holder off, and put the payload there.
                text.truncate(text.len() - "null}".len());
                pieces.push(Bytes::from(std::mem::take(&mut text)));
                pieces.push(delivery.message.body.slice_ref(body.get().as_bytes()));
                text.push(b'}');
            }
            _ => write(&mut text, &message),
        }
    }
    text.extend_from_slice(b"]}");
    pieces.push(text.into());
    answer::json_pieces(StatusCode::OK, pieces)
}

fn write(text: &mut Vec<u8>, message: &wire::Message<'_>) {
    serde_json::to_writer(text, message).expect("wire types have string keys and always serialize");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::task::{Context, Poll, Waker};
    use tidegate_queue::{Deadlines, Message, Position, Receipt};

    fn delivery(offset: u64, body: Vec<u8>) -> Delivery {
        let times = Deadlines { born_at_ms: 7, deliver_at_ms: None, deadline_ms: Some(9) };
        let message = Message {
            position: Position(64 + offset),
            topic: "t".into(),
            queue: 1,
            offset,
            tag: "a \"tag\"".into(),
            keys: vec!["k".into()],
            properties: vec![("name".into(), "value".into())],
            times,
            body: body.into(),
        };
        Delivery { receipt: Receipt(format!("receipt-{offset}")), attempt: 1, message }
    }

    #[test]
    fn says_what_the_wire_type_says_whether_payloads_are_copied_or_not() {
        let text = |len: usize| format!("  {{\"long\":\"{}\"}} ", "x".repeat(len)).into_bytes();
        let bodies = [
            text(1),
            text(SLICE_BYTES_MIN),
            vec![0xFF; 2 * SLICE_BYTES_MIN],
            text(3 * SLICE_BYTES_MIN),
            text(2),
        ];
        for count in 0..=bodies.len() {
            let deliveries: Vec<_> =
                (0..).zip(bodies.iter().cloned()).take(count).map(|(n, body)| delivery(n, body)).collect();
            let messages = deliveries.iter();
            let messages =
                messages.map(|one| message_object(&one.message, &one.receipt.0, one.attempt)).collect();
            let expected = wire::ReceiveAnswer { messages };
            let expected = serde_json::to_string(&expected).unwrap();
            let answer = delivered(&deliveries);
            let told = hyper::body::Body::size_hint(answer.body()).exact();
            let mut collecting = std::pin::pin!(answer.into_body().collect());
            let Poll::Ready(Ok(all)) = collecting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            else {
                panic!("all of it is there")
            };
            let bytes = all.to_bytes();
            assert_eq!(String::from_utf8_lossy(&bytes), expected);
            assert_eq!(told, Some(bytes.len() as u64));
        }
    }

    #[test]
    fn a_large_payload_is_the_slice_itself() {
        let body = Bytes::from(vec![b'1'; SLICE_BYTES_MIN]);
        let mut one = delivery(0, Vec::new());
        one.message.body = body.clone();
        let mut answer = delivered(&[one]);
        let mut found = false;
        while let Some(Ok(frame)) = {
            let mut next = std::pin::pin!(answer.body_mut().frame());
            match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(frame) => frame,
                Poll::Pending => panic!("all of it is there"),
            }
        } {
            found |= frame.data_ref().is_some_and(|data| data.as_ptr() == body.as_ptr());
        }
        assert!(found, "the payload was copied");
    }
}
