//! What a buyer sees of a sale, and how long a CDN may go on showing it. `docs/cache.md` tells the rules.

use crate::admission::SaleGate;
use crate::http::{Answer, Body, Refusal, answer, entity_tag};
use crate::state::Core;
use http::StatusCode;
use http::header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderValue};
use std::borrow::Cow;
use tidegate_client::wire::{SaleInfo, SaleState};
use tidegate_stock::{SaleSpec, Window};

/// How long a state that nobody has announced a change of may be shown, in seconds.
const SETTLED_S: u64 = 5;
/// The same where it may change by itself at any moment.
const MOVING_S: u64 = 1;
/// An answer needs a moment to its cache, whose age it does not count: it ends so long before the sale's next instant.
const WAY_MS: u64 = 1_000;

/// `GET /v1/sales/{sale}`
pub(super) fn get(core: &Core, sale: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let app = &core.app;
    let gate = app.sales.find(sale).ok_or_else(|| super::orders::unknown_sale(app, sale))?;
    let now_ms = app.clock.now_ms();
    let rules = gate.rules();
    let spec = &rules.spec;
    let mut info = SaleInfo {
        sale: Cow::Borrowed(&gate.sale),
        item: Cow::Borrowed(&spec.item),
        title: spec.title.as_deref().map(Cow::Borrowed),
        state: state(&gate, now_ms),
        opens_at_ms: spec.opens_at_ms,
        closes_at_ms: spec.closes_at_ms,
        now_ms: 0,
        per_buyer_limit: spec.per_buyer_limit,
        requires_pass: spec.requires_pass,
    };
    // The time of an answer is no part of what it tells of the sale, so the tag is of all but that, and weak.
    let tag = entity_tag::weak(&serde_json::to_vec(&info).unwrap_or_default());
    let mut answer = if entity_tag::named(headers, &tag) {
        let mut answer = Answer::new(Body::Full(None));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        info.now_ms = now_ms;
        answer::json(StatusCode::OK, &info)
    };
    let fresh_s = fresh_s(info.state, spec, now_ms);
    let control = format!("public, max-age={fresh_s}, must-revalidate");
    let control = HeaderValue::try_from(control).expect("a number among words is a header value");
    answer.headers_mut().insert(CACHE_CONTROL, control);
    answer.headers_mut().insert(ETAG, tag);
    Ok(answer)
}

/// How long caches may show the state that the sale has now, in seconds: never beyond the next instant at which it opens
/// or closes by itself. What comes unannounced (sold out, reopened, switched by hand) bounds the rest.
fn fresh_s(state: SaleState, spec: &SaleSpec, now_ms: u64) -> u64 {
    let most = match state {
        // Without an announced time it is opened by hand at any moment.
        SaleState::Upcoming if spec.opens_at_ms.is_none() => MOVING_S,
        SaleState::Upcoming | SaleState::Closed => SETTLED_S,
        SaleState::Open | SaleState::SoldOut | SaleState::Paused => MOVING_S,
    };
    let ahead = [spec.opens_at_ms, spec.closes_at_ms].into_iter().flatten().filter(|&at_ms| at_ms > now_ms);
    let left_s = ahead.min().map_or(u64::MAX, |at_ms| (at_ms - now_ms).saturating_sub(WAY_MS) / 1_000);
    most.min(left_s)
}

/// The state that the gates would let a buyer find now.
pub(crate) fn state(gate: &SaleGate, now_ms: u64) -> SaleState {
    if gate.is_paused() {
        return SaleState::Paused;
    }
    match gate.window(|| now_ms) {
        Window::NotOpen { .. } => SaleState::Upcoming,
        Window::Closed => SaleState::Closed,
        Window::Open if gate.is_sold_out() => SaleState::SoldOut,
        Window::Open => SaleState::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(opens_at_ms: Option<u64>, closes_at_ms: Option<u64>) -> SaleSpec {
        SaleSpec {
            item: "i".to_owned(),
            title: None,
            stock: 1,
            per_buyer_limit: 1,
            quantity_max: 1,
            opens_at_ms,
            closes_at_ms,
            order_deadline_ms: 1,
            pay_window_ms: 1,
            weight: 1,
            requires_pass: false,
            limit_group: None,
            limit_counts_released: false,
        }
    }

    #[test]
    fn no_cache_may_show_a_state_beyond_the_instant_at_which_it_ends() {
        let window = spec(Some(100_000), Some(200_000));
        let spec_of = [(SaleState::Upcoming, 0..100_000_u64), (SaleState::Open, 100_000..200_000)];
        for (state, times) in spec_of {
            for now_ms in times.clone().step_by(7) {
                let end_ms = now_ms + 1_000 * fresh_s(state, &window, now_ms);
                assert!(
                    end_ms <= times.end,
                    "{state:?} told at {now_ms} is shown until {end_ms}, it ends at {}",
                    times.end
                );
            }
        }
        assert_eq!(fresh_s(SaleState::Upcoming, &window, 0), SETTLED_S);
        assert_eq!(fresh_s(SaleState::Upcoming, &window, 96_000), 3, "a second less than is left");
        assert_eq!(fresh_s(SaleState::Upcoming, &window, 98_001), 0);
        assert_eq!(fresh_s(SaleState::Closed, &window, 200_000), SETTLED_S);
    }

    #[test]
    fn what_may_change_unannounced_is_shown_for_a_second() {
        let by_hand = spec(None, None);
        for state in [SaleState::Upcoming, SaleState::Open, SaleState::SoldOut, SaleState::Paused] {
            assert_eq!(fresh_s(state, &by_hand, 5), MOVING_S, "{state:?}");
        }
        let closed_by_hand = spec(Some(1_000), Some(3_000));
        assert_eq!(fresh_s(SaleState::Closed, &closed_by_hand, 500), 0, "it may be opened again");
    }
}
