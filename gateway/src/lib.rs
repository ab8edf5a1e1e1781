//! The gateway: HTTP in front, ledger and queue behind.
#![forbid(unsafe_code)]

pub mod config;
