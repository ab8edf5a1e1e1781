//! What happens at an instant: delayed messages and deadlines, both derived from the log. Holds the
//! instants only; what is done when they come is the façade's.
//!
//! ```text
//! delay.rs   delayed messages: pending, due, taken, delivered
//! store.rs   what each of them is, found by id and in the order of the log
//! wheel.rs   when they are due
//! deadline.rs  deadlines of messages
//! bell.rs    wakes a parked thread
//! ```

mod bell;
mod deadline;
mod delay;
mod store;
mod wheel;

pub(crate) use bell::Bell;
pub(crate) use deadline::{DeadlineHeap, Expiring};
pub(crate) use delay::{Delays, Pending};
