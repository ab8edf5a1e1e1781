//! Gateway ready, sale created and open, workers and event reader at work.

use super::{Plan, RunError, Target};
use crate::buyers::Live;
use crate::clock::Clock;
use crate::gateway::Child;
use crate::workers::{Crew, Database, EventReader, Figures, Floor, ORDER_WORKERS, ORDERS};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_client::client::{Client, RetryPolicy};
use tidegate_client::wire::{PutSale, StartFrom};

/// Everything that stands while buyers come.
pub(super) struct Stand {
    pub(super) clock: Clock,
    pub(super) child: Option<Child>,
    pub(super) data_dir: Option<tempfile::TempDir>,
    pub(super) public: SocketAddr,
    pub(super) sale: String,
    /// Without retries: for looks that are repeated anyway.
    pub(super) observer: Client,
    pub(super) floor: Arc<Floor>,
    pub(super) crew: Crew,
    pub(super) reader: EventReader,
    pub(super) live: Arc<Live>,
    pub(super) offsets_before: Vec<(u32, u64)>,
}

pub(super) async fn set_up(plan: &Plan, clock: Clock) -> Result<Stand, RunError> {
    let scenario = &plan.scenario;
    let local = |what| move |source| RunError::Local { what, source };
    let (child, data_dir, public, inner) = match &plan.target {
        Target::Running { public, inner } => (None, None, *public, inner.clone()),
        Target::Spawn(binary) => {
            let data_dir = tempfile::Builder::new()
                .prefix("tidegate-loadtest-")
                .tempdir()
                .map_err(local("temporary data folder"))?;
            let child = Child::start(binary, scenario, data_dir.path(), &plan.report_dir).await?;
            let (public, inner) = (child.public(), format!("http://{}", child.inner()));
            (Some(child), Some(data_dir), public, inner)
        }
    };
    let builder = || {
        let builder = Client::builder(&inner);
        match &plan.token {
            Some(token) => builder.token(token),
            None => builder,
        }
    };
    // Workers must get over a restart of the gateway.
    let patient = RetryPolicy {
        attempts_max: 200,
        delay_max: Duration::from_millis(250),
        total_max: Duration::from_millis(scenario.bounds.start_ms + 5_000),
        ..RetryPolicy::default()
    };
    let client = builder().retry(patient).build()?;
    let observer = builder().retry(RetryPolicy::none()).request_timeout(Duration::from_secs(2)).build()?;

    let sale = sale_name(plan, clock);
    let admin = |what| move |source| RunError::Admin { what, source };
    let settings = PutSale {
        title: Some(scenario.about.clone()),
        per_buyer_limit: scenario.sale.per_buyer_limit as u32,
        order_deadline_ms: scenario.sale.order_deadline_ms,
        pay_window_ms: scenario.sale.pay_window_ms,
        ..PutSale::new(scenario.sale.item.clone(), scenario.sale.stock)
    };
    builder()
        .retry(RetryPolicy::none())
        .build()?
        .put_sale(&sale, &settings)
        .await
        .map_err(admin("create the sale"))?;
    let offsets_before = match &child {
        // A new log: whatever is in it comes from this run.
        Some(_) => Vec::new(),
        None => client
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
        client,
        database: Database::create(&database_file)?,
        settings: scenario.workers.clone(),
        seed: plan.seed,
        clock,
        figures: Figures::default(),
        saw: parking_lot::Mutex::default(),
        events: parking_lot::Mutex::default(),
    });
    let start = if child.is_some() { StartFrom::First } else { StartFrom::Last };
    let reader =
        EventReader::start(Arc::clone(&floor), start).await.map_err(admin("create the event group"))?;
    let crew = Crew::start(Arc::clone(&floor));
    floor.client.open_sale(&sale).await.map_err(admin("open the sale"))?;
    Ok(Stand {
        clock,
        child,
        data_dir,
        public,
        sale,
        observer,
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
