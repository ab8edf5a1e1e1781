//! What `publish` in `common.lua` tells.

use crate::redis::reply::BadReply;
use crate::types::TicketId;
use serde::Deserialize;

/// How a sale stands, told to all gateways whenever that, or one of its tickets, has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which sale.
    pub sale: String,
    /// Counts the sale's news: a gap was missed.
    pub count: u64,
    /// Version of the spec.
    pub version: u64,
    /// Units left.
    pub available: i64,
    /// Epoch counter.
    pub counter: u64,
    /// Generation.
    pub generation: u64,
    /// Why it is paused; empty: it is not.
    pub paused: String,
    /// Elements of the feed of wins.
    pub feed: u64,
    /// Tickets whose newest record is in a log by now.
    pub tickets: Vec<TicketId>,
}

/// As it travels.
#[derive(Deserialize)]
struct Packed<'a>(&'a str, u64, u64, &'a str, u64, u64, &'a str, u64, &'a str);

impl News {
    /// From a message of the channel.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadReply> {
        let bad = |what| BadReply { script: "publish", what };
        let packed: Packed<'_> = rmp_serde::from_slice(bytes).map_err(|_| bad("news"))?;
        let Packed(sale, count, version, available, counter, generation, paused, feed, ids) = packed;
        let mut tickets = Vec::new();
        for id in ids.as_bytes().chunks(ulid::ULID_LEN) {
            let ticket = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
            tickets.push(ticket.ok_or(bad("ticket ids"))?);
        }
        Ok(Self {
            sale: sale.to_owned(),
            count,
            version,
            available: available.parse().map_err(|_| bad("a number of units"))?,
            counter,
            generation,
            paused: paused.to_owned(),
            feed,
            tickets,
        })
    }
}
