//! `tidegate log`: a log at rest, looked at record by record, or as a whole.

use super::{Failure, out};
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tidegate_client::wire;
use tidegate_queue::log::{LogReader, Record, RecordKind, salvage, verify};
use tidegate_queue::{Deadlines, Message, OpenError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the records, one a line
    Dump(Dump),
    /// Check every byte; exit code 1 when something is damaged
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Dump {
    /// Data folder of a gateway that is stopped, or a copy of one
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only records with this key, such as a ticket
    #[arg(long)]
    key: Option<String>,
    /// At most so many records
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// One JSON object a line, with the bodies
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// Data folder of a gateway that is stopped, or a copy of one
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Give the damaged parts up: orders in them are lost, and their units may be sold again
    ///
    /// The log is without the damaged parts from then on; their bytes are kept in DIR/salvage. Where later records
    /// depend on a lost one, the gateway still refuses to start, and a copy of the data folder must be restored:
    /// so make a copy first, and see with `tidegate audit` afterwards.
    #[arg(long)]
    salvage: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Dump(args) => match dump(args, &mut BufWriter::new(std::io::stdout().lock())) {
            // `tidegate log dump | head`: the reader has seen enough.
            Err(DumpError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(DumpError::Write(error)) => Err(Failure::Start(format!("cannot write the records: {error}"))),
            Err(DumpError::Failed(failure)) => Err(failure),
            Ok(()) => Ok(()),
        },
        Command::Verify(args) if args.salvage => give_up_damage(&args.data),
        Command::Verify(args) => check(&args.data),
    }
}

/// A log that is damaged beyond a report is an answer; one that cannot be opened is none.
pub(super) fn failure(error: OpenError) -> Failure {
    match error {
        OpenError::Corrupt { .. } => Failure::No(error.to_string()),
        other => Failure::start(other),
    }
}

fn check(data: &Path) -> Result<(), Failure> {
    let report = verify(data).map_err(failure)?;
    out::say(&report)?;
    if report.is_sound() {
        return Ok(());
    }
    Err(Failure::No(format!("the log in {} is damaged", data.display())))
}

fn give_up_damage(data: &Path) -> Result<(), Failure> {
    let lost = salvage(data).map_err(failure)?;
    if lost.is_empty() {
        out::say("nothing was damaged")?;
    }
    for range in &lost {
        out::say(format_args!("given up: positions {} to {}", range.start, range.end))?;
    }
    if !lost.is_empty() {
        out::say(format_args!(
            "orders in them are lost and their units may be sold again; their bytes are kept in {}; `tidegate audit` \
             tells whether the ledger can be rebuilt without them",
            data.join("salvage").display()
        ))?;
    }
    check(data)
}

enum DumpError {
    Write(std::io::Error),
    Failed(Failure),
}

impl From<std::io::Error> for DumpError {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    #[serde(flatten)]
    message: wire::Message<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at_ms: Option<u64>,
}

fn dump(args: &Dump, out: &mut impl Write) -> Result<(), DumpError> {
    let reader = LogReader::open(&args.data).map_err(|error| DumpError::Failed(failure(error)))?;
    let wanted = |record: &Record| {
        let view = record.view();
        args.topic.as_deref().is_none_or(|topic| topic == view.topic)
            && args.key.as_deref().is_none_or(|wanted| view.keys().any(|key| key == wanted))
    };
    let records = reader.records().filter(|record| record.as_ref().map_or(true, wanted));
    for record in records.take(args.limit.unwrap_or(usize::MAX)) {
        let record = record.map_err(|error| DumpError::Failed(Failure::No(error.to_string())))?;
        let kind = kind(record.view().kind);
        let message = to_message(&record);
        if args.json {
            let deliver_at_ms = message.times.deliver_at_ms;
            let line = Line { kind, message: crate::api::looked_up(&message), deliver_at_ms };
            serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            let Message { position, topic, queue, offset, tag, keys, times, body, .. } = &message;
            let (born_at_ms, keys, bytes) = (times.born_at_ms, keys.join(","), body.len());
            writeln!(
                out,
                "{position} {kind} {topic}/{queue}@{offset} born={born_at_ms} tag={tag} keys={keys} bytes={bytes}"
            )?;
        }
    }
    out.flush()?;
    if reader.report().is_sound() {
        return Ok(());
    }
    let why = format!("the log in {} is damaged; `tidegate log verify` tells where", args.data.display());
    Err(DumpError::Failed(Failure::No(why)))
}

fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Message => "message",
        RecordKind::Delayed => "delayed",
        RecordKind::Control => "control",
        RecordKind::Half => "half",
    }
}

/// The record as the running gateway's fold would see it; `None`: it would not.
pub(super) fn message(record: &Record) -> Option<Message> {
    match record.view().kind {
        RecordKind::Message | RecordKind::Delayed => Some(to_message(record)),
        RecordKind::Control | RecordKind::Half => None,
    }
}

fn to_message(record: &Record) -> Message {
    let view = record.view();
    Message {
        position: view.position,
        topic: view.topic.to_owned(),
        queue: view.queue,
        offset: view.queue_offset,
        tag: view.tag.to_owned(),
        keys: view.keys().map(str::to_owned).collect(),
        properties: view.properties().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        times: Deadlines {
            born_at_ms: view.born_at_ms,
            deliver_at_ms: view.deliver_at_ms,
            deadline_ms: view.deadline_ms,
        },
        body: record.body(),
    }
}
