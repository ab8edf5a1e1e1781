//! When a sale is open: the one rule that the ledger and the gateway's first gate both use.

use crate::types::{SaleSpec, SaleSwitch};

/// State of a sale's window at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Sells.
    Open,
    /// Not yet; opens by itself then, if known.
    NotOpen {
        /// Unix ms.
        opens_at_ms: Option<u64>,
    },
    /// No more.
    Closed,
}

impl SaleSpec {
    /// Past `closes_at_ms` the sale is closed, however it was opened. Before that the switch goes before `opens_at_ms`,
    /// which `Scheduled` follows: without it the sale waits for the switch. Opening is inclusive, closing exclusive.
    pub fn window(&self, switch: SaleSwitch, now_ms: u64) -> Window {
        if self.closes_at_ms.is_some_and(|closes_at_ms| now_ms >= closes_at_ms) {
            return Window::Closed;
        }
        match switch {
            SaleSwitch::Open => Window::Open,
            SaleSwitch::Closed => Window::Closed,
            SaleSwitch::Scheduled if self.opens_at_ms.is_some_and(|opens_at_ms| now_ms >= opens_at_ms) => {
                Window::Open
            }
            SaleSwitch::Scheduled => Window::NotOpen { opens_at_ms: self.opens_at_ms },
        }
    }
}
