//! Grants tokens as they come into being, when nobody comes who would; and looks after what the queue goes by.

use super::{TokenRate, TokenSettings};
use crate::state::{App, Core};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// A timer that is sooner would spin.
const STEP_MIN: Duration = Duration::from_micros(100);
/// Between two looks at settings and at the units that are left.
const LOOK: Duration = Duration::from_millis(50);

/// Runs until the gateway stops and nobody waits any more.
pub(crate) async fn run(core: Rc<Core>) {
    let app = &core.app;
    let mut settings = core.live().config.tokens;
    let mut look_at = Instant::now();
    loop {
        if Instant::now() >= look_at {
            settings = look(app, settings, core.live().config.tokens);
            look_at = Instant::now() + LOOK;
        }
        let next = app.tokens.grant_due(super::now());
        let stopping = app.stopping.is_set();
        if stopping && app.tokens.waiting() == 0 {
            return;
        }
        let until_look = look_at.saturating_duration_since(Instant::now());
        tokio::select! {
            () = tokio::time::sleep(next.unwrap_or(until_look).clamp(STEP_MIN, LOOK)) => {}
            () = app.tokens.wake.notified() => {}
            () = app.stopping.wait(), if !stopping => {}
        }
    }
}

/// Takes over changed settings, and what is left of each sale.
fn look(app: &App, old: TokenSettings, new: TokenSettings) -> TokenSettings {
    if old != new {
        app.tokens.reconfigure(&new, super::now());
    }
    if matches!(new.rate, TokenRate::Auto { .. }) {
        let now = super::now();
        app.tokens.follow(app.drain.backlog(), app.drain.rate_per_s(now), now);
    }
    if new.tokens_per_unit > 0 {
        for view in app.stock.sales_seen() {
            if let Some(gate) = app.sales.find(&view.sale) {
                gate.budget.set_left(view.stock.available);
            }
        }
    }
    new
}
