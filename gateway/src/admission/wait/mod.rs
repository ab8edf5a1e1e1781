//! Gate 8: is an order that is admitted now created before its deadline?
//!
//! ```text
//! gate.rs     admits an order, or says when to come back
//! judge.rs    … by this arithmetic
//! drain.rs    one topic's orders, and how fast they are dealt with
//! backlog.rs  … how many, from the log's own numbers
//! meter.rs    … how many a second, from acknowledgements
//! window.rs   … counted over the last moments
//! busy.rs     … of time with orders to be settled
//! sim.rs      simulated workers, by a virtual clock
//! ```

mod backlog;
mod busy;
mod drain;
mod gate;
mod judge;
mod meter;
#[cfg(test)]
mod sim;
mod window;

pub use drain::Drain;
pub(crate) use gate::pass;
pub use gate::{Coming, WaitFigures};
pub use judge::WaitSettings;
pub use meter::Rate;
