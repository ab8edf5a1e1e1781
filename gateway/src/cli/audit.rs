//! `tidegate audit`: the ledger rebuilt from a log at rest, and its identities. Needs no gateway and changes
//! nothing.

use super::{Failure, log, out, table};
use crate::api::admin::audit_object;
use crate::pipeline::recover::rebuild;
use std::path::PathBuf;
use tidegate_client::wire::{Audit, AuditReport, TicketStatus};
use tidegate_queue::ReadError;
use tidegate_queue::log::LogReader;
use tidegate_stock::{Journal, JournalError, Lsn, Record};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data folder of a gateway that is stopped, or a copy of one
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Nothing is written down: the log is only read.
#[derive(Debug, Clone, Copy)]
struct ReadOnly;

impl Journal for ReadOnly {
    fn append(&self, _record: &Record<'_>) -> Result<Lsn, JournalError> {
        Err(JournalError::Poisoned)
    }

    fn durable(&self) -> Lsn {
        Lsn(u64::MAX)
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let reader = LogReader::open(&args.data).map_err(log::failure)?;
    if !reader.report().is_sound() {
        out::say(reader.report())?;
        return Err(Failure::No(
            "the log is damaged; the ledger is not rebuilt from a part of it".to_owned(),
        ));
    }
    let given_up = &reader.report().given_up;
    if let (Some(first), Some(last)) = (given_up.first(), given_up.last()) {
        // On standard error: it is true of the JSON too, and of a ledger that cannot be rebuilt.
        out::note(format_args!(
            "warning: a salvage gave up {} part(s) of this log, between positions {} and {}; orders in them are \
             missing here; `tidegate log verify` lists the parts",
            given_up.len(),
            first.start,
            last.end
        ));
    }
    let kept = reader.report().start..reader.report().end;
    let rebuilt = rebuild(&args.data, &ReadOnly, kept, |from| {
        let wanted = move |record: &Result<tidegate_queue::log::Record, ReadError>| {
            record.as_ref().map_or(true, |record| record.position() >= from)
        };
        let records = reader.records().filter(wanted);
        records.filter_map(|record| record.map(|record| log::message(&record)).transpose())
    })
    .map_err(|error| Failure::No(error.to_string()))?;
    let ledger = rebuilt.ledger;
    // Every record at rest counts: what was returned in the last moment is for sale again.
    ledger.settle(Lsn(u64::MAX));
    let mut sales: Vec<_> = ledger.sales().into_iter().map(|view| view.sale).collect();
    sales.sort();
    let audits: Vec<Audit> =
        sales.iter().filter_map(|sale| ledger.audit(sale)).map(|audit| audit_object(&audit)).collect();
    if !args.json {
        let report = reader.report();
        let snapshot =
            if rebuilt.cut.0 == 0 { String::new() } else { format!(", snapshot at {}", rebuilt.cut) };
        let (records, end) = (report.records, report.end);
        out::say(format_args!("log is sound: {records} records to position {end}{snapshot}\n"))?;
    }
    print(
        &AuditReport { holds: audits.iter().all(|audit| audit.holds), sales: audits, paused: Vec::new() },
        args.json,
    )
}

/// Prints a report; fails when an audit does not hold, and when not every sale could be audited.
pub(super) fn print(report: &AuditReport, json: bool) -> Result<(), Failure> {
    let AuditReport { sales, paused, .. } = report;
    if json {
        super::print_json(report)?;
    } else if !sales.is_empty() {
        print_tables(sales)?;
    } else if paused.is_empty() {
        out::say("no sales")?;
    }
    let broken: Vec<&str> =
        sales.iter().filter(|audit| !audit.holds).map(|audit| audit.sale.as_str()).collect();
    let not_audited = || match &paused[..] {
        [] => String::new(),
        [first, ..] => format!(
            "paused, and not audited: {}; what a sale waits for is told by: tidegate sale resume {first}",
            paused.join(", ")
        ),
    };
    match (&broken[..], &paused[..]) {
        ([], []) => Ok(()),
        // No verdict is neither a good one nor a bad one.
        ([], _) => Err(Failure::Start(not_audited())),
        (_, []) => Err(Failure::No(format!("the audit does not hold for {}", broken.join(", ")))),
        _ => {
            Err(Failure::No(format!("the audit does not hold for {}; {}", broken.join(", "), not_audited())))
        }
    }
}

fn print_tables(audits: &[Audit]) -> Result<(), Failure> {
    let head = ["sale", "initial", "restocked", "available", "held", "sold", "returned", "holds"];
    let rows: Vec<Vec<String>> = audits
        .iter()
        .map(|audit| {
            let counters =
                [audit.initial, audit.restocked, audit.available, audit.held, audit.sold, audit.returned];
            let cells = counters.iter().map(u64::to_string);
            [audit.sale.clone()].into_iter().chain(cells).chain([yes(audit.holds)]).collect()
        })
        .collect();
    out::say(format_args!("{}\n", table::render(&head, &rows)))?;

    let head: Vec<&str> =
        ["sale"].into_iter().chain(TicketStatus::ALL.iter().map(|status| status.as_str())).collect();
    let rows: Vec<Vec<String>> = audits
        .iter()
        .map(|audit| {
            let count = |status| audit.tickets.get(status).copied().unwrap_or_default().to_string();
            [audit.sale.clone()].into_iter().chain(TicketStatus::ALL.iter().map(count)).collect()
        })
        .collect();
    out::say(format_args!("{}\n", table::render(&head, &rows)))?;

    let rows: Vec<Vec<String>> = audits
        .iter()
        .flat_map(|audit| {
            audit.identities.iter().map(|identity| {
                let sides = [identity.left.to_string(), identity.right.to_string()];
                [audit.sale.clone(), identity.name.clone()]
                    .into_iter()
                    .chain(sides)
                    .chain([yes(identity.holds)])
                    .collect()
            })
        })
        .collect();
    out::say(table::render(&["sale", "identity", "left", "right", "holds"], &rows))
}

fn yes(holds: bool) -> String {
    if holds { "yes" } else { "NO" }.to_owned()
}
