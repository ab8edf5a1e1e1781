//! Which server, and which life of its data, is behind a connection.

use super::info::Info;
use std::fmt;
use std::sync::Arc;

/// Identity of what a server remembers. Two connections with equal lineages see one history; a different lineage
/// means that writes may be missing.
///
/// It is the run id of the process, which changes with every start, and after a `/` the `master_replid2`, if there
/// is one. Redis sets that to the history it left when it was promoted from replica to master: so a master that was
/// demoted (and dropped its last writes to resynchronise) and later promoted again differs, though its process never
/// ended. `master_replid` itself would not do: it changes when a first replica attaches, which loses nothing.
/// `master_replid2` is cleared when a master had no replica for `repl-backlog-ttl` (an hour): that pauses a sale once
/// without need, and no write is at risk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lineage(pub Arc<str>);

impl Lineage {
    /// `None` when the server does not tell its run id.
    pub(super) fn of(info: &Info<'_>) -> Option<Self> {
        let run_id = info.get("run_id").filter(|id| !id.is_empty())?;
        Some(match info.get("master_replid2") {
            Some(left) if left.bytes().any(|b| b != b'0') => Self(Arc::from(format!("{run_id}/{left}"))),
            _ => Self(Arc::from(run_id)),
        })
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
