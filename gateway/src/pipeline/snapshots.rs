//! Placeholder until the ledger's snapshot store is in.

use crate::state::Core;
use std::rc::Rc;

/// Runs until the gateway stops.
pub async fn run(core: Rc<Core>) {
    core.app.stopping.wait().await;
}
