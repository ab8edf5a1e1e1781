//! Redis processes of a test's own, on free ports of 127.0.0.1, ended when dropped.
//!
//! Everything here panics when it cannot do what it is asked: a test without its server has failed.

mod process;
mod server;

pub use process::until;
pub use server::{RedisServer, Setup, TlsFiles};
