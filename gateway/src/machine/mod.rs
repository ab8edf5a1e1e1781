//! What a configuration can need of the machine, beside what the machine grants: told by `tidegate check` and at each
//! start, before a sale finds it out.
//!
//! ```text
//! needs.rs  what the bounds of a configuration add up to
//! grants.rs what this machine grants; the limit of open files is raised as far as it may be
//! judge.rs  the two side by side
//! ```
//!
//! Needs are upper bounds: a gateway below its bounds runs well with less. So a limit that is too low is a warning; only
//! what cannot work at all is a refusal.

mod grants;
mod judge;
mod needs;

pub(crate) use grants::{Grants, raise_open_files};
pub(crate) use judge::{Finding, Verdict, judge};
pub(crate) use needs::Needs;
