//! Retention: what holds the log, and deleting what nothing holds.

use super::broker::Broker;
use crate::Position;
use crate::sync::Mutex;

/// Below which position the owner needs nothing; `None` until it has said so.
#[derive(Debug, Default)]
pub(super) struct OwnerHold(Mutex<Option<Position>>);

impl OwnerHold {
    fn release_below(&self, position: Position) {
        let mut released = self.0.lock();
        *released = (*released).max(Some(position));
    }
}

impl Broker {
    pub(super) fn release_below(&self, position: Position) {
        self.owner_hold.release_below(position);
    }
}
