//! The order worker's protocol, over any database that can keep a unique key.
//!
//! ```text
//! store.rs       what a database must do
//! protocol.rs    insert pending → created → confirmed, or closed
//! closer.rs      order events: rows of released tickets are closed
//! recovery.rs    on start: `created` again for rows that are still pending
//! worker.rs      runs all three
//! pay_sample.rs  which buyers pay, for examples and tests
//! ```
//!
//! A row is an order only once it is `confirmed`: the ledger has said so. The row is written first, as
//! `pending`, so that a worker that dies leaves a trace; the ledger is asked next; its word is written last.
//!
//! Why no order of events leaves a wrong row:
//!
//! | what races | why the row ends right |
//! |---|---|
//! | the worker dies after the insert, the ticket is dropped and resold | the row is `pending`, which is no order; recovery, redelivery or the `dropped` event closes it |
//! | the worker dies after `created`, before `confirmed` | recovery or redelivery repeats `created`, which answers as the first time |
//! | the ticket expires between `created`'s answer and the write of `confirmed` | the event closes the row; `confirmed` is written only over `pending`, so it finds nothing to do |
//! | the release event comes before the row | it leaves a closed row under the ticket's key; the insert finds it and the order is not made |
//! | the release event comes while the row is inserted | the unique key puts the two writes in an order: the one before, or the row and then its closing |
//! | a repeated `created` is answered after the ticket went on | the answer shows the ticket as it is: released closes the row, paid marks it paid |
//! | order or event stands in the logs of two gateways, because one took over from the other | as a redelivery: each (ticket, version) may come several times and from any gateway, and every step changes nothing when it is repeated |
//! | `created` was sent to a gateway that died, and again to another one | the gateways share the ledger, where it is idempotent |
//! | events of a ticket overtake each other, from one gateway or from several | only ends are looked at, a ticket has exactly one end, and an end is final in the row too |
//! | two workers, or worker and recovery, hold the same ticket | insert, `created` and the conditional writes are all idempotent, and the order id follows from the row |

mod closer;
mod pay_sample;
mod protocol;
mod recovery;
mod store;
mod worker;

pub use pay_sample::PaySample;
pub use store::{OrderRow, OrderStore, Release, RowState};
pub use worker::{OrderCounts, OrderSummary, OrderWatch, OrderWorker};
