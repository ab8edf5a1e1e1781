//! Kept answers of proxy routes, as operators see them.

use crate::http::{Answer, Refusal, answer, request};
use crate::state::Core;
use http::StatusCode;
use serde::Serialize;

#[derive(Serialize)]
struct Forgotten {
    forgotten: usize,
}

/// `DELETE /v1/cache/{route}?path=PREFIX`: forgets what this gateway keeps of the route, or of its paths that begin so, as
/// clients write them. What is on its way is told to who waits for it, and not kept.
///
/// With Redis all answers that the gateways share there go too; what other gateways keep themselves stays until it is stale.
pub(in crate::api) async fn forget_cache(
    core: &Core,
    name: &str,
    query: Option<&str>,
) -> Result<Answer, Refusal> {
    let live = core.live();
    let route = live.proxy.all().iter().find(|route| route.settings.name == name).ok_or(Refusal::NotFound)?;
    let prefix = match request::query(query, "path") {
        None => String::new(),
        Some(path) if path.starts_with(&*route.settings.path) => {
            let (path, query) =
                path.split_once('?').map_or((&*path, None), |(path, query)| (path, Some(query)));
            route.target(path, query)
        }
        Some(path) => {
            let why = format!("`path` is \"{path}\", and this route's begin with {}", route.settings.path);
            return Err(Refusal::BadRequest(why.into()));
        }
    };
    // Redis first: what is forgotten here before would be fetched from there again.
    if let Some(second) = &core.second
        && !second.forget_all().await
    {
        let why =
            "Redis did not answer, and may still hold some of it; nothing was forgotten here: try again";
        return Err(Refusal::LedgerUnavailable(why.into()));
    }
    let forgotten = core.app.cache.forget(name, &prefix);
    Ok(answer::json(StatusCode::OK, &Forgotten { forgotten }))
}
