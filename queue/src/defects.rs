//! Deliberate defects, built in with the feature `defects` and selected by `TIDEGATE_DEFECT`: they prove that
//! the load test's verdict notices. Without the feature there are none.

#[cfg(feature = "defects")]
pub(crate) fn active(name: &str) -> bool {
    static SELECTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    SELECTED.get_or_init(|| std::env::var("TIDEGATE_DEFECT").ok()).as_deref() == Some(name)
}

#[cfg(not(feature = "defects"))]
pub(crate) const fn active(_name: &str) -> bool {
    false
}
