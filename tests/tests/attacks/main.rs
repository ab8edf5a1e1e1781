//! A real gateway under attack: honest requests keep their pace, its memory stays, and nobody gets what is not theirs.
//!
//! ```text
//! field.rs      rounds without and with the attack, in turns; the verdict
//! honest.rs     honest requests at a fixed rate, whatever comes back
//! siege.rs      the attackers' thread, which yields to everybody
//! raw.rs        bytes on a socket, and what is answered
//! silent.rs     slow heads and bodies, idle connections
//! large.rs      heads and bodies that are too large
//! frames.rs     HTTP/2 by hand: rapid reset, endless heads
//! forged.rs     buyers, addresses, tokens and passes of others
//! smuggled.rs   requests and paths hidden in others, through the proxy
//! policy.rs     orders that drive a policy into its limits
//! ```
//!
//! What is compared: the median, over rounds that take turns, of the 99th percentile of honest requests' latency (from
//! the instant at which a request was due), under attack and without. Attackers yield the processor to everybody else:
//! what they themselves compute is not the gateway's doing.
#![allow(clippy::unwrap_used)]

mod field;
mod forged;
mod frames;
mod honest;
mod large;
mod policy;
mod raw;
mod siege;
mod silent;
mod smuggled;
