//! `[admission.wait]`: the projected wait.

use super::reader::Section;
use crate::admission::wait::WaitSettings;

pub(super) fn read(root: &mut Section<'_, '_>) -> WaitSettings {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("wait");
    let settings = WaitSettings {
        enabled: section.flag("enabled", true),
        margin: section.number("margin_sigmas", 3, 0..=20, "standard deviations") as f64,
        unmeasured_max: section.number("unmeasured_max", 1_000, 1..=1_000_000_000, "orders"),
    };
    section.finish();
    settings
}
