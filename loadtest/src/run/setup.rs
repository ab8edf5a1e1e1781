//! Redis and gateways ready, sale created and open, workers and event reader at work.

use super::{Plan, RunError, Target};
use crate::buyers::Live;
use crate::clock::Clock;
use crate::gateway::{Fleet, Roster};
use crate::proxied::Upstream;
use crate::redis::Deployment;
use crate::workers::{Crew, Database, EventReader, Figures, Floor, ORDER_WORKERS, ORDERS};
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::wire::{PutSale, StartFrom};

/// Everything that stands while buyers come.
pub(super) struct Stand {
    pub(super) clock: Clock,
    /// Of ours; before Redis, so that it ends first.
    pub(super) fleet: Option<Fleet>,
    pub(super) redis: Option<Deployment>,
    /// A service behind the gateway.
    pub(super) upstream: Option<Upstream>,
    /// Data folders of ours.
    pub(super) data_dir: Option<tempfile::TempDir>,
    pub(super) roster: Arc<Roster>,
    pub(super) sale: String,
    pub(super) floor: Arc<Floor>,
    pub(super) crew: Crew,
    pub(super) reader: EventReader,
    pub(super) live: Arc<Live>,
    pub(super) offsets_before: Vec<(u32, u64)>,
}

pub(super) async fn set_up(plan: &Plan, clock: Clock) -> Result<Stand, RunError> {
    let scenario = &plan.scenario;
    let local = |what| move |source| RunError::Local { what, source };
    // Workers must get over a restart.
    let patience = Duration::from_millis(scenario.bounds.start_ms + 5_000);
    let roster = Arc::new(Roster::new(plan.token.clone(), patience));
    let (mut fleet, mut redis, mut data_dir) = (None, None, None);
    let upstream = scenario.proxy.map(|settings| Upstream::start(settings, clock)).transpose();
    let upstream = upstream.map_err(local("service behind the gateway"))?;
    if let Target::Running { public, inner } = &plan.target {
        roster.join(0, *public, inner)?;
    } else {
        let dir = tempfile::Builder::new()
            .prefix("tidegate-loadtest-")
            .tempdir()
            .map_err(local("temporary data folder"))?;
        if let Some(settings) = &scenario.redis {
            redis = Some(Deployment::start(settings, dir.path(), &plan.report_dir).await?);
        }
        let reach = redis.as_ref().map(Deployment::reach);
        if let Some(setting) = plan.setting(reach.as_ref(), upstream.as_ref().map(|upstream| upstream.addr)) {
            fleet = Some(Fleet::start(&setting, dir.path(), Arc::clone(&roster)).await?);
        }
        data_dir = Some(dir);
    }
    let sale = sale_name(plan, clock);
    let admin = |what| move |source| RunError::Admin { what, source };
    let settings = PutSale {
        title: Some(scenario.about.clone()),
        per_buyer_limit: scenario.sale.per_buyer_limit as u32,
        order_deadline_ms: scenario.sale.order_deadline_ms,
        pay_window_ms: scenario.sale.pay_window_ms,
        opens_at_ms: scenario.abusers.map(|abusers| clock.wall_ms() + abusers.opens_after_ms),
        ..PutSale::new(scenario.sale.item.clone(), scenario.sale.stock)
    };
    let first = roster.members()[0].client.clone();
    first.put_sale(&sale, &settings).await.map_err(admin("create the sale"))?;
    let offsets_before = match &fleet {
        // A new log: whatever is in it comes from this run.
        Some(_) => Vec::new(),
        None => first
            .offsets(ORDERS, ORDER_WORKERS)
            .await
            .map_err(admin("read the group's offsets"))?
            .queues
            .iter()
            .map(|queue| (queue.queue, queue.end))
            .collect(),
    };
    let database_file = plan.report_dir.join("orders.sqlite");
    remove_earlier(&database_file).map_err(local("order database of an earlier run"))?;
    let floor = Arc::new(Floor {
        sale: sale.clone(),
        roster: Arc::clone(&roster),
        database: Database::create(&database_file)?,
        settings: scenario.workers.clone(),
        seed: plan.seed,
        clock,
        figures: Figures::default(),
        slower_from_us: u64::MAX.into(),
        slower_times: scenario.overload.map_or(1.0, |overload| overload.slower_times),
        saw: parking_lot::Mutex::default(),
        events: parking_lot::Mutex::default(),
    });
    let start = if fleet.is_some() { StartFrom::First } else { StartFrom::Last };
    let reader =
        EventReader::start(Arc::clone(&floor), start).await.map_err(admin("create the event group"))?;
    let crew = Crew::start(Arc::clone(&floor));
    if scenario.abusers.is_none() {
        first.open_sale(&sale).await.map_err(admin("open the sale"))?;
    }
    Ok(Stand {
        clock,
        fleet,
        redis,
        upstream,
        data_dir,
        roster,
        sale,
        floor,
        crew,
        reader,
        live: Arc::default(),
        offsets_before,
    })
}

/// A sale of its own for each run, so that a gateway that goes on running can be rehearsed on again.
fn sale_name(plan: &Plan, clock: Clock) -> String {
    let started_s = clock.start_wall_us() / 1_000_000;
    format!("{}-{started_s:x}-{:x}", plan.scenario.name, plan.seed.0 & 0xffff)
}

fn remove_earlier(database: &std::path::Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
