//! `tidegate check`: every mistake of a configuration at once.

use super::{Failure, out};
use crate::config::Config;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration to check, with the overrides of this environment
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(Some(&args.config), super::environment()).map_err(Failure::Config)?;
    out::say(format_args!(
        "{} is good: public {}, inner {}, data {}, ledger {}, {} sale(s)",
        args.config.display(),
        config.listen.public,
        config.listen.inner,
        config.data.dir.display(),
        config.ledger,
        config.sales.len()
    ))
}
