//! A journal in memory for tests: its durable position moves by hand, it refuses on command, and it can be
//! replayed as a crash would leave it.

use crate::embedded::{FoldError, Ledger};
use crate::record::{
    Journal, JournalError, Lsn, OrderRecord, Record, RestockRecord, SaleRecord, TransitionRecord,
};
use crate::types::{SaleSpec, SaleSwitch, TicketId, TicketStatus};
use parking_lot::Mutex;
use std::sync::Arc;

/// A record that owns what it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the borrowed records")]
pub enum OwnedRecord {
    Sale {
        sale: String,
        spec: SaleSpec,
        switch: SaleSwitch,
        at_ms: u64,
    },
    Restock {
        sale: String,
        restock_id: String,
        quantity: u64,
        at_ms: u64,
    },
    Order {
        ticket: TicketId,
        sale: String,
        item: String,
        buyer: String,
        quantity: u32,
        won_at_ms: u64,
        deadline_ms: u64,
        pay_window_ms: u64,
        key_hash: Option<u64>,
        body_hash: u64,
        attributes: String,
    },
    Transition {
        ticket: TicketId,
        sale: String,
        buyer: String,
        quantity: u32,
        version: u32,
        from: TicketStatus,
        to: TicketStatus,
        at_ms: u64,
        order_id: Option<String>,
        pay_by_ms: Option<u64>,
        payment_id: Option<String>,
        reason: Option<String>,
        refund_required: bool,
    },
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        match record {
            Record::Sale(r) => {
                Self::Sale { sale: r.sale.into(), spec: r.spec.clone(), switch: r.switch, at_ms: r.at_ms }
            }
            Record::Restock(r) => Self::Restock {
                sale: r.sale.into(),
                restock_id: r.restock_id.into(),
                quantity: r.quantity,
                at_ms: r.at_ms,
            },
            Record::Order(r) => Self::Order {
                ticket: r.ticket,
                sale: r.sale.into(),
                item: r.item.into(),
                buyer: r.buyer.into(),
                quantity: r.quantity,
                won_at_ms: r.won_at_ms,
                deadline_ms: r.deadline_ms,
                pay_window_ms: r.pay_window_ms,
                key_hash: r.key_hash,
                body_hash: r.body_hash,
                attributes: r.attributes.into(),
            },
            Record::Transition(r) => Self::Transition {
                ticket: r.ticket,
                sale: r.sale.into(),
                buyer: r.buyer.into(),
                quantity: r.quantity,
                version: r.version,
                from: r.from,
                to: r.to,
                at_ms: r.at_ms,
                order_id: owned(r.order_id),
                pay_by_ms: r.pay_by_ms,
                payment_id: owned(r.payment_id),
                reason: owned(r.reason),
                refund_required: r.refund_required,
            },
        }
    }
}

impl OwnedRecord {
    /// As the ledger takes it.
    pub fn borrow(&self) -> Record<'_> {
        match self {
            Self::Sale { sale, spec, switch, at_ms } => {
                Record::Sale(SaleRecord { sale, spec, switch: *switch, at_ms: *at_ms })
            }
            Self::Restock { sale, restock_id, quantity, at_ms } => {
                Record::Restock(RestockRecord { sale, restock_id, quantity: *quantity, at_ms: *at_ms })
            }
            Self::Order {
                ticket,
                sale,
                item,
                buyer,
                quantity,
                won_at_ms,
                deadline_ms,
                pay_window_ms,
                key_hash,
                body_hash,
                attributes,
            } => Record::Order(OrderRecord {
                ticket: *ticket,
                sale,
                item,
                buyer,
                quantity: *quantity,
                won_at_ms: *won_at_ms,
                deadline_ms: *deadline_ms,
                pay_window_ms: *pay_window_ms,
                key_hash: *key_hash,
                body_hash: *body_hash,
                attributes,
            }),
            Self::Transition {
                ticket,
                sale,
                buyer,
                quantity,
                version,
                from,
                to,
                at_ms,
                order_id,
                pay_by_ms,
                payment_id,
                reason,
                refund_required,
            } => Record::Transition(TransitionRecord {
                ticket: *ticket,
                sale,
                buyer,
                quantity: *quantity,
                version: *version,
                from: *from,
                to: *to,
                at_ms: *at_ms,
                order_id: order_id.as_deref(),
                pay_by_ms: *pay_by_ms,
                payment_id: payment_id.as_deref(),
                reason: reason.as_deref(),
                refund_required: *refund_required,
            }),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<OwnedRecord>,
    durable: u64,
    refusal: Option<JournalError>,
}

/// The journal. Clones share it. The n-th record (from 1) has position n.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal(Arc<Mutex<Inner>>);

impl MemoryJournal {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that begins with these records, all durable: a log after a crash.
    pub fn with_records(records: Vec<OwnedRecord>) -> Self {
        let durable = records.len() as u64;
        Self(Arc::new(Mutex::new(Inner { records, durable, refusal: None })))
    }

    /// Refuses every append from now on, or (`None`) takes them again.
    pub fn refuse(&self, refusal: Option<JournalError>) {
        self.0.lock().refusal = refusal;
    }

    /// Everything appended so far becomes durable; answers the position.
    pub fn sync(&self) -> Lsn {
        let mut inner = self.0.lock();
        inner.durable = inner.records.len() as u64;
        Lsn(inner.durable)
    }

    /// Everything up to `lsn` becomes durable; never goes back, nor past the end.
    pub fn set_durable(&self, lsn: Lsn) -> Lsn {
        let mut inner = self.0.lock();
        inner.durable = lsn.0.min(inner.records.len() as u64).max(inner.durable);
        Lsn(inner.durable)
    }

    /// Position of the newest record, durable or not.
    pub fn end(&self) -> Lsn {
        Lsn(self.0.lock().records.len() as u64)
    }

    /// All records, durable or not.
    pub fn records(&self) -> Vec<OwnedRecord> {
        self.0.lock().records.clone()
    }

    /// What a crash now would leave: the durable records alone.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let inner = self.0.lock();
        Self::with_records(inner.records[..inner.durable as usize].to_vec())
    }

    /// Folds the records after `from` into a ledger.
    pub fn replay<J: Journal>(&self, ledger: &Ledger<J>, from: Lsn) -> Result<(), FoldError> {
        let records = self.records();
        for (position, record) in records.iter().enumerate().skip(from.0 as usize) {
            ledger.fold(&record.borrow(), Lsn(position as u64 + 1))?;
        }
        Ok(())
    }
}

impl Journal for MemoryJournal {
    fn append(&self, record: &Record<'_>) -> Result<Lsn, JournalError> {
        let mut inner = self.0.lock();
        if let Some(refusal) = inner.refusal {
            return Err(refusal);
        }
        inner.records.push(record.into());
        Ok(Lsn(inner.records.len() as u64))
    }

    fn durable(&self) -> Lsn {
        Lsn(self.0.lock().durable)
    }
}
