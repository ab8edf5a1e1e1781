//! A gateway's configuration file.

use crate::free_ports;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A temporary folder with `tidegate.toml` and the data folder in it; gone when dropped.
#[derive(Debug)]
pub struct Settings {
    folder: TempDir,
    values: BTreeMap<String, String>,
    ports: [u16; 2],
}

impl Settings {
    /// Ports and folder of its own, small segments, two threads, the projected wait off, no quota by buyer (a test asks
    /// again and again as one buyer); everything else as it is by default.
    pub fn new() -> Self {
        let settings = Self {
            folder: tempfile::Builder::new().prefix("tidegate-e2e-").tempdir().unwrap(),
            values: BTreeMap::new(),
            ports: free_ports(),
        };
        settings
            .set("listen.threads", 2)
            .set("data.segment_bytes", 1 << 20)
            .set("admission.quota.buyer_per_s", 0)
            // What is ordered without a worker at hand waits as long as the test likes.
            .value("admission.wait.enabled", "false")
    }

    /// A dotted key and its number; the last word counts.
    #[must_use]
    pub fn set(self, key: &str, value: u64) -> Self {
        self.value(key, value.to_string())
    }

    /// A dotted key and its text; the last word counts.
    #[must_use]
    pub fn set_text(self, key: &str, value: &str) -> Self {
        self.value(key, format!("\"{value}\""))
    }

    /// A dotted key and its value in TOML; the last word counts.
    #[must_use]
    pub fn value(mut self, key: &str, toml: impl Into<String>) -> Self {
        self.values.insert(key.to_owned(), toml.into());
        self
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `[data] dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Where buyers connect.
    pub fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Where workers and operators connect.
    pub fn inner_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[1])
    }

    /// Port of the buyers' listener, port of the inner one.
    pub fn ports(&self) -> [u16; 2] {
        self.ports
    }

    /// Writes the file; answers its path.
    pub fn write(&self) -> PathBuf {
        let path = self.folder().join("tidegate.toml");
        let [public, inner] = self.ports;
        let mut text = format!(
            "listen.public = \"127.0.0.1:{public}\"\nlisten.inner = \"127.0.0.1:{inner}\"\ndata.dir = \"{}\"\n",
            self.data_dir().display()
        );
        for (key, value) in &self.values {
            writeln!(text, "{key} = {value}").unwrap();
        }
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}
