//! Reading what scripts answer. An answer of another shape than this release expects is an error, never a guess.

use redis::Value;

/// An answer that is not what the script's header says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "script {script} answered something unexpected ({what}); is another release's script under the same name?"
)]
pub struct BadReply {
    /// Which script.
    pub script: &'static str,
    /// What was looked for.
    pub what: &'static str,
}

/// One script's answer, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Reply<'v> {
    script: &'static str,
    value: &'v Value,
}

impl<'v> Reply<'v> {
    pub(super) fn new(script: &'static str, value: &'v Value) -> Self {
        Self { script, value }
    }

    pub(super) fn bad(&self, what: &'static str) -> BadReply {
        BadReply { script: self.script, what }
    }

    pub(super) fn list(&self) -> Result<List<'v>, BadReply> {
        match self.value {
            Value::Array(values) => Ok(List { script: self.script, values, at: 0 }),
            _ => Err(self.bad("a list")),
        }
    }

    pub(super) fn int(&self) -> Result<i64, BadReply> {
        match self.value {
            Value::Int(number) => Ok(*number),
            Value::BulkString(bytes) => {
                let text = std::str::from_utf8(bytes).ok();
                text.and_then(|text| text.parse().ok()).ok_or_else(|| self.bad("a number"))
            }
            _ => Err(self.bad("a number")),
        }
    }

    pub(super) fn count(&self) -> Result<u64, BadReply> {
        u64::try_from(self.int()?).map_err(|_| self.bad("a number that is not negative"))
    }

    pub(super) fn bytes(&self) -> Result<&'v [u8], BadReply> {
        match self.value {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.as_bytes()),
            _ => Err(self.bad("a string")),
        }
    }

    pub(super) fn text(&self) -> Result<&'v str, BadReply> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.bad("text"))
    }

    pub(super) fn is_nil(&self) -> bool {
        matches!(self.value, Value::Nil)
    }

    /// The number, when it is one and no list.
    pub(super) fn code(&self) -> Option<i64> {
        if let Value::Int(number) = self.value { Some(*number) } else { None }
    }
}

/// A list, from front to back.
pub(super) struct List<'v> {
    script: &'static str,
    values: &'v [Value],
    at: usize,
}

impl<'v> List<'v> {
    pub(super) fn next(&mut self) -> Result<Reply<'v>, BadReply> {
        let value = self.values.get(self.at);
        self.at += 1;
        let value = value.ok_or(BadReply { script: self.script, what: "one more entry" })?;
        Ok(Reply { script: self.script, value })
    }

    pub(super) fn rest(&self) -> impl Iterator<Item = Reply<'v>> + use<'v> {
        let script = self.script;
        self.values[self.at.min(self.values.len())..].iter().map(move |value| Reply { script, value })
    }

    pub(super) fn is_over(&self) -> bool {
        self.at >= self.values.len()
    }
}
