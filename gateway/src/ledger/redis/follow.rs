//! How the sales stand: looked at when something was told of them, and once a second whatever was told. The settle
//! thread alone lets a sale sell: it is the one that sees every change of server.

use super::core::CoreLedger;
use super::recover;
use super::shared::{SaleShared, Shared, Standing};
use crate::ledger::LedgerError;
use crate::pipeline::size_reserve;
use crate::state::{App, Core};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_stock::redis::link::{PubSubEvent, subscribe};
use tidegate_stock::redis::ops::{News, SaleMeta};
use tidegate_stock::redis::{Fence, OpError, keys};
use tidegate_stock::{Epoch, SaleRecord};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Every sale is looked at so often, flags among them: what the news missed.
const LOOK: Duration = Duration::from_secs(1);
/// Sales looked at at once.
const LOOKS_MAX: usize = 64;
/// Pause after Redis did not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// Follows all sales until the gateway stops.
pub async fn run_follow(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let shared = ledger.shared.clone();
    // The log of an old copy must not be taken for this gateway's, not even in a recovery.
    while !shared.has_beaten() && !shared.is_replaced() {
        tokio::select! {
            () = shared.look.notified() => {}
            () = core.app.stopping.wait() => return,
        }
    }
    let looks = Rc::new(Semaphore::new(LOOKS_MAX));
    let mut next = Instant::now();
    let (mut named, mut created) = (false, false);
    while !core.app.stopping.is_set() && !shared.is_replaced() {
        if Instant::now() >= next {
            // A thousand sales a second at most, so that many of them are no load for Redis.
            next = Instant::now() + LOOK * (1 + shared.sales().len() as u32 / 1_000);
            match find_sales(&ledger).await {
                Ok(()) => named = true,
                Err(error) => {
                    shared.trouble.failed(error.to_string());
                    next = Instant::now() + AGAIN;
                }
            }
            size_reserve(&core.app);
        }
        if shared.is_member() && !created {
            created = create_configured(&core.app, &ledger).await;
        }
        let sales = shared.sales();
        for sale in sales.iter().filter(|sale| sale.look_due().is_some() && sale.begin_looking()) {
            tokio::task::spawn_local(look_until_seen(ledger.clone(), sale.clone(), looks.clone()));
        }
        if named && created && sales.iter().all(|sale| sale.was_looked_at()) {
            shared.followed.store(true, Ordering::Relaxed);
        }
        tokio::select! {
            () = shared.look.notified() => {}
            () = tokio::time::sleep_until(next) => {}
            () = core.app.stopping.wait() => return,
        }
    }
    core.app.stopping.wait().await;
}

/// Sales of the configuration that do not exist yet. One that does is the operator's. Whether all are there.
async fn create_configured(app: &App, ledger: &Rc<CoreLedger>) -> bool {
    let live = app.live();
    for sale in &live.config.sales {
        let shared = ledger.shared.find_or_insert(&sale.sale);
        match ledger.ops.look(&shared.keys).await {
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(_) => return false,
        }
        // One that this log knows and Redis does not has been lost: the look that follows brings it back.
        match ledger.ops.put_sale(&shared.keys, &sale.spec, shared.recorded().is_some()).await {
            Ok(Ok(_)) | Err(OpError::NoSale) => {}
            Ok(Err(refused)) => {
                error!(sale = sale.sale, %refused, "a [[sale]] of the configuration is refused");
            }
            Err(_) => return false,
        }
        ledger.shared.look_at(&shared);
    }
    true
}

/// Every known sale is to be looked at; learns of new ones. Names that Redis has lost, with the fleet's node of a Cluster,
/// are entered again: a newcomer would not find their sales.
async fn find_sales(ledger: &Rc<CoreLedger>) -> Result<(), OpError> {
    let known = ledger.shared.sales();
    for sale in &known {
        ledger.shared.look_at(sale);
    }
    let names: HashSet<String> = ledger.ops.sale_names().await?.into_iter().collect();
    for name in &names {
        ledger.shared.find_or_insert(name);
    }
    for sale in known {
        if sale.recorded().is_some() && !names.contains(&*sale.keys.sale) {
            ledger.ops.name_sale(&sale.keys).await?;
        }
    }
    Ok(())
}

/// Looks at one sale as long as looks are asked for; after a failure, once more in a moment.
async fn look_until_seen(ledger: Rc<CoreLedger>, sale: Arc<SaleShared>, looks: Rc<Semaphore>) {
    let shared = &ledger.shared;
    {
        // The semaphore is never closed.
        let _permit = looks.acquire().await;
        while let Some(turn) = sale.look_due() {
            match look(&ledger, &sale).await {
                Ok(seen) => {
                    shared.trouble.answered();
                    sale.looked(turn, matches!(seen, Seen::TakenOver));
                    shared.looked.notify_waiters();
                }
                Err(why) => {
                    let first = sale.look_failed();
                    if shared.trouble.failed(why.clone()) && first {
                        warn!(sale = %sale.keys.sale, why, "the sale cannot be read from Redis; tried again");
                    }
                    tokio::time::sleep(AGAIN).await;
                    break;
                }
            }
        }
    }
    sale.end_looking();
    // Also when nothing is due: the first look of the last sale makes the gateway ready.
    shared.look.notify_one();
}

/// What a look came to.
enum Seen {
    /// The sale is believed to stand as it was seen.
    TakenOver,
    /// It is being made whole first, or there is none.
    NotYet,
}

/// Looks at a sale: takes over what changed, and decides whether it may sell.
async fn look(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>) -> Result<Seen, String> {
    let text = |error: OpError| error.to_string();
    // As it is now, not as it was when the connection was made: a master that was demoted and promoted again meanwhile
    // may lack writes, and nothing need have closed the connection.
    let lineage = ledger.ops.lineage_fresh(&sale.keys).await.map_err(|error| error.to_string())?;
    let meta = ledger.ops.look(&sale.keys).await.map_err(text)?;
    let recorded = sale.recorded();
    sale.set_absent(meta.is_none() && recorded.is_none());
    let Some(meta) = meta else {
        // A name whose sale was never made is passed over; one that this log knows has been lost.
        if recorded.is_some() {
            recover::begin(ledger, sale);
        }
        return Ok(Seen::NotYet);
    };
    let lacks = recorded.is_some_and(|recorded| meta.lacks_log_of(&ledger.shared.gateway, recorded));
    if meta.paused.is_some() || meta.lineage != lineage || lacks {
        recover::begin(ledger, sale);
        return Ok(Seen::NotYet);
    }
    if sale.recovering.load(Ordering::Acquire) {
        return Ok(Seen::NotYet);
    }
    if recorded != Some(meta.to_record()) {
        record_sale(ledger, sale, &meta).await?;
    }
    take_over(ledger, sale, meta).await.map_err(|error| error.to_string())
}

/// Every gateway has every sale that it sells in its own log, as it is when it sells.
async fn record_sale(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, meta: &SaleMeta) -> Result<(), String> {
    let Some(spec) = &meta.spec else { return Err("it has no spec".to_owned()) };
    let at_ms = ledger.app.clock.now_ms();
    let record = SaleRecord { sale: &sale.keys.sale, spec, switch: meta.switch, at_ms };
    let appended = ledger.shared.journal.append_sale(&record, meta.to_record());
    let lsn = appended.map_err(|error| error.to_string())?;
    ledger.shared.appended(lsn);
    ledger.durable.wait(lsn).await.map_err(|error| error.to_string())?;
    sale.set_recorded(meta.to_record(), spec.clone(), meta.switch);
    Ok(())
}

async fn take_over(
    ledger: &Rc<CoreLedger>,
    sale: &Arc<SaleShared>,
    meta: SaleMeta,
) -> Result<Seen, LedgerError> {
    let app = &ledger.app;
    let Some(view) = meta.view(&sale.keys.sale) else { return Ok(Seen::NotYet) };
    if sale.gate.load().is_none() {
        // Nobody meets the gate before it knows the winners and whether it is open.
        let gate = app.sales.put(&view);
        gate.pause(true);
        sale.gate.store(Some(gate));
    } else {
        app.sales.put(&view);
    }
    let anew = sale.standing().is_none_or(|standing| standing.fence.generation != meta.epoch.generation);
    if anew {
        // A recovery writes the feed and counts the news from the beginning.
        sale.forget().await;
    }
    let fence =
        Fence { lineage: meta.lineage.clone(), generation: meta.epoch.generation, version: meta.version };
    ledger.follow_feed(sale, &fence, meta.feed).await?;
    let missed = sale.news.fetch_max(meta.news, Ordering::AcqRel) < meta.news;
    let (available, epoch) = (meta.stock.available, meta.epoch);
    if sale.is_paused() {
        info!(sale = %sale.keys.sale, generation = epoch.generation, "the sale is active");
    }
    sale.go_on(Standing { meta, fence });
    heed_stock(sale, available, epoch);
    if missed {
        app.watch.notify_all();
    }
    Ok(Seen::TakenOver)
}

fn heed_stock(sale: &SaleShared, available: u64, epoch: Epoch) {
    let gate = sale.gate.load();
    let Some(gate) = &*gate else { return };
    if available > 0 {
        gate.refresh(available, epoch);
    } else {
        gate.sold_out(epoch);
    }
}

/// Hears the news of all sales until the gateway stops.
pub async fn run_news(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let shared = ledger.shared.clone();
    let channel = keys::news_channel(&shared.options.prefix);
    let listening = subscribe(shared.options.clone(), &channel, |event| match event {
        PubSubEvent::Message(bytes) => match News::decode(bytes) {
            Ok(news) => heed(&ledger, &news),
            Err(why) => warn!(%why, "news that this release cannot read; the sales are looked at instead"),
        },
        // What was told meanwhile was missed: look at everything.
        PubSubEvent::Up(_) | PubSubEvent::Down => {
            for sale in shared.sales() {
                shared.look_at(&sale);
            }
        }
    });
    tokio::select! {
        () = listening => {}
        () = core.app.stopping.wait() => {}
    }
}

fn heed(ledger: &Rc<CoreLedger>, news: &News) {
    let shared: &Shared = &ledger.shared;
    let app = &ledger.app;
    let known = shared.find(&news.sale);
    let sale = known.unwrap_or_else(|| shared.find_or_insert(&news.sale));
    let before = sale.news.fetch_max(news.count, Ordering::AcqRel);
    sale.changed.notify_waiters();
    let standing = sale.standing();
    let as_believed = news.paused.is_empty()
        && standing.as_ref().is_some_and(|standing| {
            standing.fence.version == news.version && standing.fence.generation == news.generation
        });
    if !news.paused.is_empty() {
        shared.doubt(&sale);
    } else if !as_believed {
        shared.look_at(&sale);
    } else {
        let epoch = Epoch { generation: news.generation, counter: news.counter };
        let available = news.available.max(0) as u64;
        if available > 0 || sale.feed.load(Ordering::Acquire) >= news.feed {
            heed_stock(&sale, available, epoch);
        } else {
            let (ledger, feed) = (ledger.clone(), news.feed);
            tokio::task::spawn_local(async move {
                // The flag stands only where all winners are known: none of them is told "sold out".
                let Some(standing) = standing else { return };
                if ledger.follow_feed(&sale, &standing.fence, feed).await.is_ok() {
                    heed_stock(&sale, 0, epoch);
                }
            });
        }
    }
    if news.count > before + 1 {
        app.watch.notify_all();
        return;
    }
    for &ticket in &news.tickets {
        app.watch.notify(ticket);
    }
}
