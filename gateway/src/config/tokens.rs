//! `[admission.tokens]`: the token queue.

use super::reader::Section;
use crate::admission::{TokenRate, TokenSettings};
use std::time::Duration;

const RATE_MAX: u64 = 100_000_000;
/// A lot of shared tokens must live long enough for a call to Redis: a tenth of a second's tokens must fit into the burst.
const SHARED_BURSTS_MAX: u64 = 10;
/// Longest that a request may have to wait for the next lot.
const SHARED_WAIT_MIN_MS: u64 = 200;

/// `redis`: the ledger is there.
pub(super) fn read(root: &mut Section<'_, '_>, redis: bool) -> TokenSettings {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("tokens");
    let rate = section.number_or_word("rate_per_s", "auto", 0, 0..=RATE_MAX, "tokens a second");
    let floor_per_s = section.number("auto_floor_per_s", 10, 1..=RATE_MAX, "tokens a second") as u32;
    let burst = section.number("burst", 1_000, 1..=RATE_MAX, "tokens");
    let max_wait_ms = section.number("max_wait_ms", 500, 0..=60_000, "ms");
    let tokens_per_unit = section.number("tokens_per_unit", 0, 0..=1_000_000, "tokens") as u32;
    let shared = section.flag("shared", false);
    if shared {
        let mut refuse = |key, message: String, help: &str| {
            let place = section.place_of(key);
            section.problem(place, key, message, Some(help.to_owned()));
        };
        match rate {
            _ if !redis => {
                let help = "set kind = \"redis\" under [ledger], or leave it out";
                refuse("shared", "is set while ledger.kind is \"embedded\"".to_owned(), help);
            }
            None => {
                let help = "give a number of tokens a second, of all gateways together; workers of one gateway say \
                            nothing of those of another";
                refuse("rate_per_s", "is \"auto\" while shared is set".to_owned(), help);
            }
            Some(rate) if rate > burst * SHARED_BURSTS_MAX => {
                let help = format!(
                    "with shared, use {} or more: the life of a lot comes out of it",
                    rate.div_ceil(SHARED_BURSTS_MAX)
                );
                refuse("burst", format!("{burst} is less than a tenth of a second's tokens"), &help);
            }
            Some(_) if max_wait_ms < SHARED_WAIT_MIN_MS => {
                let help = format!(
                    "with shared, use {SHARED_WAIT_MIN_MS} or more: who finds no token waits for the next lot"
                );
                refuse("max_wait_ms", format!("{max_wait_ms} ms is too short"), &help);
            }
            Some(_) => {}
        }
    }
    section.finish();
    let rate = match rate {
        None => TokenRate::Auto { floor_per_s },
        Some(0) => TokenRate::Off,
        Some(rate) => TokenRate::Fixed(rate as u32),
    };
    let wait_max = Duration::from_millis(max_wait_ms);
    TokenSettings { rate, burst: burst as u32, wait_max, tokens_per_unit, shared }
}
