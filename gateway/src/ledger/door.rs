//! What may be asked of the ledger, from any thread of the gateway.

use super::redis::CoreLedger;
use super::{LedgerError, SaleFailure, Stock};
use crate::pipeline::settle_durable;
use crate::state::{Core, DURABLE_WAIT_MAX};
use std::rc::Rc;
use tidegate_stock::{
    Audit, Ledger, Lsn, Reserve, ReserveOutcome, SaleError, SalePut, SaleSpec, SaleSwitch, SaleView,
    TicketId, TicketView, Transition, TransitionOutcome,
};

type Embedded = Ledger<crate::pipeline::Journal>;

/// Which of the two, for one question.
enum Door<'c> {
    Embedded(&'c Embedded),
    Redis(&'c Rc<CoreLedger>),
}

impl Core {
    fn door(&self) -> Door<'_> {
        match (&self.app.stock, &self.redis) {
            (Stock::Embedded(ledger), _) => Door::Embedded(ledger),
            (Stock::Redis(_), Some(redis)) => Door::Redis(redis),
            (Stock::Redis(_), None) => unreachable!("every core of a shared ledger has its way to Redis"),
        }
    }

    /// Takes units for a buyer, or says why not.
    pub async fn reserve(&self, r: &Reserve<'_>) -> Result<ReserveOutcome, LedgerError> {
        match self.door() {
            Door::Embedded(ledger) => Ok(ledger.reserve(r)?),
            Door::Redis(redis) => redis.reserve(r).await,
        }
    }

    /// What [`Core::reserve`] would answer to a key that the ledger has seen.
    pub async fn repeat(&self, r: &Reserve<'_>) -> Result<Option<ReserveOutcome>, LedgerError> {
        match self.door() {
            Door::Embedded(ledger) => Ok(ledger.repeat(r)),
            Door::Redis(redis) => redis.repeat(r).await,
        }
    }

    /// Moves a ticket. What is answered is durable, and units that came back are for sale.
    pub async fn transition(
        &self,
        id: TicketId,
        transition: Transition<'_>,
    ) -> Result<TransitionOutcome, LedgerError> {
        let ledger = match self.door() {
            Door::Embedded(ledger) => ledger,
            Door::Redis(redis) => return redis.transition(id, transition).await,
        };
        let outcome = ledger.transition(id, transition, self.app.clock.now_ms())?;
        if let TransitionOutcome::Done(view)
        | TransitionOutcome::Repeat(view)
        | TransitionOutcome::NotDue(view)
        | TransitionOutcome::WrongState { ticket: view, .. } = &outcome
        {
            self.durable(view.lsn, Some(id)).await?;
            if view.status.is_terminal() {
                // A unit that came back is for sale once this is answered, not a moment later.
                settle_durable(&self.app);
            }
        }
        Ok(outcome)
    }

    /// Proposes transitions; `true`: decided, one way or the other, `false`: to be proposed again. The embedded ledger
    /// is not waited for: its record settles the proposal when it is durable.
    pub async fn propose(&self, moves: Vec<(TicketId, Transition<'_>)>) -> Vec<bool> {
        let decided = |outcome: &TransitionOutcome| !matches!(outcome, TransitionOutcome::NotDue(_));
        match self.door() {
            Door::Embedded(ledger) => moves
                .into_iter()
                .map(|(id, transition)| {
                    let outcome = ledger.transition(id, transition, self.app.clock.now_ms());
                    outcome.is_ok_and(|outcome| decided(&outcome))
                })
                .collect(),
            Door::Redis(redis) => {
                let outcomes = redis.transitions(moves).await;
                outcomes.iter().map(|outcome| outcome.as_ref().is_ok_and(decided)).collect()
            }
        }
    }

    /// The ticket as it stands; not to be told before its `lsn` is durable.
    pub async fn ticket(&self, id: TicketId) -> Result<Option<TicketView>, LedgerError> {
        match self.door() {
            Door::Embedded(ledger) => Ok(ledger.ticket(id)),
            Door::Redis(redis) => redis.ticket(id).await.map_err(LedgerError::of_read),
        }
    }

    /// A buyer's tickets in one sale, oldest first. `None`: no such sale.
    pub async fn tickets_of(&self, sale: &str, buyer: &str) -> Result<Option<Vec<TicketView>>, LedgerError> {
        match self.door() {
            Door::Embedded(ledger) => Ok(ledger.tickets_of(sale, buyer)),
            Door::Redis(redis) => redis.tickets_of(sale, buyer).await.map_err(LedgerError::of_read),
        }
    }

    /// The sale with its counters. `None`: no such sale.
    pub async fn sale(&self, sale: &str) -> Result<Option<SaleView>, LedgerError> {
        let view = match self.door() {
            Door::Embedded(ledger) => ledger.sale(sale),
            Door::Redis(redis) => redis.sale_view(sale).await.map_err(LedgerError::of_read)?,
        };
        self.durable(view.as_ref().map_or(Lsn(0), |view| view.lsn), None).await?;
        Ok(view)
    }

    /// All sales with their counters.
    pub async fn sales(&self) -> Result<Vec<SaleView>, LedgerError> {
        let views = match self.door() {
            Door::Embedded(ledger) => ledger.sales(),
            Door::Redis(redis) => redis.sales().await.map_err(LedgerError::of_read)?,
        };
        self.durable(views.iter().map(|view| view.lsn).max().unwrap_or_default(), None).await?;
        Ok(views)
    }

    /// Creates a sale, or changes everything of it but `stock`. The gates go by it when this answers.
    pub async fn put_sale(&self, sale: &str, spec: &SaleSpec) -> Result<SalePut, SaleFailure> {
        match self.door() {
            Door::Embedded(ledger) => {
                let (view, put) = ledger.put_sale(sale, spec, self.app.clock.now_ms())?;
                self.taken_over(ledger, sale, view.lsn).await?;
                Ok(put)
            }
            Door::Redis(redis) => redis.put_sale(sale, spec).await,
        }
    }

    /// Opens or closes by hand. The gates go by it when this answers.
    pub async fn switch_sale(&self, sale: &str, to: SaleSwitch) -> Result<(), SaleFailure> {
        match self.door() {
            Door::Embedded(ledger) => {
                let now_ms = self.app.clock.now_ms();
                let view = match to {
                    SaleSwitch::Open => ledger.open_sale(sale, now_ms)?,
                    SaleSwitch::Closed => ledger.close_sale(sale, now_ms)?,
                    SaleSwitch::Scheduled => {
                        let why = "a sale cannot be switched back to its schedule";
                        return Err(SaleError::Invalid(why.to_owned()).into());
                    }
                };
                Ok(self.taken_over(ledger, sale, view.lsn).await?)
            }
            Door::Redis(redis) => redis.switch_sale(sale, to).await,
        }
    }

    /// Adds units, once for each id. They are for sale when this answers.
    pub async fn restock(&self, sale: &str, restock_id: &str, quantity: u64) -> Result<(), SaleFailure> {
        match self.door() {
            Door::Embedded(ledger) => {
                let view = ledger.restock(sale, restock_id, quantity, self.app.clock.now_ms())?;
                Ok(self.taken_over(ledger, sale, view.lsn).await?)
            }
            Door::Redis(redis) => redis.restock(sale, restock_id, quantity).await,
        }
    }

    /// Counts a sale's tickets again. `None`: no such sale.
    pub async fn audit(&self, sale: &str) -> Result<Option<Audit>, LedgerError> {
        let audit = match self.door() {
            // A recount holds the sale's lock for a few ms per 100,000 tickets, so it runs beside the cores.
            Door::Embedded(_) => {
                let (app, name) = (self.app.clone(), sale.to_owned());
                let recount = tokio::task::spawn_blocking(move || app.stock.embedded()?.audit(&name));
                recount.await.map_err(|_| LedgerError::Unavailable("the audit was interrupted"))?
            }
            Door::Redis(redis) => redis.audit(sale).await.map_err(LedgerError::of_read)?,
        };
        self.durable(audit.as_ref().map_or(Lsn(0), |audit| audit.lsn), None).await?;
        Ok(audit)
    }

    async fn taken_over(&self, ledger: &Embedded, sale: &str, lsn: Lsn) -> Result<(), LedgerError> {
        self.durable(lsn, None).await?;
        // Restocked units are for sale from here on, not from whenever the settle thread comes round.
        settle_durable(&self.app);
        self.app.sales.take_over(|| ledger.sale(sale));
        Ok(())
    }

    async fn durable(&self, lsn: Lsn, ticket: Option<TicketId>) -> Result<(), LedgerError> {
        if self.durable.is_reached(lsn) {
            return Ok(());
        }
        let waited = tokio::time::timeout(DURABLE_WAIT_MAX, self.durable.wait(lsn)).await;
        if matches!(waited, Ok(Ok(()))) { Ok(()) } else { Err(LedgerError::Unknown { ticket }) }
    }
}
