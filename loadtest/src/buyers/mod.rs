//! Open-loop buyers: requests leave on schedule whether or not answers came.
//!
//! ```text
//! errand.rs       what a buyer wants done, and when it is due
//! next_step.rs    what a buyer does after an answer (pure)
//! answer.rs       an HTTP answer, understood
//! connection.rs   one keep-alive connection
//! ready.rs        errands that are due, bounded, handed to free connections
//! engine.rs       one generator thread: calendar, connections
//! tally.rs        counts and latency histograms
//! book.rs         tickets told, conflicts
//! look.rs         every ticket's state, asked when all is over
//! ```
//! Buyers have no memory of their own beyond their errand in hand and, for winners, the ticket: a run of 10⁶
//! buyers costs no more than one of 10³ but for its winners.

mod answer;
mod book;
mod connection;
mod engine;
mod errand;
mod look;
mod next_step;
mod ready;
mod tally;

pub(crate) use engine::{Crowd, Live, buyer_index};
pub(crate) use look::look;
pub(crate) use tally::{Outcome, Tally};
