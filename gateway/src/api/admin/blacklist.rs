//! The blacklist as operators see and change it, and the task that keeps it: what Redis or the file hold, what the judge
//! adds, what nobody needs any more.

use crate::admission::blacklist::{Ban, Client, Judge, Sentence, ban_ms};
use crate::config::Blacklist as Settings;
use crate::http::{Answer, Refusal, answer, request};
use crate::state::Core;
use http::StatusCode;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;
use tidegate_client::wire::{self, BanList, Lifted, PutBan};
use tidegate_stock::hash_of;
use tokio::time::Instant;
use tracing::{info, warn};

/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1_024;
/// Between two looks at what the other gateways have changed: a lifted ban is lifted everywhere within a second.
const LOOK: Duration = Duration::from_millis(300);
/// Between two hearings of the judge.
const HEARING: Duration = Duration::from_secs(1);
/// Bans of the judge made in one hearing, at most: each is a call of Redis.
const SENTENCES_MAX: usize = 256;

/// `GET /v1/blacklist`
pub(in crate::api) fn list_bans(core: &Core) -> Answer {
    let bans = core.app.blacklist.list(core.app.clock.now_ms());
    answer::json(
        StatusCode::OK,
        &BanList { bans: bans.into_iter().map(|(client, ban)| told(&client, ban)).collect() },
    )
}

/// `PUT /v1/blacklist/{client}`. Answered when it is kept: in Redis, or in the data folder.
pub(in crate::api) async fn put_ban(core: &Core, client: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let client = parsed(client)?;
    let asked: PutBan = if body.is_empty() { PutBan::default() } else { request::parse_json(body)? };
    if asked.reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
        return Err(Refusal::BadRequest(format!("`reason` has at most {REASON_BYTES_MAX} bytes").into()));
    }
    let now_ms = core.app.clock.now_ms();
    if asked.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
        return Err(Refusal::BadRequest("`until_ms` is over: give a time to come, in Unix ms".into()));
    }
    let live = core.live();
    if let Client::Network(network) = &client
        && let Some(exempt) = live.quotas.exempt.iter().find(|exempt| exempt.contains(network))
    {
        let why = format!(
            "{exempt} is never banned: it is one of `trusted_proxies` of [identity] or of `exempt` of [admission.quota]"
        );
        return Err(Refusal::BadRequest(why.into()));
    }
    let ban =
        Ban { until_ms: asked.until_ms, reason: asked.reason, since_ms: now_ms, manual: true, times: 0 };
    put(core, &client, &ban, live.config.blacklist.bans_max).await?;
    Ok(answer::json(StatusCode::OK, &told(&client, ban)))
}

/// `DELETE /v1/blacklist/{client}`
pub(in crate::api) async fn lift_ban(core: &Core, client: &str) -> Result<Answer, Refusal> {
    let client = parsed(client)?;
    let held = core.app.blacklist.get(&client).is_some_and(|ban| ban.holds(core.app.clock.now_ms()));
    let shared = forget(core, &client).await?;
    Ok(answer::json(StatusCode::OK, &Lifted { client: client.to_string(), lifted: held || shared }))
}

fn parsed(client: &str) -> Result<Client, Refusal> {
    Client::parse(client).map_err(|why| Refusal::BadRequest(why.into()))
}

fn told(client: &Client, ban: Ban) -> wire::Ban {
    let Ban { until_ms, reason, since_ms, manual, times } = ban;
    wire::Ban { client: client.to_string(), until_ms, reason, since_ms, manual, times }
}

/// Puts a ban where it is kept, then into force here.
async fn put(core: &Core, client: &Client, ban: &Ban, most: usize) -> Result<(), Refusal> {
    let app = &core.app;
    let gone = app.blacklist.room(client, ban, most, app.clock.now_ms()).map_err(|_| full(most))?;
    if let Some(redis) = &core.redis {
        let packed =
            serde_json::to_string(ban).map_err(|error| Refusal::BadRequest(error.to_string().into()))?;
        if let Some(gone) = &gone {
            redis.ops().remove_ban(&gone.to_string()).await.map_err(|error| unanswered(&error))?;
        }
        if !redis
            .ops()
            .put_ban(&client.to_string(), &packed, most)
            .await
            .map_err(|error| unanswered(&error))?
        {
            return Err(full(most));
        }
    }
    app.blacklist.put(client.clone(), ban.clone(), gone.as_ref());
    keep(core).await
}

/// Removes a ban from where it is kept, then from here. Whether Redis had it.
async fn forget(core: &Core, client: &Client) -> Result<bool, Refusal> {
    let shared = match &core.redis {
        Some(redis) => {
            redis.ops().remove_ban(&client.to_string()).await.map_err(|error| unanswered(&error))?
        }
        None => false,
    };
    core.app.blacklist.remove(client);
    keep(core).await?;
    Ok(shared)
}

/// Off this thread: it waits for the disk.
async fn keep(core: &Core) -> Result<(), Refusal> {
    let app = core.app.clone();
    let kept = tokio::task::spawn_blocking(move || app.blacklist.keep()).await;
    kept.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
        warn!(%error, "the blacklist cannot be written to the data folder");
        Refusal::LedgerUnavailable(
            format!("the ban is in force and a restart would forget it: the data folder cannot be written ({error})").into(),
        )
    })
}

fn full(most: usize) -> Refusal {
    let why = format!(
        "the blacklist is full: {most} bans; lift some, or raise `bans_max` of [admission.blacklist]"
    );
    Refusal::BadRequest(why.into())
}

fn unanswered(error: &tidegate_stock::redis::OpError) -> Refusal {
    Refusal::LedgerUnavailable(
        format!("Redis keeps the blacklist and did not answer ({error}); repeat the request").into(),
    )
}

/// Keeps the list until the gateway stops.
pub(crate) async fn run_blacklist(core: Rc<Core>) {
    let mut judge = Judge::default();
    let mut version = String::new();
    let mut hearing = Instant::now();
    while tokio::time::timeout(LOOK, core.app.stopping.wait()).await.is_err() {
        follow(&core, &mut version).await;
        if hearing.elapsed() >= HEARING {
            hearing = Instant::now();
            hear(&core, &mut judge).await;
        }
    }
}

/// Takes over what the gateways have agreed on in Redis. What Redis has lost is put there again.
async fn follow(core: &Core, version: &mut String) {
    let Some(redis) = &core.redis else { return };
    let Ok(Some(read)) = redis.ops().read_bans(version).await else { return };
    let lost = read.version == "0" && !version.is_empty() && version != "0";
    let known = if lost { core.app.blacklist.list(core.app.clock.now_ms()) } else { Vec::new() };
    if !known.is_empty() {
        let most = core.live().config.blacklist.bans_max;
        for (client, ban) in known {
            let Ok(packed) = serde_json::to_string(&ban) else { continue };
            if redis.ops().put_ban(&client.to_string(), &packed, most).await.is_err() {
                // Read again at the next look: the version has not been taken over.
                return;
            }
        }
        info!("Redis had lost the blacklist; what this gateway knew of it is there again");
        return;
    }
    *version = read.version;
    let understood = read.bans.iter().filter_map(|(client, ban)| {
        Some((Client::parse(client).ok()?, serde_json::from_str::<Ban>(ban).ok()?))
    });
    core.app.blacklist.replace(understood);
}

/// What the cores reported, what follows from it, and what is over.
async fn hear(core: &Core, judge: &mut Judge) {
    let app = &core.app;
    let live = app.live();
    let settings = &live.config.blacklist;
    let now_ms = app.clock.now_ms();
    let strikes = app.blacklist.strikes.take();
    if settings.enabled {
        let selling: HashSet<u64> = app
            .sales
            .all()
            .iter()
            .filter(|sale| {
                !sale.is_sold_out() && matches!(sale.window(|| now_ms), tidegate_stock::Window::Open)
            })
            .map(|sale| hash_of(&sale.sale))
            .collect();
        let wait = live.config.quota.newcomers.map_or(0, |newcomers| newcomers.wait_ms);
        let wait = Duration::from_millis(wait);
        let sentences = judge.hear(strikes, now_ms, settings, wait, |sale| selling.contains(&sale));
        for Sentence { client, reason } in sentences.into_iter().take(SENTENCES_MAX) {
            ban(core, client, reason, now_ms, settings).await;
        }
    }
    // With Redis each gateway sees them and removes them: whoever is first does.
    for client in app.blacklist.forgotten(now_ms, settings.ban_max_ms).into_iter().take(SENTENCES_MAX) {
        let _ = forget(core, &client).await;
    }
}

async fn ban(core: &Core, client: Client, reason: String, now_ms: u64, settings: &Settings) {
    let earlier = core.app.blacklist.get(&client);
    if earlier.as_ref().is_some_and(|ban| ban.holds(now_ms)) {
        return;
    }
    let times = earlier.map_or(0, |ban| ban.times) + 1;
    let takes_ms = ban_ms(times, settings);
    let ban = Ban {
        until_ms: Some(now_ms + takes_ms),
        reason: Some(reason),
        since_ms: now_ms,
        manual: false,
        times,
    };
    if let Err(refusal) = put(core, &client, &ban, settings.bans_max).await {
        warn!(?refusal, "a client that is over its bounds cannot be banned");
    }
}
