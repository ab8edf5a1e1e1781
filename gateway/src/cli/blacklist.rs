//! `tidegate blacklist`: who is banned at a running gateway, over its admin API.

use super::admin::Admin;
use super::{Failure, out, table};
use tidegate_client::Client;
use tidegate_client::wire::{Ban, PutBan};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The bans that hold
    List,
    /// Ban a buyer, an address or a network, in place of an earlier ban
    Add {
        /// buyer:ID, ip:ADDRESS or ip:NETWORK/LENGTH; an IPv6 address alone stands for its /64
        client: String,
        /// Unix ms at which it ends; without it: when it is removed
        #[arg(long, value_name = "MS")]
        until_ms: Option<u64>,
        /// Shown by list
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lift a ban
    Remove {
        /// As list shows it
        client: String,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.admin.run(async |client| call(args, client).await)
}

async fn call(args: &Args, gateway: &Client) -> Result<(), Failure> {
    match &args.command {
        Command::List => print(&gateway.blacklist().await?, args.admin.json),
        Command::Add { client, until_ms, reason } => {
            let ban = PutBan { until_ms: *until_ms, reason: reason.clone() };
            print(&[gateway.ban(client, &ban).await?], args.admin.json)
        }
        Command::Remove { client } => {
            let lifted = gateway.lift_ban(client).await?;
            if args.admin.json {
                return super::print_json(&lifted);
            }
            let what = if lifted.lifted { "is lifted" } else { "was not there" };
            out::say(format_args!("the ban of {} {what}", lifted.client))
        }
    }
}

fn print(bans: &[Ban], json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(&bans);
    }
    let head = ["client", "until_ms", "by", "times", "reason"];
    let rows: Vec<Vec<String>> = bans
        .iter()
        .map(|ban| {
            let until = ban.until_ms.map_or_else(|| "removed".to_owned(), |until_ms| until_ms.to_string());
            let by = if ban.manual { "operator" } else { "gateway" };
            let reason = ban.reason.clone().unwrap_or_default();
            vec![ban.client.clone(), until, by.to_owned(), ban.times.to_string(), reason]
        })
        .collect();
    out::say(table::fit(&head, &rows, &[4, 0], out::columns()))
}
