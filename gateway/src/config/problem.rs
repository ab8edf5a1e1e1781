//! What is wrong with a configuration, and where: one line for people each.

use std::fmt;
use std::path::PathBuf;

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file; line and column count from 1.
    File {
        /// Path as it was given.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In an environment variable.
    Env(String),
    /// In no single place: a rule over several settings of which none is written, or a file that cannot be read.
    Whole,
}

/// One thing that must be changed before the gateway starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where.
    pub place: Place,
    /// Dotted key, such as `listen.public`; empty when the file itself is the problem.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do, when that can be said.
    pub help: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display())?,
            Place::Env(name) => write!(f, "{name}: ")?,
            Place::Whole => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// The known name nearest to a mistyped one, when it is near enough to be what was meant.
pub(super) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.len().min(candidate.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
