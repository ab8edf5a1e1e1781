//! Sending so that nothing is lost and nothing comes twice.
//!
//! ```text
//! numbered.rs       batches with a number, sent again until they are answered
//! transactional.rs  messages that go out if, and only if, something else has happened
//! checks.rs         answers for transactions whose producer is gone
//! ```

mod checks;
mod numbered;
mod transactional;

pub use checks::ChecksSummary;
pub use numbered::{Producer, SendError, Sent};
pub use transactional::TransactionProducer;
