//! The reply to INFO.

/// Lines `field:value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info<'a>(pub(super) &'a str);

impl<'a> Info<'a> {
    /// Value of a field.
    pub(super) fn get(&self, field: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
    }
}
