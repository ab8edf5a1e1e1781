//! Gate 8: is an order that is admitted now created before its deadline?
//!
//! ```text
//! drain.rs    one topic's orders, and how fast they are dealt with
//! backlog.rs  … how many, from the log's own numbers
//! meter.rs    … how many a second, from acknowledgements
//! window.rs   … counted over the last moments
//! busy.rs     … of time with orders to be settled
//! ```

mod backlog;
mod busy;
mod drain;
mod meter;
mod window;

pub use drain::Drain;
pub use meter::Rate;
