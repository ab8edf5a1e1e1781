//! Properties that the queue keeps for itself: in the log beside a message's own, never shown with it.

/// What their names begin with; no message may bring such a property.
pub(crate) const PREFIX: &str = "tidegate.";
/// First property of a batch that a producer numbered: its sequence number, a space, its id.
pub(crate) const PRODUCER: &str = "tidegate.producer";
/// First property of a half message: who is asked what became of it.
pub(crate) const PRODUCER_GROUP: &str = "tidegate.producer-group";
/// The ordering key of a message whose first look-up key is another one. Behind the others of the queue's own, and kept
/// by the copies that deliver or commit.
pub(crate) const ORDERING_KEY: &str = "tidegate.ordering-key";

/// First property of a delayed record that was carried forward: it stands for the one that its origin names.
pub(crate) const CARRIED: &str = "tidegate.carried";

/// What a copy that delivers or commits keeps.
pub(crate) fn is_copied(name: &str) -> bool {
    !is_reserved(name) || name == ORDERING_KEY
}

pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}
