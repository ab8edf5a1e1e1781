//! The interfaces: which path and method does what.
//!
//! ```text
//! public.rs    routes of the public listener
//! orders.rs    POST orders: the gates in order, the reservation, the answer
//! passes.rs    a challenge, and the purchase pass for its answer
//! tickets.rs   tickets: look-up, long poll, event stream
//! sales.rs     what a buyer sees of a sale
//! inner.rs     routes of the inner listener, and who may take them
//! worker/      messages, leases, ticket transitions
//! admin/       sales, audit, figures, health
//! ```

pub mod admin;
pub(crate) mod clients;
pub mod inner;
mod orders;
mod passes;
pub mod public;
mod sales;
mod tickets;
mod worker;

pub(crate) use worker::looked_up;
