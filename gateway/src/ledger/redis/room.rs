//! Room in this gateway's log for wins that Redis may grant: asked for before a call, so that a log that is behind refuses
//! buyers while no stock is taken for them.

use super::shared::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_stock::JournalError;

/// Bytes set aside by all calls under way, of all sales and threads.
#[derive(Debug, Default)]
pub(super) struct Promised(AtomicU64);

impl Promised {
    /// How many of `bytes` that one more call would like are there, if `free` tells what the log takes; they are set aside.
    fn take(
        &self,
        bytes: u64,
        free: impl FnOnce() -> Result<u64, JournalError>,
    ) -> Result<u64, JournalError> {
        // Before the look: what another call sets aside no longer, is in the log by then.
        let all = self.0.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let free = free().inspect_err(|_| self.give_back(bytes))?;
        let lacking = all.saturating_sub(free).min(bytes);
        self.give_back(lacking);
        Ok(bytes - lacking)
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// Room that is set aside until this is dropped.
pub(super) struct Room {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Room {
    /// As much of `bytes` as there is. `Err`: the log takes nothing new.
    pub(super) fn take(shared: &Arc<Shared>, bytes: u64) -> Result<Self, JournalError> {
        let bytes = shared.promised.take(bytes, || shared.journal.room())?;
        Ok(Self { shared: shared.clone(), bytes })
    }

    /// What was set aside.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.promised.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_under_way_share_what_the_log_takes() {
        let promised = Promised::default();
        assert_eq!(promised.take(60, || Ok(100)), Ok(60));
        assert_eq!(promised.take(60, || Ok(100)), Ok(40));
        assert_eq!(promised.take(60, || Ok(100)), Ok(0));
        promised.give_back(60);
        // Their wins took less than was set aside.
        assert_eq!(promised.take(60, || Ok(90)), Ok(50));
        assert_eq!(promised.take(1, || Err(JournalError::Busy)), Err(JournalError::Busy));
        promised.give_back(40 + 50);
        assert_eq!(promised.0.load(Ordering::SeqCst), 0);
    }
}
