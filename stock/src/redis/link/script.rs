//! A script and the digest that Redis knows it by.

use std::fmt;
use std::sync::OnceLock;

/// A Lua script, named for messages. Made in a `static`: the digest is computed once, at first use.
pub struct Script {
    name: &'static str,
    text: &'static str,
    sha1: OnceLock<String>,
}

impl Script {
    /// A script with its text.
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, sha1: OnceLock::new() }
    }

    /// Name, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its text.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// SHA-1 of the text in hex, as EVALSHA takes it.
    pub fn sha1(&self) -> &str {
        self.sha1.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({})", self.name)
    }
}
