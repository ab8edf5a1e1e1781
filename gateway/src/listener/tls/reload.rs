//! Follows the files of the certificate, and warns before it ends.

use super::Tls;
use crate::state::Core;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Between two looks at the files.
const PAUSE: Duration = Duration::from_secs(2);
/// A certificate that ends sooner is warned of …
const WARN_BEFORE_MS: u64 = 14 * DAY_MS;
/// … so often.
const WARN_EVERY: Duration = Duration::from_hours(24);
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Looks at the files until the gateway stops. Files that cannot be used leave the present certificate as it is, and
/// are told once.
pub(crate) async fn run_certificate_reload(core: Rc<Core>) {
    let mut last_error = None;
    let mut warned: Option<Instant> = None;
    let mut seen: Option<Arc<Tls>> = None;
    loop {
        let tls = core.live().tls.clone();
        if let Some(tls) = &tls {
            let is_new = seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, tls));
            let changed = match look(tls.clone()).await {
                Ok(changed) => {
                    last_error = None;
                    changed
                }
                Err(error) => {
                    if last_error.as_ref() != Some(&error) {
                        error!(%error, "a changed certificate cannot be taken; the present one goes on");
                        last_error = Some(error);
                    }
                    false
                }
            };
            let file = tls.files().cert_file.display();
            if changed {
                info!(%file, "the certificate has changed and is taken");
            }
            if (changed || is_new) && tls.key_is_open() {
                let key = tls.files().key_file.display();
                warn!(%key, "others than its owner may read the private key; chmod 600 it");
            }
            if changed || is_new {
                warned = None;
            }
            let left_ms = tls.not_after_ms().saturating_sub(core.app.clock.now_ms());
            if left_ms < WARN_BEFORE_MS && warned.is_none_or(|then| then.elapsed() >= WARN_EVERY) {
                warned = Some(Instant::now());
                let days = left_ms / DAY_MS;
                if left_ms == 0 {
                    error!(%file, "the certificate has ended: clients refuse it; put a new one there");
                } else {
                    warn!(%file, days, "the certificate ends soon; put a new one there");
                }
            }
        }
        seen = tls;
        if tokio::time::timeout(PAUSE, core.app.stopping.wait()).await.is_ok() {
            return;
        }
    }
}

/// A folder on a network may take its time; the caller's thread has other work.
async fn look(tls: Arc<Tls>) -> Result<bool, super::CertificateError> {
    tokio::task::spawn_blocking(move || tls.reload()).await.unwrap_or(Ok(false))
}
