//! What the end-to-end tests share. The tests themselves are in `tests/`, one file per subject.
//!
//! ```text
//! artifacts.rs   builds the binaries under test, once per run
//! settings.rs    a gateway's configuration file
//! server.rs      the real binary as a child process: ready, SIGKILL, SIGTERM, restart
//! fleet.rs       several gateways that sell one stock in a Redis
//! hold_proxy.rs  holds back what Redis answers, at a moment of the test's choosing
//! in_process.rs  a gateway in this process over a disk that can be made to fail
//! http.rs        requests and answers, event streams
//! shop.rs        sales, orders, transitions and audits in a word each
//! crowd.rs       buyers and workers under way, and what they were told
//! upstream.rs    a service behind the gateway, down to its bytes
//! patience.rs    waiting for a condition, with a bound
//! ports.rs       free ports that no other test takes
//! ```
//!
//! It is test support: where something cannot work, it panics with what it saw.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says that it failed")]
#![allow(clippy::return_self_not_must_use, reason = "an expectation is often the end of it")]

mod artifacts;
mod crowd;
mod fleet;
mod hold_proxy;
mod http;
mod in_process;
mod patience;
mod ports;
mod server;
mod settings;
mod shop;
mod upstream;

pub use self::http::{Event, EventStream, Http, Reply, raw_exchange};
pub use artifacts::{gateway_binary, order_worker_binary, workspace_dir};
pub use crowd::{Crowd, Told};
pub use fleet::{DEAD_AFTER, Fleet, FleetSettings};
pub use hold_proxy::HoldProxy;
pub use in_process::InProcess;
pub use patience::{BOUND, eventually, eventually_within, within};
pub use ports::free_ports;
pub use server::{Ended, Server, run_to_its_end};
pub use settings::Settings;
pub use shop::{Sale, Shop};
pub use upstream::{Act, Seen, Upstream, raw_answer};
