//! Sales: put, switch, restock, look, list, feed of wins, audit.

use super::{OpError, Ops, script};
use crate::embedded::{UNITS_MAX, check_sale_id, check_spec};
use crate::redis::keys::SaleKeys;
use crate::redis::link::Lineage;
use crate::redis::note::Note;
use crate::redis::reply::{List, Reply};
use crate::types::{
    Audit, Epoch, Identity, SaleError, SaleSpec, SaleSwitch, SaleView, Stock, TicketId, TicketStatus,
};
use crate::{Lsn, SalePut};
use redis::Cmd;

script!(PUT_SALE, "put_sale");
script!(SWITCH, "switch");
script!(RESTOCK, "restock");
script!(AUDIT, "audit");
script!(LOOK, "look");
script!(REST, "rest");
script!(FEED, "feed");

/// Restock ids one sale remembers.
const RESTOCKS_MAX: u64 = 10_000;
/// Sales under one prefix.
const SALES_MAX: u64 = 10_000;
/// Elements of the feed read in one call …
const FEED_PAGE: &str = "1000";
/// … and bytes, for an element holds all wins of a batch; a single one may be longer.
const FEED_PAGE_BYTES: &str = "50000";
/// Bytes of a win in the feed.
const WIN_BYTES: usize = 42;

/// A sale as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleMeta {
    /// Version of spec and switch.
    pub version: u64,
    /// What an operator fixed. `None`: paused, and no log has told yet.
    pub spec: Option<SaleSpec>,
    /// Operator's switch.
    pub switch: SaleSwitch,
    /// Units; `available` is told as 0 when it is below.
    pub stock: Stock,
    /// Units sold beyond the stock, found by a recovery; 0 normally.
    pub excess: u64,
    /// Flag's epoch.
    pub epoch: Epoch,
    /// Server it was activated under.
    pub lineage: Lineage,
    /// Why nobody may sell; `None`: all is well.
    pub paused: Option<String>,
    /// When it was made, in ms of the clock of the server where it was; 0: no log has told yet.
    pub born_ms: u64,
    /// When it was put to rest: it never sells again, and the logs need not be kept for it. 0: it was not.
    pub over_ms: u64,
    /// Gateways whose logs are in this generation, between commas: those that brought them in when it began.
    pub logs: String,
    /// Elements of the feed.
    pub feed: u64,
    /// News told so far.
    pub news: u64,
}

/// What a gateway's log says of a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SaleRecorded {
    /// Version of spec and switch.
    pub version: u64,
    /// When the sale was made.
    pub born_ms: u64,
    /// Generation under which it was written.
    pub generation: u64,
    /// When it was put to rest; 0: it was not.
    pub over_ms: u64,
}

impl SaleMeta {
    /// As a log is to hold it.
    pub fn to_record(&self) -> SaleRecorded {
        let (version, born_ms, over_ms) = (self.version, self.born_ms, self.over_ms);
        SaleRecorded { version, born_ms, generation: self.epoch.generation, over_ms }
    }

    /// Whether no log needs to hold anything of it any more but its newest record.
    pub fn is_at_rest(&self) -> bool {
        self.over_ms > 0 && self.stock.held == 0 && self.paused.is_none()
    }

    /// Whether the sale was made, or made whole, without the log of a gateway that holds it as `recorded`.
    pub fn lacks_log_of(&self, gateway: &str, recorded: SaleRecorded) -> bool {
        let listed = self.logs.split(',').any(|listed| listed == gateway);
        let same = (self.born_ms, self.epoch.generation) == (recorded.born_ms, recorded.generation);
        !same && !listed && !self.is_at_rest()
    }

    /// As told to the admin API.
    pub fn view(&self, sale: &str) -> Option<SaleView> {
        Some(SaleView {
            sale: sale.into(),
            spec: self.spec.clone()?,
            switch: self.switch,
            stock: self.stock,
            epoch: self.epoch,
            lsn: Lsn(0),
        })
    }
}

/// A win of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Win {
    /// Ticket.
    pub ticket: TicketId,
    /// [`crate::hash_of`] the buyer.
    pub buyer_hash: u64,
}

/// What became of a restock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restocked {
    /// The record is owed: append it, then clear the note.
    Done(Note),
    /// It was made before; `pending`: its record is not known to be in a log yet.
    Repeat {
        /// Whether its note still stands.
        pending: bool,
    },
}

const FIELDS: [&str; 17] = [
    "v", "spec", "sw", "ini", "res", "av", "live", "ret", "sold", "back", "ep", "gen", "lin", "paused",
    "born", "logs", "over",
];

fn switch_letter(switch: SaleSwitch) -> &'static str {
    match switch {
        SaleSwitch::Scheduled => "s",
        SaleSwitch::Open => "o",
        SaleSwitch::Closed => "c",
    }
}

/// What scripts read of a spec, in the order of `put_sale.lua` and `reapply.lua`: stock, opens, closes, limit, qmax, cr,
/// deadline, paywin, item.
pub(super) fn spec_fields(spec: &SaleSpec) -> [String; 9] {
    let or_empty = |time: Option<u64>| time.map(|ms| ms.to_string()).unwrap_or_default();
    [
        spec.stock.to_string(),
        or_empty(spec.opens_at_ms),
        or_empty(spec.closes_at_ms),
        spec.per_buyer_limit.to_string(),
        spec.quantity_max.to_string(),
        u8::from(spec.limit_counts_released).to_string(),
        spec.order_deadline_ms.to_string(),
        spec.pay_window_ms.to_string(),
        spec.item.clone(),
    ]
}

pub(super) fn spec_json(spec: &SaleSpec) -> String {
    serde_json::to_string(spec).expect("plain structs always serialize")
}

pub(super) fn switch_text(switch: SaleSwitch) -> &'static str {
    switch_letter(switch)
}

impl Ops {
    /// Creates a sale, or changes everything of it but `stock`. The caller appends the record of the version it is told.
    /// `known`: its log holds the sale already, so a Redis without it has lost it ([`OpError::NoSale`]).
    ///
    /// Limit groups are refused: their sales would have to live in one hash slot.
    pub async fn put_sale(
        &self,
        keys: &SaleKeys,
        spec: &SaleSpec,
        known: bool,
    ) -> Result<Result<SalePut, SaleError>, OpError> {
        let checked = check_sale_id(&keys.sale).and_then(|()| check_spec(spec));
        if let Err(refused) = checked {
            return Ok(Err(refused));
        }
        if spec.limit_group.is_some() {
            let why = "limit_group is not available with the Redis ledger: sales of one group would have to share a hash slot";
            return Ok(Err(SaleError::Invalid(why.to_owned())));
        }
        let mut card = Cmd::new();
        card.arg("SCARD").arg(&self.fleet.sales);
        let names = self.link.command(&self.fleet.sales, None, &card).await?;
        if Reply::new("SCARD", &names).count()? >= SALES_MAX && self.look(keys).await?.is_none() {
            return Ok(Err(SaleError::Full { what: "sales", limit: SALES_MAX }));
        }
        // The name first: a name without a sale is looked at and passed over, a sale without a name would not be found.
        let mut add = Cmd::new();
        add.arg("SADD").arg(&self.fleet.sales).arg(&*keys.sale);
        self.link.command(&self.fleet.sales, None, &add).await?;
        let lineage = self.lineage(keys).await?;
        let (json, fields) = (spec_json(spec), spec_fields(spec));
        let known: &[u8] = if known { b"1" } else { b"0" };
        let mut args: Vec<&[u8]> =
            vec![self.channel.as_bytes(), keys.sale.as_bytes(), lineage.0.as_bytes(), known, json.as_bytes()];
        args.extend(fields.iter().map(String::as_bytes));
        let value = self.run(&PUT_SALE, Some(&lineage), &keys.first(6)[..6], &args).await?;
        let mut list = Reply::new("put_sale", &value).list()?;
        let (done, _version, stock) = (list.next()?, list.next()?, list.next()?);
        Ok(match done.text()? {
            "created" => Ok(SalePut::Created),
            "changed" => Ok(SalePut::Changed),
            "unchanged" => Ok(SalePut::Unchanged),
            "stock" => Err(SaleError::StockAlreadySet { stock: stock.count()? }),
            "paused" => return Err(OpError::Paused),
            "lost" => return Err(OpError::NoSale),
            "over" => Err(at_rest()),
            _ => return Err(done.bad("what a put did").into()),
        })
    }

    /// Opens or closes by hand.
    pub async fn switch_sale(
        &self,
        keys: &SaleKeys,
        lineage: &Lineage,
        to: SaleSwitch,
    ) -> Result<Result<(), SaleError>, OpError> {
        let args = [self.channel.as_bytes(), keys.sale.as_bytes(), switch_letter(to).as_bytes()];
        let value = self.run(&SWITCH, Some(lineage), &keys.first(6)[..6], &args).await?;
        let reply = Reply::new("switch", &value);
        match reply.text()? {
            "ok" => Ok(Ok(())),
            "over" => Ok(Err(at_rest())),
            "nosale" => Ok(Err(SaleError::NotFound)),
            "paused" => Err(OpError::Paused),
            _ => Err(reply.bad("what a switch did").into()),
        }
    }

    /// Adds units; once for each `restock_id`. They are told as held until the note is cleared.
    pub async fn restock(
        &self,
        keys: &SaleKeys,
        lineage: &Lineage,
        restock_id: &str,
        quantity: u64,
    ) -> Result<Result<Restocked, SaleError>, OpError> {
        let numbers = [quantity, RESTOCKS_MAX, UNITS_MAX].map(|n| n.to_string());
        let mut args: Vec<&[u8]> = vec![keys.sale.as_bytes(), restock_id.as_bytes()];
        args.extend(numbers.iter().map(String::as_bytes));
        let value = self.run_replicated(&RESTOCK, Some(lineage), &keys.first(7)[..7], &args).await?;
        let mut list = Reply::new("restock", &value).list()?;
        let done = list.next()?;
        let invalid = |why: &str| Ok(Err(SaleError::Invalid(why.to_owned())));
        match done.text()? {
            "done" => Ok(Ok(Restocked::Done(Note::new(list.next()?.text()?)))),
            "repeat" => Ok(Ok(Restocked::Repeat { pending: list.next()?.int()? == 1 })),
            "mismatch" => Ok(Err(SaleError::RestockMismatch { quantity: list.next()?.count()? })),
            "zero" => invalid("quantity must be at least 1"),
            "units" => invalid("stock and restocks together must be at most 2^53"),
            "over" => Ok(Err(at_rest())),
            "full" => Ok(Err(SaleError::Full { what: "restock ids of this sale", limit: RESTOCKS_MAX })),
            "nosale" => Ok(Err(SaleError::NotFound)),
            "paused" => Err(OpError::Paused),
            _ => Err(done.bad("what a restock did").into()),
        }
    }

    /// Puts a sale to rest that is closed, with nothing live and nothing owed, and has been for `settled_ms` by Redis's
    /// clock, as far as it was asked: it never sells again. Whether it is at rest now.
    pub async fn rest(
        &self,
        keys: &SaleKeys,
        lineage: &Lineage,
        settled_ms: u64,
        now_ms: u64,
    ) -> Result<bool, OpError> {
        let [settled, now] = [settled_ms, now_ms].map(|n| n.to_string());
        let args = [self.channel.as_bytes(), keys.sale.as_bytes(), settled.as_bytes(), now.as_bytes()];
        let value = self.run_replicated(&REST, Some(lineage), &keys.first(6)[..6], &args).await?;
        Ok(Reply::new("rest", &value).text()? == "over")
    }

    /// The sale as it stands. `None`: Redis does not know it.
    pub async fn look(&self, keys: &SaleKeys) -> Result<Option<SaleMeta>, OpError> {
        let mut args = FIELDS.map(str::as_bytes).to_vec();
        args.push(b"n");
        // In one step: a feed read before the counters would lack winners that they tell of, and a gateway that set its
        // flag by it would tell them "sold out".
        let value = self.run(&LOOK, None, &keys.first(6)[..6], &args).await?;
        let mut list = Reply::new("look", &value).list()?;
        let (fields, feed) = (list.next()?, list.next()?.count()?);
        meta(fields.list()?, feed)
    }

    /// Names of all sales, in order.
    pub async fn sale_names(&self) -> Result<Vec<String>, OpError> {
        let mut members = Cmd::new();
        members.arg("SMEMBERS").arg(&self.fleet.sales);
        let value = self.link.command(&self.fleet.sales, None, &members).await?;
        let value = match value {
            redis::Value::Set(values) => redis::Value::Array(values),
            other => other,
        };
        let mut names = Vec::new();
        for name in Reply::new("SMEMBERS", &value).list()?.rest() {
            names.push(name.text()?.to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Enters the name of a sale that a recovery brings back.
    pub async fn name_sale(&self, keys: &SaleKeys) -> Result<(), OpError> {
        let mut add = Cmd::new();
        add.arg("SADD").arg(&self.fleet.sales).arg(&*keys.sale);
        self.link.command(&self.fleet.sales, None, &add).await?;
        Ok(())
    }

    /// Wins from an element of the feed on, a page at most; and how many elements were read.
    pub async fn feed(&self, keys: &SaleKeys, from: u64) -> Result<(Vec<Win>, u64), OpError> {
        let from = from.to_string();
        let args = [&from, FEED_PAGE, FEED_PAGE_BYTES].map(str::as_bytes);
        let value = self.read_script(&FEED, &keys.first(6)[..6], &args).await?;
        let (mut wins, mut elements) = (Vec::new(), 0);
        let mut list = Reply::new("feed", &value).list()?;
        super::status(list.next()?)?;
        for element in list.rest() {
            elements += 1;
            let text = element.text()?;
            for win in text.as_bytes().chunks(WIN_BYTES) {
                let parsed = std::str::from_utf8(win).ok().and_then(|win| {
                    let ticket = win.get(..26)?.parse().ok()?;
                    let buyer_hash = u64::from_str_radix(win.get(26..)?, 16).ok()?;
                    Some(Win { ticket, buyer_hash })
                });
                wins.push(parsed.ok_or_else(|| element.bad("wins of 42 bytes"))?);
            }
        }
        Ok((wins, elements))
    }

    /// Counts again: about a second of Redis per million tickets. `None`: no such sale.
    pub async fn audit(&self, keys: &SaleKeys) -> Result<Option<Audit>, OpError> {
        let value = self.link.script_patient(&AUDIT, &keys.first(7)[..7], &[]).await?;
        audit(keys, &value)
    }
}

fn at_rest() -> SaleError {
    let why = "the sale is over for good: it ended longer ago than the logs are kept (retention_ms); make one of another name";
    SaleError::Invalid(why.to_owned())
}

fn meta(mut list: List<'_>, feed: u64) -> Result<Option<SaleMeta>, OpError> {
    let version = list.next()?;
    if version.is_nil() {
        return Ok(None);
    }
    let (spec, switch) = (list.next()?, list.next()?);
    let spec = if spec.is_nil() {
        None
    } else {
        Some(serde_json::from_slice(spec.bytes()?).map_err(|_| spec.bad("a spec"))?)
    };
    let switch = match switch.text()? {
        "o" => SaleSwitch::Open,
        "c" => SaleSwitch::Closed,
        _ => SaleSwitch::Scheduled,
    };
    let (initial, restocked) = (list.next()?.count()?, list.next()?.count()?);
    let available = list.next()?.int()?;
    let (live, returning) = (list.next()?.count()?, list.next()?.count()?);
    let (sold, returned) = (list.next()?.count()?, list.next()?.count()?);
    let (counter, generation) = (list.next()?.count()?, list.next()?.count()?);
    let (lineage, paused, born_ms) = (list.next()?.text()?, list.next()?.text()?, list.next()?.count()?);
    let logs = list.next()?.text()?.to_owned();
    let over = list.next()?;
    let over_ms = if over.is_nil() { 0 } else { over.count()? };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Some(SaleMeta {
        version: version.count()?,
        spec,
        switch,
        stock: Stock {
            initial,
            restocked,
            available: available.max(0) as u64,
            held: live + returning,
            sold,
            returned,
        },
        excess: available.min(0).unsigned_abs(),
        epoch: Epoch { generation, counter },
        lineage: Lineage(lineage.into()),
        paused: some(paused),
        born_ms,
        over_ms,
        logs,
        feed,
        news: list.next()?.count()?,
    }))
}

const STATUSES: [TicketStatus; 8] = [
    TicketStatus::Queued,
    TicketStatus::AwaitingPayment,
    TicketStatus::Paid,
    TicketStatus::Cancelled,
    TicketStatus::Expired,
    TicketStatus::Rejected,
    TicketStatus::Dropped,
    TicketStatus::Failed,
];

fn audit(keys: &SaleKeys, value: &redis::Value) -> Result<Option<Audit>, OpError> {
    let mut list = Reply::new("audit", value).list()?;
    if list.is_over() {
        return Ok(None);
    }
    let (initial, restocked) = (list.next()?.count()?, list.next()?.count()?);
    let available = list.next()?.int()?;
    let (live, returning) = (list.next()?.count()?, list.next()?.count()?);
    let (sold, returned) = (list.next()?.count()?, list.next()?.count()?);
    let _paused = list.next()?;
    let (waiting, restocks) = (list.next()?.count()?, list.next()?.count()?);
    let mut tickets = Vec::new();
    let mut units = [0_u64; 8];
    for (status, units) in STATUSES.into_iter().zip(&mut units) {
        tickets.push((status, list.next()?.count()?));
        *units = list.next()?.count()?;
    }
    let identity = |name: &str, left: i128, right: i128| Identity {
        name: name.to_owned(),
        left,
        right,
        holds: left == right,
    };
    let wide = i128::from;
    let identities = vec![
        identity(
            "initial + restocked = available + held + sold",
            wide(initial) + wide(restocked),
            i128::from(available) + wide(live) + wide(returning) + wide(sold),
        ),
        identity("units of live tickets", wide(live), wide(units[0] + units[1])),
        identity("units of paid tickets", wide(sold), wide(units[2])),
        identity("units of released tickets", wide(returned), wide(units[3..].iter().sum())),
        identity("units waiting for their record", wide(returning), wide(waiting)),
        identity("units of restocks", wide(restocked), wide(restocks)),
        identity("units sold beyond the stock", i128::from(available.min(0)), 0),
    ];
    Ok(Some(Audit {
        sale: keys.sale.clone(),
        holds: identities.iter().all(|identity| identity.holds),
        stock: Stock {
            initial,
            restocked,
            available: available.max(0) as u64,
            held: live + returning,
            sold,
            returned,
        },
        tickets,
        identities,
        lsn: Lsn(0),
    }))
}
