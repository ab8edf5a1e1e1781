//! `[admission.tokens]`: the token queue.

use super::reader::Section;
use crate::admission::TokenSettings;
use std::time::Duration;

const RATE_MAX: u64 = 100_000_000;

pub(super) fn read(root: &mut Section<'_, '_>) -> TokenSettings {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("tokens");
    let rate_per_s = section.number("rate_per_s", 0, 0..=RATE_MAX, "tokens a second") as u32;
    let settings = TokenSettings {
        rate_per_s: (rate_per_s > 0).then_some(rate_per_s.into()),
        burst: section.number("burst", 1_000, 1..=RATE_MAX, "tokens") as u32,
        wait_max: Duration::from_millis(section.number("max_wait_ms", 500, 0..=60_000, "ms")),
        tokens_per_unit: section.number("tokens_per_unit", 0, 0..=1_000_000, "tokens") as u32,
    };
    section.finish();
    settings
}
