//! What this gateway's own log tells at start, and the id under which the fleet knows it.

use super::book::BookError;
use super::keep;
use super::shared::Shared;
use crate::pipeline::Journal;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate_queue::Queue;
use tidegate_stock::TicketId;
use tidegate_stock::redis::{Process, RedisOptions};
use tracing::info;

/// File of the id, in the data folder.
const ID_FILE: &str = "gateway.id";

/// Why this gateway's share cannot be set up. Nothing was changed but the id, which a start may write.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// What the log tells cannot be found out.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The id cannot be kept.
    #[error("the gateway's id cannot be kept in {path}: {source}", path = .path.display())]
    Id {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// This gateway's share, with what its log knows: members of the fleet, and the sales that it has sold in.
pub fn start(
    dir: &Path,
    options: Arc<RedisOptions>,
    queue: &Queue,
    journal: Journal,
) -> Result<Shared, StartFailure> {
    let id = gateway_id(dir)?;
    let log_end = queue.end().0;
    let shared = Shared::new(&id, options, journal);
    let (kept, records) = keep::begin(dir, queue)?;
    for (sale, line) in &kept.book.sales {
        shared.find_or_insert(sale).set_recorded(line.recorded, line.spec.clone(), line.switch);
    }
    *shared.roll.lock() = kept.book.roll.clone();
    *shared.kept.lock() = Some(kept);
    let (members, held) = {
        let roll = shared.roll.lock();
        (roll.members().count(), roll.processes_of(&id))
    };
    *shared.process.lock() = Process::new(held, log_end);
    info!(gateway = id, records, members, sales = shared.sales().len(), "this gateway's log is read");
    Ok(shared)
}

/// The id in the data folder; a new one at the first start.
fn gateway_id(dir: &Path) -> Result<String, StartFailure> {
    let path = dir.join(ID_FILE);
    let failed = |source| StartFailure::Id { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let id = TicketId(rand::random()).to_string();
    let fresh = dir.join("gateway.id.new");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(failed)?;
    Ok(id)
}
