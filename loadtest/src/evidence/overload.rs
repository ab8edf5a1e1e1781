//! What an overload looked like from outside the gateway.

use crate::clock::Micros;
use crate::scenario::Overload;

/// A hand of a worker had an order, from and to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) from_us: Micros,
    pub(crate) to_us: Micros,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct OverloadSeen {
    pub(crate) wanted: Overload,
    /// The first buyer was due at.
    pub(crate) start_us: Micros,
    /// Orders that all workers together can hold at a time, without those they only have in stock.
    pub(crate) hands: u64,
    /// How many were refused as "overloaded", and the 99th percentile of how long that took.
    pub(crate) refused: u64,
    pub(crate) refused_p99_us: Micros,
    /// How late requests left, 99th percentile: the generator's own share of that.
    pub(crate) lag_p99_us: Micros,
}
