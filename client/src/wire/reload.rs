//! A reload of the configuration.

use serde::{Deserialize, Serialize};

/// `POST /v1/reload`: the new configuration counts from here on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys whose value is another one now, those of sales apart.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Sales of the file that did not exist.
    #[serde(default)]
    pub sales_created: Vec<String>,
    /// Sales whose rules are others now.
    #[serde(default)]
    pub sales_changed: Vec<String>,
    /// Sales that were taken out of the file; they go on as they are.
    #[serde(default)]
    pub sales_left: Vec<String>,
}
