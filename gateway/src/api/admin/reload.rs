//! `POST /v1/reload`: the configuration is read again.

use crate::http::{Answer, Refusal, answer, request};
use crate::reload::{self, NotReloaded};
use crate::state::Core;
use http::StatusCode;
use serde::Deserialize;
use std::rc::Rc;

/// A body without fields: nothing, or an empty object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Answers what changed, or everything that is wrong; then nothing did. Goes on when the caller has gone.
pub(in crate::api) async fn reload(core: &Rc<Core>, body: &[u8]) -> Result<Answer, Refusal> {
    if !body.is_empty() {
        request::parse_json::<Nothing>(body)?;
    }
    let core = core.clone();
    let task = tokio::task::spawn_local(async move { reload::reload(&core).await });
    match task.await {
        Ok(Ok(reloaded)) => Ok(answer::json(StatusCode::OK, &reloaded)),
        Ok(Err(NotReloaded::Busy)) => Err(Refusal::ReloadUnderWay),
        Ok(Err(NotReloaded::Problems(problems))) => Err(Refusal::ConfigRefused(problems)),
        Ok(Err(NotReloaded::Ledger(why))) => Err(Refusal::LedgerUnavailable(why.into())),
        Err(_) => Err(Refusal::LedgerUnavailable("the reload was interrupted; nothing was changed".into())),
    }
}
