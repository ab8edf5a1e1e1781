//! What happens at an instant: delayed messages and deadlines, both derived from the log. Holds the
//! instants only; what is done when they come is the façade's.

mod bell;
mod deadline;
mod delay;

pub(crate) use bell::Bell;
pub(crate) use deadline::{DeadlineHeap, Expiring};
pub(crate) use delay::Delays;
