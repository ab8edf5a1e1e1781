//! `tidegate check`: every mistake of a configuration at once, and the limits of this machine beside it.

use super::{Failure, out, table};
use crate::config::Config;
use crate::machine::{Finding, Grants, Needs, Verdict, judge};
use std::path::PathBuf;

/// Columns of advice, where it is no terminal that says how many there are.
const COLUMNS: usize = 80;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration to check, with the overrides of this environment
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(Some(&args.config), super::environment()).map_err(Failure::Config)?;
    let findings = judge(&Needs::of(&config), &Grants::read(&config.data.dir));
    out::say(format_args!(
        "{} is good: public {}, inner {}, data {}, ledger {}, {} sale(s)\n\n{}",
        args.config.display(),
        config.listen.public,
        config.listen.inner,
        config.data.dir.display(),
        config.ledger,
        config.sales.len(),
        told(&findings, out::columns().unwrap_or(COLUMNS))
    ))?;
    match findings.iter().find(|finding| matches!(finding.verdict, Verdict::Fails(_))) {
        Some(finding) => Err(Failure::No(format!("this machine cannot run it: {}", finding.line()))),
        None => Ok(()),
    }
}

/// A table, and below it what to do about each limit that is too low.
fn told(findings: &[Finding], columns: usize) -> String {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Good => "good",
        Verdict::Low(_) => "LOW",
        Verdict::Fails(_) => "TOO LOW",
    };
    let row = |finding: &Finding| {
        let Finding { what, granted, needed, verdict } = finding;
        vec![(*what).to_owned(), granted.clone(), needed.clone(), word(verdict).to_owned()]
    };
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    let mut text = table::render(&["of this machine", "granted", "can need", ""], &rows);
    for finding in findings {
        if let Verdict::Low(why) | Verdict::Fails(why) = &finding.verdict {
            text.push_str("\n\n");
            text.push_str(&wrapped(&format!("{}: {why}", finding.what), columns));
        }
    }
    text
}

/// In lines of at most so many columns, broken between words.
fn wrapped(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if used > 0 && used + 1 + width > columns {
            out.push('\n');
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += width;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_told_below_the_table_in_lines_that_fit() {
        let finding = |what, verdict| Finding {
            what,
            granted: "20000".to_owned(),
            needed: "46684".to_owned(),
            verdict,
        };
        let why = "beyond it connections are not accepted; ".repeat(5);
        let findings = [finding("open files", Verdict::Low(why)), finding("memory", Verdict::Good)];
        let text = told(&findings, 80);
        assert!(text.contains("open files") && text.contains("LOW") && text.contains("good"), "{text}");
        assert_eq!(text.matches("beyond it").count(), 5, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
