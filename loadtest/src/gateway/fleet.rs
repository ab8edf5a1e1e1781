//! All gateways of ours: started together, stopped together, and what is done to single ones.

use super::roster::Roster;
use super::{Child, ChildError, Setting};
use crate::evidence::ExitSeen;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Gateways that this program started, and their addresses.
pub(crate) struct Fleet {
    /// By seat: a gateway that takes another's place sits on its seat.
    seats: Vec<Seat>,
    roster: Arc<Roster>,
    data_root: PathBuf,
    next_number: u32,
    /// Processor time of gateways that are gone for good.
    cpu_gone: Duration,
}

struct Seat {
    number: u32,
    child: Child,
    /// False: killed, and never to come back.
    used: bool,
}

impl Fleet {
    /// Starts as many as the scenario wants, one after the other; all can sell when this returns.
    pub(crate) async fn start(
        setting: &Setting<'_>,
        data_root: &Path,
        roster: Arc<Roster>,
    ) -> Result<Self, ChildError> {
        let mut fleet = Self {
            seats: Vec::new(),
            roster,
            data_root: data_root.to_owned(),
            next_number: 0,
            cpu_gone: Duration::ZERO,
        };
        let alone = setting.scenario.gateway.count == 1;
        for _ in 0..setting.scenario.gateway.count {
            let seat = fleet.newcomer(setting, alone).await?;
            fleet.seats.push(seat);
        }
        Ok(fleet)
    }

    async fn newcomer(&mut self, setting: &Setting<'_>, alone: bool) -> Result<Seat, ChildError> {
        let number = self.next_number;
        self.next_number += 1;
        let name = if alone { "gateway".to_owned() } else { format!("gateway-{number}") };
        let child = Child::start(setting, &name, &self.data_root.join(&name)).await?;
        self.roster.join(number, child.public(), &format!("http://{}", child.inner())).map_err(|error| {
            ChildError::Prepare { what: name, of: "address", source: std::io::Error::other(error) }
        })?;
        Ok(Seat { number, child, used: true })
    }

    /// Which gateway sits there.
    pub(crate) fn number(&self, seat: usize) -> u32 {
        self.seats[seat].number
    }

    /// To be killed, frozen, or started again.
    pub(crate) fn child(&mut self, seat: usize) -> &mut Child {
        &mut self.seats[seat].child
    }

    /// After its kill: the folder is deleted, nobody turns to the gateway any more.
    pub(crate) fn bury(&mut self, seat: usize) -> Result<(), ChildError> {
        let seat = &mut self.seats[seat];
        seat.used = false;
        self.roster.retire(seat.number);
        std::fs::remove_dir_all(seat.child.data_dir()).map_err(|source| ChildError::Prepare {
            what: format!("gateway {}", seat.number),
            of: "deletion",
            source,
        })
    }

    /// A new gateway with an empty folder where one was buried. Returns its number.
    pub(crate) async fn replace(&mut self, seat: usize, setting: &Setting<'_>) -> Result<u32, ChildError> {
        let newcomer = self.newcomer(setting, false).await?;
        let number = newcomer.number;
        let gone = std::mem::replace(&mut self.seats[seat], newcomer);
        self.cpu_gone += gone.child.cpu();
        Ok(number)
    }

    /// SIGTERM to each that is alive, all at once, and how they took it: the first that took it badly, if any.
    pub(crate) async fn stop(&mut self, bound: Duration) -> ExitSeen {
        let mut exit = ExitSeen::Clean;
        for seat in self.seats.iter_mut().filter(|seat| seat.used) {
            let log = seat.child.log().display().to_string();
            let how = match seat.child.stop(bound).await {
                Ok(status) if status.success() => continue,
                Ok(status) => format!("{status} after SIGTERM, see {log}"),
                Err(error) => error.to_string(),
            };
            exit = ExitSeen::Unclean(how);
        }
        exit
    }

    /// Processor time of all processes, up to their last kill or stop.
    pub(crate) fn cpu(&self) -> Duration {
        self.cpu_gone + self.seats.iter().map(|seat| seat.child.cpu()).sum()
    }
}
