//! Properties that the queue keeps for itself: in the log beside a message's own, never shown with it.

/// What their names begin with; no message may bring such a property.
pub(crate) const PREFIX: &str = "tidegate.";
/// First property of a batch that a producer numbered: its sequence number, a space, its id.
pub(crate) const PRODUCER: &str = "tidegate.producer";
/// First property of a half message: who is asked what became of it.
pub(crate) const PRODUCER_GROUP: &str = "tidegate.producer-group";

pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}
