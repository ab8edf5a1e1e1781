//! `tidegate policy test`: runs a policy against the cases beside it.

use super::{Failure, out};
use crate::config::PolicySettings;
use crate::policy::{Facts, Script, Sources, Verdict, Vm};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a policy against the cases beside it: NAME.lua and NAME.cases.toml
    Test {
        /// The policy
        file: PathBuf,
    },
}

/// The file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    request: Request,
    expect: Expected,
    /// Of a denial; left out: any.
    reason: Option<String>,
    /// Of an allowed order; left out: any.
    attributes: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
    Challenge,
    Error,
}

/// What `request` shows; what a case leaves out is as here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    sale: String,
    buyer: String,
    address: IpAddr,
    quantity: u32,
    has_pass: bool,
    recent_by_buyer: u32,
    recent_by_address: u32,
    now_ms: u64,
    headers: BTreeMap<String, String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            sale: "sale".to_owned(),
            buyer: "buyer".to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            quantity: 1,
            has_pass: false,
            recent_by_buyer: 1,
            recent_by_address: 1,
            now_ms: 1_800_000_000_000,
            headers: BTreeMap::new(),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Command::Test { file } = &args.command;
    test(file)
}

fn test(file: &Path) -> Result<(), Failure> {
    let script = Script::read(file).map_err(|error| Failure::Usage(error.to_string()))?;
    let sources = Sources { version: 1, scripts: vec![script] };
    let cases_file = file.with_extension("cases.toml");
    let cases =
        read(&cases_file).map_err(|why| Failure::Usage(format!("{}: {why}", cases_file.display())))?;
    // A gateway tells only the headers of its configuration; here, all that any case names.
    let headers =
        headers(&cases).map_err(|why| Failure::Usage(format!("{}: {why}", cases_file.display())))?;
    let mut names: Vec<HeaderName> = headers.iter().flat_map(HeaderMap::keys).cloned().collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    let mut failed = 0;
    for (case, headers) in cases.iter().zip(&headers) {
        // A fresh VM for each: a case shows the same alone and among others.
        let mut vm = Vm::load(&sources, &names, PolicySettings::LIMITS)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        match judge(case, &vm.evaluate(&case.request.facts(headers))) {
            Ok(()) => out::say(format_args!("ok      {}", case.name))?,
            Err(why) => {
                failed += 1;
                out::say(format_args!("FAILED  {}: {why}", case.name))?;
            }
        }
    }
    if failed > 0 {
        return Err(Failure::No(format!("{failed} of {} cases of {} fail", cases.len(), file.display())));
    }
    out::say(format_args!("{} cases of {} hold", cases.len(), file.display()))
}

fn read(path: &Path) -> Result<Vec<Case>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot be read: {error}; write the cases of the policy there"))?;
    let cases: Cases = toml::from_str(&text).map_err(|error| error.to_string())?;
    Ok(cases.case)
}

fn headers(cases: &[Case]) -> Result<Vec<HeaderMap>, String> {
    let of = |case: &Case| {
        let pairs = case.request.headers.iter().map(|(name, value)| {
            let wrong = |what: &str| format!("case \"{}\": {what} of header \"{name}\"", case.name);
            let parsed: HeaderName = name.parse().map_err(|_| wrong("bad name"))?;
            Ok((parsed, HeaderValue::from_str(value).map_err(|_| wrong("bad value"))?))
        });
        pairs.collect()
    };
    cases.iter().map(of).collect()
}

impl Request {
    fn facts<'a>(&'a self, headers: &'a HeaderMap) -> Facts<'a> {
        Facts {
            sale: &self.sale,
            buyer: &self.buyer,
            address: self.address,
            quantity: self.quantity,
            has_pass: self.has_pass,
            recent_by_buyer: self.recent_by_buyer,
            recent_by_address: self.recent_by_address,
            now_ms: self.now_ms,
            headers,
        }
    }
}

/// The error says what came instead.
fn judge(case: &Case, came: &Result<Verdict, crate::policy::PolicyError>) -> Result<(), String> {
    let (verdict, shown) = match came {
        Ok(Verdict::Allow(_)) => (Expected::Allow, "it is allowed".to_owned()),
        Ok(Verdict::Challenge) => (Expected::Challenge, "it is challenged".to_owned()),
        Ok(Verdict::Deny(reason)) => (Expected::Deny, format!("it is denied, \"{reason}\"")),
        Err(error) => (Expected::Error, format!("it fails, {error}")),
    };
    if verdict != case.expect {
        return Err(format!("{shown}; expected {:?}", case.expect).to_lowercase());
    }
    match came {
        Ok(Verdict::Deny(came)) if case.reason.as_ref().is_some_and(|reason| reason != came) => {
            Err(format!("denied, \"{came}\"; expected \"{}\"", case.reason.as_deref().unwrap_or_default()))
        }
        Ok(Verdict::Allow(came)) => {
            let came: BTreeMap<_, _> = came.iter().cloned().collect();
            match &case.attributes {
                Some(expected) if *expected != came => {
                    let json = |map: &BTreeMap<_, _>| serde_json::to_string(map).unwrap_or_default();
                    Err(format!("attributes {}; expected {}", json(&came), json(expected)))
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
