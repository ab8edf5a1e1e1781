//! Who is banned.

use serde::{Deserialize, Serialize};

/// A ban as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// `buyer:…`, `ip:ADDRESS` or `ip:NETWORK/LENGTH`.
    pub client: String,
    /// Unix ms; left out: until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Unix ms.
    pub since_ms: u64,
    /// An operator's; else the gateway's own.
    pub manual: bool,
    /// How often the gateway has banned this client of late; 0 for an operator's.
    #[serde(default)]
    pub times: u32,
}

/// Answer to `GET /v1/blacklist`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanList {
    /// Those that hold, in order of their clients' names.
    pub bans: Vec<Ban>,
}

/// `PUT /v1/blacklist/{client}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutBan {
    /// Unix ms; left out: until it is lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer to `DELETE /v1/blacklist/{client}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifted {
    /// In its one spelling.
    pub client: String,
    /// Whether there was a ban.
    pub lifted: bool,
}
