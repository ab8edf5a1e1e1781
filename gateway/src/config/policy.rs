//! `[admission.policy]`: policies in Lua.

use super::reader::Section;
use crate::policy::{Limits, Sources};
use http::HeaderName;
use std::path::PathBuf;

/// Which policies judge orders, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySettings {
    /// Asked one after the other; none: no policies.
    pub files: Vec<PathBuf>,
    /// Headers that they are told.
    pub headers: Vec<HeaderName>,
    /// A failing policy lets the order pass.
    pub allow_on_error: bool,
    /// Of one evaluation.
    pub limits: Limits,
    /// Between two looks at the files.
    pub reload_ms: u64,
}

impl PolicySettings {
    /// Limits of a configuration that says nothing of them.
    pub const LIMITS: Limits = Limits { instructions_max: 10_000, memory_bytes_max: 1 << 20, time_ms_max: 2 };
}

pub(super) fn read(root: &mut Section<'_, '_>) -> PolicySettings {
    // The rest of `[admission]` is read by others; unknown keys are told there.
    let mut admission = root.section("admission");
    let mut section = admission.section("policy");
    let files = section.texts_or("files");
    let settings = PolicySettings {
        files: files.iter().flat_map(|(files, _)| files.iter().map(PathBuf::from)).collect(),
        headers: section.parsed_list("headers", &["user-agent"], "name of an HTTP header", |text| {
            HeaderName::from_bytes(text.as_bytes()).ok()
        }),
        allow_on_error: section.choice("on_error", &[("allow", true), ("deny", false)]),
        limits: Limits {
            instructions_max: section.number(
                "instructions_max",
                u64::from(PolicySettings::LIMITS.instructions_max),
                1_000..=10_000_000,
                "instructions",
            ) as u32,
            memory_bytes_max: section.number(
                "memory_bytes_max",
                PolicySettings::LIMITS.memory_bytes_max as u64,
                64 << 10..=256 << 20,
                "bytes",
            ) as usize,
            time_ms_max: section.number("time_ms_max", PolicySettings::LIMITS.time_ms_max, 1..=10_000, "ms"),
        },
        reload_ms: section.number("reload_ms", 2_000, 100..=3_600_000, "ms"),
    };
    if let Some((_, place)) = files
        && let Err(error) = Sources::read(&settings.files).and_then(|sources| sources.check(&settings))
    {
        section.problem(place, "files", error.to_string(), None);
    }
    section.finish();
    settings
}
