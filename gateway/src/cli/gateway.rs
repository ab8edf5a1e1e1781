//! `tidegate gateway`: the gateways that sell one stock, over the admin API of one of them.

use super::admin::{Admin, confirmed};
use super::{Failure, resume, table};
use tidegate_client::Client;
use tidegate_client::wire::{Gateways, SaleState};

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
    print!("{}", table::render(&head, &rows));
    Ok(())
}

async fn forget(client: &Client, gateway: &str, yes: bool, json: bool) -> Result<(), Failure> {
    eprintln!(
        "Forgetting gateway {gateway} gives up what only its log holds, for every sale: now where a sale waits for it, and\n\
         whenever Redis loses data again. While Redis holds its data, nothing is lost by it.\n\
         If its data folder still exists anywhere, start it there instead."
    );
    for sale in client.sales().await?.iter().filter(|sale| sale.state == SaleState::Paused) {
        let recovery = client.recovery(&sale.sale).await?;
        if recovery.missing.iter().any(|missing| missing == gateway) {
            eprintln!("\n{}", resume::worst_case(&recovery, gateway));
        }
    }
    if !yes && !confirmed("the gateway's id", gateway)? {
        return Err(Failure::No("nothing was changed".to_owned()));
    }
    let forgotten = client.forget_gateway(gateway).await?;
    if json {
        return super::print_json(&forgotten);
    }
    println!("gateway {gateway} is forgotten; sales that waited only for it go on within a second");
    Ok(())
}
