//! What breaks an invariant: counted, the first few kept for the reader.

use super::Invariant;

const SAMPLES_MAX: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Findings {
    count: u64,
    samples: Vec<String>,
}

impl Findings {
    /// Something that must not be. The text is only made for the first few.
    pub(crate) fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(text());
        }
    }

    /// A finding unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.add(text);
        }
    }

    /// The invariant: it holds when nothing was found; then `compared` says what was looked at.
    pub(crate) fn judge(self, name: &'static str, compared: String) -> Invariant {
        let holds = self.count == 0;
        let more = self.count - self.samples.len() as u64;
        let detail = match (holds, more) {
            (true, _) => compared,
            (false, 0) => self.samples.join("; "),
            (false, more) => format!("{}; and {more} more", self.samples.join("; ")),
        };
        Invariant { name, holds, detail }
    }
}
