//! What goes wrong on purpose, and when: at seeded instants, one fault after the other.
//!
//! ```text
//! instant.rs   waits for an instant at which a fault proves something
//! inflict.rs   does it, and notes when
//! ```

mod inflict;
mod instant;

pub(crate) use inflict::{Stage, inflict};

use crate::clock::{Clock, Micros};
use crate::evidence::StopSeen;
use crate::scenario::StopWorkers;
use crate::workers::Crew;
use std::time::Duration;

/// Workers told to stand finish what is in hand within this.
const STAND_BOUND: Duration = Duration::from_secs(5);

/// Stops the workers at their instant and lets them go on after theirs.
pub(crate) async fn stop_workers(stop: StopWorkers, crew: &Crew, clock: Clock, start_us: Micros) -> StopSeen {
    tokio::time::sleep_until(clock.instant(start_us + stop.at_ms * 1_000)).await;
    let stopped_us = crew.stand(STAND_BOUND).await;
    tokio::time::sleep_until(clock.instant(stopped_us + stop.for_ms * 1_000)).await;
    StopSeen { stopped_us, resumed_us: crew.resume() }
}
