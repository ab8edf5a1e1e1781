//! Notes that nobody cleared, and tickets of gateways that are gone.

use super::batch::{packed, ticket_id};
use super::{Fence, OpError, Ops, script, status};
use crate::Proposal;
use crate::redis::keys::SaleKeys;
use crate::redis::note::Note;
use crate::redis::reply::{List, Reply};
use crate::redis::ticket::PackedTicket;
use crate::types::TicketId;

script!(SWEEP, "sweep");
script!(ADOPT, "adopt");

/// A note that is this gateway's now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Append its record, then clear it.
    pub note: Note,
    /// The ticket, unless it is a restock's.
    pub ticket: Option<Box<PackedTicket>>,
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Claimed.
    pub claimed: Vec<Claimed>,
    /// Overdue: to be proposed.
    pub due: Vec<(TicketId, Proposal)>,
}

/// A page of an adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The next page; `None`: this was the last.
    pub next: Option<u64>,
    /// Adopted.
    pub claimed: Vec<Claimed>,
}

impl Ops {
    /// Claims notes older than `claim_after`, and tells what was due before `due_before_ms`, by Redis's clock too: at most
    /// so many of each. Who cannot write records down claims none.
    pub async fn sweep(
        &self,
        keys: &SaleKeys,
        fence: &Fence,
        due_before_ms: u64,
        claims_max: usize,
        due_max: usize,
    ) -> Result<Swept, OpError> {
        let (generation, due_before) = (fence.generation.to_string(), due_before_ms.to_string());
        let (claims_max, due_max) = (claims_max.to_string(), due_max.to_string());
        let claim_after = self.options.claim_after.as_millis().to_string();
        let args = [
            generation.as_bytes(),
            self.gateway.as_bytes(),
            claim_after.as_bytes(),
            claims_max.as_bytes(),
            due_before.as_bytes(),
            due_max.as_bytes(),
        ];
        let value = self.run_replicated(&SWEEP, Some(&fence.lineage), &keys.first(8)[..8], &args).await?;
        let mut list = Reply::new("sweep", &value).list()?;
        status(list.next()?)?;
        let claimed = claimed(&list.next()?.list()?)?;
        let mut due = Vec::new();
        for entry in list.next()?.list()?.rest() {
            let mut entry = entry.list()?;
            let ticket = ticket_id(&entry.next()?)?;
            let proposal = if entry.next()?.text()? == "q" { Proposal::Drop } else { Proposal::Expire };
            due.push((ticket, proposal));
        }
        Ok(Swept { claimed, due })
    }

    /// Takes over live tickets of a gateway that is gone: about `max` are looked at. `cursor`: 0 first, then `next`. A pass
    /// meets every ticket that was live throughout it; one that a call under way brings meanwhile is met by the next pass.
    pub async fn adopt(
        &self,
        keys: &SaleKeys,
        fence: &Fence,
        gone: &str,
        cursor: u64,
        max: usize,
    ) -> Result<Adopted, OpError> {
        let (generation, cursor, max) = (fence.generation.to_string(), cursor.to_string(), max.to_string());
        let args = [
            generation.as_bytes(),
            self.gateway.as_bytes(),
            gone.as_bytes(),
            cursor.as_bytes(),
            max.as_bytes(),
        ];
        let value = self.run_replicated(&ADOPT, Some(&fence.lineage), &keys.first(5)[..5], &args).await?;
        let mut list = Reply::new("adopt", &value).list()?;
        status(list.next()?)?;
        let next = Some(list.next()?.count()?).filter(|cursor| *cursor > 0);
        Ok(Adopted { next, claimed: claimed(&list.next()?.list()?)? })
    }
}

fn claimed(list: &List<'_>) -> Result<Vec<Claimed>, OpError> {
    let mut claimed = Vec::new();
    for entry in list.rest() {
        let mut entry = entry.list()?;
        let note = Note::new(entry.next()?.text()?);
        let ticket = entry.next()?;
        let ticket = if ticket.bytes()?.is_empty() { None } else { Some(Box::new(packed(&ticket)?)) };
        claimed.push(Claimed { note, ticket });
    }
    Ok(claimed)
}
