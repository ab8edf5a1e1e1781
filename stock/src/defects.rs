//! Deliberate defects, which prove that the load test's verdict has teeth. Without the feature nothing of it is built in.

/// Whether `TIDEGATE_DEFECT` names this defect.
#[cfg(feature = "defects")]
pub(crate) fn active(name: &str) -> bool {
    static SELECTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    SELECTED.get_or_init(|| std::env::var("TIDEGATE_DEFECT").ok()).as_deref() == Some(name)
}

/// Never, in a build without the feature.
#[cfg(not(feature = "defects"))]
pub(crate) const fn active(_name: &str) -> bool {
    false
}
