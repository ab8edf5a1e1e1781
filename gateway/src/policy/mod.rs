//! Gate 7: policies in Lua, written by the operator. `docs/policies.md` tells how to write one.
//!
//! A policy is a file that runs from its first line to its `return` for each order, with nothing kept in between: what
//! one request leaves behind, another cannot find. Each core has a VM of its own. What a file can reach, and how long and
//! large it may run, is in `sandbox.rs` and `vm.rs` (failure mode 42).
//!
//! ```text
//! vm.rs         one Lua VM: limits, the request going in, the verdict coming out
//! sandbox.rs    what a policy can reach
//! frequency.rs  how often a client came lately, in fixed memory
//! breaker.rs    what policies that fail may cost
//! sources.rs    the files, read again when they change
//! gate.rs       the gate itself: a core's VM, counters, what happens on an error
//! ```

mod breaker;
mod frequency;
mod gate;
mod sandbox;
mod sources;
#[cfg(test)]
mod tests;
mod vm;

pub use gate::{CorePolicy, Counts, Judged, Policies};
pub(crate) use sources::run_reload;
pub use sources::{Script, Sources};
pub use vm::{Facts, PolicyError, Verdict, Vm};

/// Bounds of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lua instructions of one file, rounded up to whole hundreds.
    pub instructions_max: u32,
    /// Bytes that the VM may hold beyond what it holds after loading.
    pub memory_bytes_max: usize,
    /// Time of one file: copying large texts takes long in few instructions.
    pub time_ms_max: u64,
}
