//! How the sales stand: looked at when something was told of them, and once a second whatever was told. The settle
//! thread alone lets a sale sell: it is the one that sees every change of server.

use super::core::CoreLedger;
use super::recover;
use super::shared::{SaleShared, Shared, Standing};
use crate::ledger::LedgerError;
use crate::state::{App, Core};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegate_stock::redis::link::{PubSubEvent, subscribe};
use tidegate_stock::redis::ops::{News, SaleMeta};
use tidegate_stock::redis::{Fence, OpError, keys};
use tidegate_stock::{Epoch, Record, SaleRecord};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// Every sale is looked at so often, flags among them: what the news missed.
const LOOK: Duration = Duration::from_secs(1);
/// Pause after Redis did not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// Follows all sales until the gateway stops.
pub async fn run_follow(core: Rc<Core>) {
    let Some(ledger) = core.redis.clone() else { return };
    let shared = ledger.shared.clone();
    let mut next = Instant::now();
    let mut created = false;
    while !core.app.stopping.is_set() {
        if Instant::now() >= next {
            next = Instant::now() + LOOK;
            if let Err(error) = find_sales(&ledger).await {
                shared.reachable.store(!matches!(error, OpError::Call(_)), Ordering::Relaxed);
                next = Instant::now() + AGAIN;
            }
        }
        if shared.is_member() && !created {
            created = create_configured(&core.app, &ledger).await;
        }
        for sale in shared.sales() {
            let Some(turn) = sale.look_due() else { continue };
            match look(&ledger, &sale).await {
                Ok(()) => {
                    shared.reachable.store(true, Ordering::Relaxed);
                    sale.look_done(turn);
                    shared.looked.notify_waiters();
                }
                Err(why) => {
                    shared.reachable.store(false, Ordering::Relaxed);
                    warn!(sale = %sale.keys.sale, %why, "the sale cannot be read from Redis; tried again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        if shared.is_member()
            && shared.sales().iter().all(|sale| sale.look_due().is_none())
            && next > Instant::now()
        {
            shared.followed.store(true, Ordering::Relaxed);
        }
        tokio::select! {
            () = shared.look.notified() => {}
            () = tokio::time::sleep_until(next) => {}
            () = core.app.stopping.wait() => return,
        }
    }
}

/// Sales of the configuration that do not exist yet. One that does is the operator's. Whether all are there.
async fn create_configured(app: &App, ledger: &Rc<CoreLedger>) -> bool {
    for sale in &app.config.sales {
        let shared = ledger.shared.find_or_insert(&sale.sale);
        match ledger.ops.look(&shared.keys).await {
            Ok(Some(_)) => continue,
            // This log knows it: Redis has lost it, and the look that follows brings it back.
            Ok(None) if shared.recorded.load(Ordering::Acquire) > 0 => continue,
            Ok(None) => {}
            Err(_) => return false,
        }
        match ledger.ops.put_sale(&shared.keys, &sale.spec).await {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => {
                error!(sale = sale.sale, %refused, "a [[sale]] of the configuration is refused")
            }
            Err(_) => return false,
        }
    }
    true
}

/// Learns of new sales; every known one is to be looked at.
async fn find_sales(ledger: &Rc<CoreLedger>) -> Result<(), OpError> {
    for name in ledger.ops.sale_names().await? {
        ledger.shared.find_or_insert(&name);
    }
    for sale in ledger.shared.sales() {
        ledger.shared.look_at(&sale);
    }
    Ok(())
}

/// Looks at a sale: takes over what changed, and decides whether it may sell.
async fn look(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>) -> Result<(), String> {
    let text = |error: OpError| error.to_string();
    let lineage = ledger.ops.lineage(&sale.keys).await.map_err(|error| error.to_string())?;
    let meta = ledger.ops.look(&sale.keys).await.map_err(text)?;
    let Some(meta) = meta else {
        // A name whose sale was never made is passed over; one that this log knows has been lost.
        if sale.recorded.load(Ordering::Acquire) > 0 {
            recover::begin(ledger, sale);
        }
        return Ok(());
    };
    if meta.paused.is_some() || meta.lineage != lineage {
        recover::begin(ledger, sale);
        return Ok(());
    }
    if sale.recovering.load(Ordering::Acquire) {
        return Ok(());
    }
    if meta.version > sale.recorded.load(Ordering::Acquire) {
        record_sale(ledger, sale, &meta).await?;
    }
    take_over(ledger, sale, meta).await.map_err(|error| error.to_string())
}

/// Every gateway has every sale that it sells in its own log, as it is when it sells.
async fn record_sale(ledger: &Rc<CoreLedger>, sale: &Arc<SaleShared>, meta: &SaleMeta) -> Result<(), String> {
    let Some(spec) = &meta.spec else { return Err("it has no spec".to_owned()) };
    let at_ms = ledger.app.clock.now_ms();
    let record = SaleRecord { sale: &sale.keys.sale, spec, switch: meta.switch, at_ms };
    let appended = ledger.shared.journal.append_as(&Record::Sale(record), meta.version);
    let lsn = appended.map_err(|error| error.to_string())?;
    ledger.shared.appended(lsn);
    ledger.durable.wait(lsn).await.map_err(|error| error.to_string())?;
    sale.recorded.store(meta.version, Ordering::Release);
    Ok(())
}

async fn take_over(
    ledger: &Rc<CoreLedger>,
    sale: &Arc<SaleShared>,
    meta: SaleMeta,
) -> Result<(), LedgerError> {
    let app = &ledger.app;
    let Some(view) = meta.view(&sale.keys.sale) else { return Ok(()) };
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
    ledger.follow_feed(sale, meta.feed).await?;
    let missed = sale.news.fetch_max(meta.news, Ordering::AcqRel) < meta.news;
    let fence =
        Fence { lineage: meta.lineage.clone(), generation: meta.epoch.generation, version: meta.version };
    let (available, epoch) = (meta.stock.available, meta.epoch);
    if sale.is_paused() {
        info!(sale = %sale.keys.sale, generation = epoch.generation, "the sale goes on");
    }
    sale.go_on(Standing { meta, fence });
    heed_stock(app, sale, available, epoch);
    if missed {
        app.watch.notify_all();
    }
    Ok(())
}

fn heed_stock(_app: &App, sale: &SaleShared, available: u64, epoch: Epoch) {
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
            heed_stock(app, &sale, available, epoch);
        } else {
            let (ledger, feed) = (ledger.clone(), news.feed);
            tokio::task::spawn_local(async move {
                // The flag stands only where all winners are known: none of them is told "sold out".
                if ledger.follow_feed(&sale, feed).await.is_ok() {
                    heed_stock(&ledger.app, &sale, 0, epoch);
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
