//! The gateways under test: one that runs already, or child processes of ours.
//!
//! ```text
//! config.rs   the configuration a child is started with
//! child.rs    one gateway: start, ready, kill, restart, freeze, stop
//! fleet.rs    all gateways of ours
//! roster.rs   the address list: whom buyers and workers may turn to
//! cpu.rs      processor time of a process
//! ```

mod child;
mod config;
mod cpu;
mod fleet;
mod roster;

pub(crate) use child::{Child, ChildError, Setting};
pub(crate) use fleet::Fleet;
pub(crate) use roster::{Member, Members, Roster};
