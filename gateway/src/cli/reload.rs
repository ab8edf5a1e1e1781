//! `tidegate reload`: a running gateway reads its configuration again.

use super::admin::Admin;
use super::{Failure, out};
use tidegate_client::ClientError;
use tidegate_client::wire::Reloaded;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    admin: Admin,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.admin.run(async |client| {
        let reloaded = client.reload().await.map_err(|error| match refused(&error) {
            Some(why) => Failure::No(why),
            None => error.into(),
        })?;
        if args.admin.json {
            return super::print_json(&reloaded);
        }
        out::say(told(&reloaded))
    })
}

/// Every problem on a line of its own.
fn refused(error: &ClientError) -> Option<String> {
    let ClientError::Problem { problem, .. } = error else { return None };
    let problems = problem.other.get("problems")?.as_array()?;
    let lines: Vec<&str> = problems.iter().filter_map(|line| line.as_str()).collect();
    Some(format!("the configuration is refused, nothing was changed:\n{}", lines.join("\n")))
}

fn told(reloaded: &Reloaded) -> String {
    let Reloaded { changed, sales_created, sales_changed, sales_left } = reloaded;
    let parts = [
        ("changed", changed),
        ("sales created", sales_created),
        ("sales changed", sales_changed),
        ("no longer in the file, and going on", sales_left),
    ];
    let lines: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", names.join(" ")))
        .collect();
    if lines.is_empty() { "reloaded: nothing was changed in it".to_owned() } else { lines.join("\n") }
}
