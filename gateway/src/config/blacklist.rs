//! `[admission.blacklist]`: whom the gateway bans by itself, and for how long.

use super::reader::Section;

const HOUR_MS: u64 = 3_600_000;

/// Settings of the judge. Bans of operators need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blacklist {
    /// Whether the gateway bans by itself.
    pub enabled: bool,
    /// Refused requests of one buyer within a window for which they are banned.
    pub refusals: u64,
    /// Strangers of one address within a window who did not come back, for which it is banned.
    pub strangers: u64,
    /// The first ban, in ms; each further one takes twice as long.
    pub ban_ms: u64,
    /// No ban of the gateway's takes longer, in ms; after as long again it is forgotten.
    pub ban_max_ms: u64,
    /// Bans at most, operators' among them.
    pub bans_max: usize,
}

pub(super) fn read(root: &mut Section<'_, '_>) -> Blacklist {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("blacklist");
    let settings = Blacklist {
        enabled: section.flag("enabled", true),
        refusals: section.number("refusals", 100, 1..=1_000_000, "requests"),
        strangers: section.number("strangers", 100, 10..=1_000_000, "buyers"),
        ban_ms: section.number("ban_ms", 60_000, 1_000..=24 * HOUR_MS, "ms"),
        ban_max_ms: section.number("ban_max_ms", HOUR_MS, 1_000..=30 * 24 * HOUR_MS, "ms"),
        bans_max: section.number("bans_max", 10_000, 1..=1_000_000, "bans") as usize,
    };
    section.finish();
    settings
}
