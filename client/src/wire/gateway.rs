//! The gateways of a fleet, as any of them lists them.

use serde::{Deserialize, Serialize};

/// `GET /v1/gateways` on an inner listener: the gateways that live, the answering one among them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gateways {
    /// By id.
    pub gateways: Vec<Gateway>,
    /// Ids of gateways that are away and whose logs the next recovery would wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<String>,
}

/// `POST /v1/gateways/{gateway}/forget`: no recovery waits for the gateway's log any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Its id.
    pub gateway: String,
    /// When it was forgotten, Unix ms by the clock of Redis.
    pub since_ms: u64,
}

/// One gateway. What only the gateway itself can tell may be absent where another one lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Gateway {
    /// Its id, kept in its data folder; empty from a gateway that has none.
    #[serde(default)]
    pub gateway: String,
    /// Base URL of its inner listener as others reach it, such as `http://10.0.0.1:8081`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<String>,
    /// Base URL of its public listener as others reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// This one answers.
    #[serde(default)]
    pub this: bool,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// Able to sell, by its last heartbeat.
    #[serde(default)]
    pub ready: bool,
    /// Started at, Unix ms, by its own clock.
    #[serde(default)]
    pub started_at_ms: u64,
    /// Its own clock now, Unix ms; only the answering one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// Age of its last heartbeat; 0 for the answering one.
    #[serde(default)]
    pub seen_ms_ago: u64,
    /// Sales that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sales: Option<u64>,
    /// Tickets before their end that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_tickets: Option<u64>,
    /// Connections open to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
}
