//! `tidegate gateway`: the gateways that sell one stock, over the admin API of one of them.

use super::admin::{Admin, confirmed};
use super::{Failure, out, table};
use tidegate_client::Client;
use tidegate_client::wire::{Gateways, Recovery, SaleState};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The gateways that live, and those that are away
    List,
    /// Give up a gateway that is gone for good: no sale waits for its log any more
    Forget {
        /// Its id, as `tidegate gateway list` and the log name it
        gateway: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.admin.run(async |client| match &args.command {
        Command::List => list(client, args.admin.json).await,
        Command::Forget { gateway, yes } => forget(client, gateway, *yes, args.admin.json).await,
    })
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let fleet = client.fleet_list().await?;
    if json {
        return super::print_json(&fleet);
    }
    let Gateways { gateways, away } = fleet;
    let head = ["gateway", "inner", "version", "state"];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for gateway in gateways {
        let state = if gateway.ready { "ready" } else { "not ready" };
        let inner = gateway.inner.unwrap_or_default();
        rows.push(vec![gateway.gateway, inner, gateway.version, state.to_owned()]);
    }
    rows.extend(away.into_iter().map(|id| vec![id, String::new(), String::new(), "away".to_owned()]));
    out::say(table::render(&head, &rows))
}

async fn forget(client: &Client, gateway: &str, yes: bool, json: bool) -> Result<(), Failure> {
    let mut waiting = Vec::new();
    for sale in client.sales().await?.iter().filter(|sale| sale.state == SaleState::Paused) {
        let recovery = client.recovery(&sale.sale).await?;
        if recovery.missing.iter().any(|missing| missing == gateway) {
            waiting.push(recovery);
        }
    }
    out::note(warning(gateway, &waiting));
    if !yes && !confirmed("the gateway's id", gateway)? {
        return Err(Failure::No("nothing was changed".to_owned()));
    }
    let forgotten = client.forget_gateway(gateway).await?;
    if json {
        return super::print_json(&forgotten);
    }
    out::say(format_args!(
        "gateway {gateway} is forgotten; sales that waited only for it go on within a second"
    ))
}

/// What forgetting can cost, before it is done.
fn warning(gateway: &str, waiting: &[Recovery]) -> String {
    let general = format!(
        "Forgetting gateway {gateway}
gives up what only its log holds, for every sale: now where a sale waits for it,
and whenever Redis loses data again. While Redis holds its data, nothing is lost
by it. If its data folder still exists anywhere, start it there instead."
    );
    if waiting.is_empty() {
        return general;
    }
    let head = ["sale", "left", "held", "sold"];
    let rows: Vec<Vec<String>> = waiting
        .iter()
        .map(|Recovery { sale, available, held, sold, .. }| {
            [sale.clone()].into_iter().chain([available, held, sold].map(u64::to_string)).collect()
        })
        .collect();
    format!(
        "{general}

These sales wait for it; the units by the logs that were brought in:

{}

Worst case: orders for up to all units left were sold by it already. Their
buyers hold tickets that nobody will know, their orders are not delivered, and
the units are sold a second time. Payments, cancellations and created orders
that it took are forgotten too: compare with your own books.",
        table::render(&head, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_for_many_sales_says_the_general_words_once_and_fits_a_terminal() {
        let recovery = |n: u64| Recovery {
            sale: format!("sale-{n}"),
            paused: true,
            reason: None,
            brought_in: Vec::new(),
            missing: Vec::new(),
            available: n,
            held: 0,
            sold: 0,
        };
        let waiting: Vec<Recovery> = (0..7).map(recovery).collect();
        let text = warning("01ARZ3NDEKTSV4RRFFQ69G5FAV", &waiting);
        assert!(text.lines().count() < 25 && text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.matches("Worst case").count(), 1);
        assert!(text.contains("sale-6     6     0     0"), "{text}");
        assert!(!warning("x", &[]).contains("Worst case"));
    }
}
