//! Gateways as simple as can be, over one Redis: a log in memory, notes that are owed, notes that are to be cleared.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;
use tidegate_stock::redis::ops::{
    Batch, BatchReply, Claimed, Moved, Reapply, RecoveryId, ReserveCall, Reserved, Restocked, Resumed,
    SaleMeta, SaleRecorded, Swept, TransitionCall,
};
use tidegate_stock::redis::{Fence, Link, Note, OpError, Ops, Owed, PackedTicket, RedisOptions, SaleKeys};
use tidegate_stock::testing::OwnedRecord;
use tidegate_stock::testing::redis::RedisServer;
use tidegate_stock::{
    Record, Reserve, RestockRecord, SaleRecord, SaleSpec, SaleSwitch, TicketId, Transition,
};

/// One record of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub record: OwnedRecord,
    pub epoch: u32,
    /// Of a sale's record.
    pub recorded: Option<SaleRecorded>,
}

impl Entry {
    /// Version of a sale's record; 0 of others.
    pub fn version(&self) -> u64 {
        self.recorded.map_or(0, |recorded| recorded.version)
    }
}

/// One gateway. What it has in `log` is durable; everything else dies with it.
pub struct Gateway {
    pub name: String,
    pub ops: Ops,
    /// Claims whatever stands.
    greedy: Ops,
    pub log: Vec<Entry>,
    pub owed: Vec<(Note, Entry)>,
    /// In the log, not cleared yet.
    pub logged: Vec<Note>,
}

pub fn options(server: &RedisServer) -> RedisOptions {
    // A loaded machine must not make an outcome unknown.
    RedisOptions {
        call_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        claim_after: Duration::from_hours(1),
        ..server.options()
    }
}

/// The record that a note asks for.
pub fn entry_of(claimed: &Claimed, sale: &str, now_ms: u64) -> Entry {
    let packed = || claimed.ticket.as_deref().expect("notes of tickets come with them");
    let (record, epoch) = match claimed.note.owed().expect("a note of this release") {
        Owed::Order { ticket, epoch } => {
            (OwnedRecord::from(&Record::Order(packed().order(ticket, sale))), epoch)
        }
        Owed::Step { ticket, version, epoch } => {
            let step = packed().step(ticket, sale, version).expect("a step it has made");
            (OwnedRecord::from(&Record::Transition(step)), epoch)
        }
        Owed::LateMoney { ticket, nth } => {
            let money = packed().late_money(ticket, sale, nth, now_ms).expect("money it remembers");
            (OwnedRecord::from(&Record::Transition(money)), 0)
        }
        Owed::Restock { restock_id, quantity } => (
            OwnedRecord::from(&Record::Restock(RestockRecord { sale, restock_id, quantity, at_ms: now_ms })),
            0,
        ),
    };
    Entry { record, epoch, recorded: None }
}

pub fn fence_of(meta: &SaleMeta) -> Fence {
    Fence { lineage: meta.lineage.clone(), generation: meta.epoch.generation, version: meta.version }
}

impl Gateway {
    pub fn new(server: &RedisServer, name: &str) -> Self {
        Self::with(options(server), name)
    }

    pub fn with(options: RedisOptions, name: &str) -> Self {
        let greedy = RedisOptions { claim_after: Duration::ZERO, ..options.clone() };
        let link = Link::new(Arc::new(options.clone()));
        Self {
            name: name.to_owned(),
            ops: Ops::new(link.clone(), Arc::new(options), name),
            greedy: Ops::new(link, Arc::new(greedy), name),
            log: Vec::new(),
            owed: Vec::new(),
            logged: Vec::new(),
        }
    }

    /// Creates a sale, with its record.
    pub async fn put(&mut self, keys: &SaleKeys, spec: &SaleSpec) -> Fence {
        self.ops.put_sale(keys, spec, false).await.unwrap().unwrap();
        let meta = self.ops.look(keys).await.unwrap().unwrap();
        self.log_sale(keys, &meta);
        fence_of(&meta)
    }

    pub fn log_sale(&mut self, keys: &SaleKeys, meta: &SaleMeta) {
        let spec = meta.spec.as_ref().unwrap();
        let record = Record::Sale(SaleRecord { sale: &keys.sale, spec, switch: meta.switch, at_ms: 0 });
        let recorded = Some(meta.to_record());
        self.log.push(Entry { record: OwnedRecord::from(&record), epoch: 0, recorded });
    }

    pub async fn reserve(
        &mut self,
        keys: &SaleKeys,
        fence: &Fence,
        spec: &SaleSpec,
        reserves: &[Reserve<'_>],
        notes: &[Note],
        lost: bool,
    ) -> Result<BatchReply, OpError> {
        let calls: Vec<_> = reserves.iter().map(|r| ReserveCall::new(r, spec, &self.name)).collect();
        self.send(keys, fence, &calls, notes, reserves.first().map_or(0, |r| r.now_ms), lost).await
    }

    /// `lost`: the answer never reaches the gateway.
    pub async fn send(
        &mut self,
        keys: &SaleKeys,
        fence: &Fence,
        calls: &[ReserveCall],
        notes: &[Note],
        now_ms: u64,
        lost: bool,
    ) -> Result<BatchReply, OpError> {
        let reply = self.ops.batch(keys, fence, &Batch { now_ms, notes, reserves: calls }).await?;
        for (call, answer) in calls.iter().zip(&reply.answers) {
            if *answer == Reserved::Won && !lost {
                let record = OwnedRecord::from(&Record::Order(call.packed.order(call.ticket, &keys.sale)));
                self.owed.push((Note::of_win(call.ticket), Entry { record, epoch: 0, recorded: None }));
            }
        }
        Ok(reply)
    }

    pub async fn transition(
        &mut self,
        keys: &SaleKeys,
        fence: &Fence,
        now_ms: u64,
        moves: &[(TicketId, Transition<'_>)],
        lost: bool,
    ) -> Result<Vec<Moved>, OpError> {
        let calls: Vec<_> = moves.iter().map(|(id, t)| TransitionCall::new(*id, *t)).collect();
        let answers = self.ops.transition(keys, fence, now_ms, &calls).await?;
        for answer in &answers {
            if let Moved::Done { ticket, note, .. } | Moved::LateMoney { ticket, note } = answer
                && !lost
            {
                let claimed = Claimed { note: note.clone(), ticket: Some(ticket.clone()) };
                self.owed.push((note.clone(), entry_of(&claimed, &keys.sale, now_ms)));
            }
        }
        Ok(answers)
    }

    pub async fn restock(
        &mut self,
        keys: &SaleKeys,
        fence: &Fence,
        id: &str,
        units: u64,
        now_ms: u64,
        lost: bool,
    ) -> Result<Result<Restocked, tidegate_stock::SaleError>, OpError> {
        let done = self.ops.restock(keys, &fence.lineage, id, units).await?;
        if let Ok(Restocked::Done(note)) = &done
            && !lost
        {
            let entry = entry_of(&Claimed { note: note.clone(), ticket: None }, &keys.sale, now_ms);
            self.owed.push((note.clone(), entry));
        }
        Ok(done)
    }

    /// Claims every note that stands; answers them, as they are named now.
    pub async fn claim_all(
        &mut self,
        keys: &SaleKeys,
        fence: &Fence,
        now_ms: u64,
    ) -> Result<Vec<(Note, Entry)>, OpError> {
        let Swept { claimed, .. } = self.greedy.sweep(keys, fence, 0, 10_000, 10_000).await?;
        Ok(self.take(keys, &claimed, now_ms))
    }

    pub fn take(&mut self, keys: &SaleKeys, claimed: &[Claimed], now_ms: u64) -> Vec<(Note, Entry)> {
        let entries: Vec<_> =
            claimed.iter().map(|claim| (claim.note.clone(), entry_of(claim, &keys.sale, now_ms))).collect();
        // Whatever it was about to do about such a note before, this is what it owes now.
        self.owed.retain(|(note, _)| !claimed.iter().any(|claim| claim.note == *note));
        self.owed.extend(entries.iter().cloned());
        entries
    }

    pub async fn adopt(
        &mut self,
        keys: &SaleKeys,
        fence: &Fence,
        gone: &str,
        page: usize,
        now_ms: u64,
    ) -> Vec<(Note, Entry)> {
        let (mut first, mut notes) = (Some(0), Vec::new());
        while let Some(rank) = first {
            let adopted = self.ops.adopt(keys, fence, gone, rank, page).await.unwrap();
            notes.extend(self.take(keys, &adopted.claimed, now_ms));
            first = adopted.next;
        }
        notes
    }

    /// Its owed records up to `count` become durable.
    pub fn append(&mut self, count: usize) {
        for (note, entry) in self.owed.drain(..count.min(self.owed.len())) {
            self.log.push(entry);
            self.logged.push(note);
        }
    }

    /// Everything it owes, appended and cleared.
    pub async fn settle(&mut self, keys: &SaleKeys, fence: &Fence) -> BatchReply {
        self.append(usize::MAX);
        let notes = std::mem::take(&mut self.logged);
        self.ops.batch(keys, fence, &Batch { now_ms: 0, notes: &notes, reserves: &[] }).await.unwrap()
    }

    /// Forgets what is not durable.
    pub fn crash(&mut self) {
        self.owed.clear();
        self.logged.clear();
    }

    /// Brings its log in, from `from` to `to`.
    pub async fn reapply(&self, keys: &SaleKeys, recovery: &RecoveryId, entries: &[Entry]) -> bool {
        let mut records = Reapply::default();
        for entry in entries {
            add(&mut records, entry, &self.name);
        }
        self.ops.reapply(keys, recovery, &records).await.unwrap()
    }

    /// Pause, all of the log, resume.
    pub async fn recover(&self, keys: &SaleKeys, members: &[String]) -> Resumed {
        let recovery = self.pause(keys).await.expect("it is paused");
        assert!(self.reapply(keys, &recovery, &self.log).await);
        self.ops.resume(keys, &recovery, true, 0, members, &[]).await.unwrap()
    }

    /// Pauses the sale unless it is whole, as far as this gateway's log tells.
    pub async fn pause(&self, keys: &SaleKeys) -> Option<RecoveryId> {
        let lineage = self.ops.lineage(keys).await.unwrap();
        self.ops.pause(keys, &lineage, self.recorded(), &[]).await.unwrap()
    }

    /// The sale as this gateway's log holds it.
    pub fn recorded(&self) -> Option<SaleRecorded> {
        self.log.iter().rev().find_map(|entry| entry.recorded)
    }

    pub async fn fence(&self, keys: &SaleKeys) -> Fence {
        fence_of(&self.ops.look(keys).await.unwrap().unwrap())
    }
}

pub fn add(records: &mut Reapply, entry: &Entry, gateway: &str) {
    match entry.record.borrow() {
        Record::Sale(sale) => {
            records.sale(&sale, entry.recorded.expect("a sale's record says which"));
        }
        Record::Restock(restock) => records.restock(&restock),
        Record::Order(order) => records.order(&order, gateway, entry.epoch),
        Record::Transition(transition) => records.transition(&transition, entry.epoch),
    }
}

pub fn packed_view(packed: &PackedTicket, id: TicketId, keys: &SaleKeys) -> tidegate_stock::TicketView {
    packed.view(id, &keys.sale, tidegate_stock::Lsn(0))
}

pub fn open(switch: bool) -> SaleSwitch {
    if switch { SaleSwitch::Open } else { SaleSwitch::Closed }
}
