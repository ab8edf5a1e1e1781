//! `tidegate sale resume`: shows what a paused sale waits for, and goes on without a gateway when an operator says so.

use super::admin::confirmed;
use super::{Failure, out};
use tidegate_client::Client;
use tidegate_client::wire::Recovery;

pub(super) async fn run(
    client: &Client,
    sale: &str,
    without: Option<&str>,
    yes: bool,
    json: bool,
) -> Result<(), Failure> {
    let recovery = client.recovery(sale).await?;
    let Some(gateway) = without else {
        return tell(&recovery, json);
    };
    if !recovery.paused {
        return Err(Failure::No(format!("sale \"{sale}\" is not paused; nothing to resume")));
    }
    if !recovery.missing.iter().any(|missing| missing == gateway) {
        return Err(Failure::No(format!(
            "sale \"{sale}\" does not wait for gateway {gateway}; it waits for: {}",
            list(&recovery.missing)
        )));
    }
    out::note(worst_case(&recovery, gateway));
    if !yes && !confirmed("the gateway's id", gateway)? {
        return Err(Failure::No("nothing was changed".to_owned()));
    }
    let after = client.resume_without(sale, gateway).await?;
    if json {
        return super::print_json(&after);
    }
    let others: Vec<String> = after.missing.into_iter().filter(|missing| missing != gateway).collect();
    if others.is_empty() {
        out::say(format_args!("sale \"{sale}\" goes on without the log of gateway {gateway}"))?;
    } else {
        let others = list(&others);
        out::say(format_args!("gateway {gateway} is given up; sale \"{sale}\" still waits for: {others}"))?;
    }
    out::say(format_args!(
        "if it is gone for good, no sale needs to wait for it again: tidegate gateway forget {gateway}"
    ))
}

/// What going on without a gateway's log can cost, before it is done.
fn worst_case(recovery: &Recovery, gateway: &str) -> String {
    let Recovery { sale, available, held, sold, .. } = recovery;
    format!(
        "Going on without gateway {gateway}
gives up what only its log holds. By the logs that were brought in, sale
\"{sale}\" has {available} units left, {held} held and {sold} sold.
Worst case: orders for up to {available} of those units were sold by it already. Their
buyers hold tickets that nobody will know, their orders are not delivered, and
the units are sold a second time. Payments, cancellations and created orders
that it took are forgotten too: compare with your own books.
If its data folder still exists anywhere, start it there instead: the sale then
goes on by itself."
    )
}

fn tell(recovery: &Recovery, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(recovery);
    }
    let Recovery { sale, missing, .. } = recovery;
    match (&recovery.reason, recovery.paused) {
        (Some(reason), true) => out::say(format_args!("sale \"{sale}\" is paused: {reason}"))?,
        _ => return out::say(format_args!("sale \"{sale}\" is not paused")),
    }
    out::say(format_args!("logs brought in: {}", list(&recovery.brought_in)))?;
    out::say(format_args!("waits for:       {}", list(missing)))?;
    let Some(first) = missing.first() else {
        return out::say("it goes on by itself within moments");
    };
    out::say(format_args!(
        "if {first} cannot come back now: tidegate sale resume {sale} --without-gateway {first}\n\
         if it is gone for good, for all sales: tidegate gateway forget {first}"
    ))
}

fn list(gateways: &[String]) -> String {
    if gateways.is_empty() { "none".to_owned() } else { gateways.join(", ") }
}
