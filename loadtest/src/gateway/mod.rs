//! The gateway under test: one that runs already, or a child process of ours.
//!
//! ```text
//! config.rs   the configuration a child is started with
//! child.rs    start, ready, kill, restart, stop
//! cpu.rs      processor time of a process
//! ```

mod child;
mod config;
mod cpu;

pub(crate) use child::{Child, ChildError};
