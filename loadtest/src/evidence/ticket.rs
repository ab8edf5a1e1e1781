//! Ticket ids as fixed-size values: 26 characters, no allocation for each of 10⁵ of them.

use std::fmt;

/// A ticket id as told by the gateway.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TicketId([u8; 26]);

/// A table by ticket.
pub(crate) type Table<T> = hashbrown::HashMap<TicketId, T>;

impl TicketId {
    /// `None` when `text` is not 26 ASCII letters and digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 26] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(Self(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?")
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
