//! Follows the file of the keys, so that keys rotate without a restart.

use super::Identity;
use crate::state::Core;
use std::rc::Rc;
use std::time::Duration;
use tracing::{error, info};

/// Between two looks at the file.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks at the file until the gateway stops. A file that cannot be used leaves the present keys as they are, and is
/// told once.
pub(crate) async fn run_key_reload(core: Rc<Core>) {
    let mut last_error = None;
    while tokio::time::timeout(PAUSE, core.app.stopping.wait()).await.is_err() {
        let Identity::Jwt(gate) = core.live().identity.clone() else { continue };
        // A folder on a network may take its time; this thread has other work.
        let seen = gate.clone();
        match tokio::task::spawn_blocking(move || seen.reload()).await {
            Ok(Ok(changed)) => {
                last_error = None;
                if changed {
                    let file = gate.source().path.display();
                    info!(%file, keys = gate.keys(), "the keys of tokens have changed and are taken");
                }
            }
            Ok(Err(error)) => {
                if last_error.as_ref() != Some(&error) {
                    error!(%error, "changed keys of tokens cannot be taken; the present ones go on");
                    last_error = Some(error);
                }
            }
            Err(_) => error!("the file with the keys of tokens could not be looked at"),
        }
    }
}
