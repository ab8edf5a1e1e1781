//! What this program did on purpose, and how the gateways ended.

use super::TicketId;
use crate::clock::Micros;
use serde::Serialize;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// `kill -9` of a gateway, which starts again.
    Kill,
    /// `kill -9` of a gateway whose data folder is deleted.
    DeleteGateway,
    StopGateway,
    KillWorker,
    KillRedis,
    EmptyRedis,
    Failover,
}

impl FaultKind {
    /// As the report spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::DeleteGateway => "delete_gateway",
            Self::StopGateway => "stop_gateway",
            Self::KillWorker => "kill_worker",
            Self::KillRedis => "kill_redis",
            Self::EmptyRedis => "empty_redis",
            Self::Failover => "failover",
        }
    }

    pub(crate) fn is_of_redis(self) -> bool {
        matches!(self, Self::KillRedis | Self::EmptyRedis | Self::Failover)
    }
}

/// A fault that the scenario asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FaultWanted {
    pub(crate) kind: FaultKind,
    pub(crate) in_flight_min: u64,
}

/// A fault that came.
#[derive(Debug, Clone)]
pub(crate) struct FaultSeen {
    pub(crate) kind: FaultKind,
    /// The gateway it was done to, if it was one.
    pub(crate) gateway: Option<u32>,
    pub(crate) at_us: Micros,
    /// Ready again, or another in its place; `None`: never.
    pub(crate) back_us: Option<Micros>,
    /// From here on Redis lacks what was written until `at_us`, if it lost anything.
    pub(crate) lost_from_us: Option<Micros>,
    /// What a dead worker had committed and not reported.
    pub(crate) orphans: Vec<TicketId>,
}

impl FaultSeen {
    pub(crate) fn new(kind: FaultKind, gateway: Option<u32>, at_us: Micros) -> Self {
        Self { kind, gateway, at_us, back_us: None, lost_from_us: None, orphans: Vec::new() }
    }

    pub(crate) fn back_at(self, back_us: Micros) -> Self {
        Self { back_us: Some(back_us), ..self }
    }
}

/// The workers stood still in between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopSeen {
    /// The last worker had stopped at.
    pub(crate) stopped_us: Micros,
    pub(crate) resumed_us: Micros,
}

/// How the gateways that we started ended.
#[derive(Debug, Clone)]
pub(crate) enum ExitSeen {
    /// Exit code 0 after SIGTERM, each of them.
    Clean,
    /// Anything else, in words.
    Unclean(String),
}
