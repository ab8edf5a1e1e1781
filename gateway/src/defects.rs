//! Deliberate defects that prove the load test's verdict has teeth. Nothing of it is in a normal build.

/// Whether this process was started with the defect `name`.
#[cfg(feature = "defects")]
pub(crate) fn active(name: &str) -> bool {
    static DEFECT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    DEFECT.get_or_init(|| std::env::var("TIDEGATE_DEFECT").ok()).as_deref() == Some(name)
}

/// Whether this process was started with the defect `name`: never, in a build without the feature.
#[cfg(not(feature = "defects"))]
#[expect(dead_code, reason = "used where a defect sits, which is behind the feature")]
pub(crate) const fn active(_name: &str) -> bool {
    false
}
