//! `tidegate sale resume`: shows what a paused sale waits for, and goes on without a gateway when an operator says so.

use super::Failure;
use super::admin::confirmed;
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
    eprintln!("{}", worst_case(&recovery, gateway));
    if !yes && !confirmed("the gateway's id", gateway)? {
        return Err(Failure::No("nothing was changed".to_owned()));
    }
    let after = client.resume_without(sale, gateway).await?;
    if json {
        return super::print_json(&after);
    }
    println!("sale \"{sale}\" goes on without the log of gateway {gateway}");
    let others: Vec<String> = after.missing.into_iter().filter(|missing| missing != gateway).collect();
    if !others.is_empty() {
        println!("as soon as these have brought in theirs: {}", list(&others));
    }
    println!("if it is gone for good, no sale needs to wait for it again: tidegate gateway forget {gateway}");
    Ok(())
}

/// What going on without a gateway's log can cost, before it is done.
pub(super) fn worst_case(recovery: &Recovery, gateway: &str) -> String {
    let Recovery { sale, available, held, sold, .. } = recovery;
    format!(
        "Going on without gateway {gateway} gives up what only its log holds.\n\
         By the logs that were brought in, sale \"{sale}\" has {available} units left, {held} held and {sold} sold.\n\
         Worst case: orders for up to {available} of those units were sold by {gateway} already. Their buyers hold\n\
         tickets that nobody will know, their orders are not delivered, and the units are sold a second time.\n\
         Payments, cancellations and created orders that {gateway} took are forgotten too: compare with your own books.\n\
         If the gateway's data folder still exists anywhere, start it there instead: the sale then goes on by itself."
    )
}

fn tell(recovery: &Recovery, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(recovery);
    }
    match (&recovery.reason, recovery.paused) {
        (Some(reason), true) => println!("sale \"{}\" is paused: {reason}", recovery.sale),
        _ => println!("sale \"{}\" is not paused", recovery.sale),
    }
    if recovery.paused {
        println!("logs brought in: {}", list(&recovery.brought_in));
        println!("waits for:       {}", list(&recovery.missing));
        if let Some(first) = recovery.missing.first() {
            println!(
                "if it cannot come back: tidegate sale resume {} --without-gateway {first}",
                recovery.sale
            );
        }
    }
    Ok(())
}

fn list(gateways: &[String]) -> String {
    if gateways.is_empty() { "none".to_owned() } else { gateways.join(", ") }
}
