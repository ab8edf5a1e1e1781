//! Where a record stands in the CommitLog.

use std::fmt;

/// Byte position in the CommitLog, over all segments. Positions only grow; a record's position is also
/// its message id. `Position(p)` used as a bound means "everything below `p`".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
