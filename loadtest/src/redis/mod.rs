//! The Redis of a run: started on free ports in a folder of its own, and what may happen to it.
//!
//! ```text
//! server.rs      one `redis-server` or sentinel as a child process
//! deployment.rs  a single server, or master, replica and sentinel; its faults
//! ```

mod deployment;
mod server;

pub(crate) use deployment::{Deployment, Reach};
pub(crate) use server::RedisError;
