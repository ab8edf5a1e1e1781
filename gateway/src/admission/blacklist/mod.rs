//! Gate 4: who is banned, by buyer or by network, by an operator or by the judge.
//!
//! ```text
//! client.rs   whom a ban is of
//! table.rs    the bans as a request looks them up
//! strikes.rs  what the cores report of clients, off the request's path
//! judge.rs    who is banned for it
//! file.rs     the bans in the data folder, where no Redis keeps them
//! ```
//!
//! A request costs one atomic load while nobody is banned. The list is bounded: when it is full the judge bans nobody
//! more, and an operator's ban takes the place of the judge's ban that ends first; when all are operators', it is refused.

mod client;
mod file;
mod judge;
mod strikes;
mod table;

pub use client::Client;
pub use judge::{Judge, Sentence, ban_ms};
pub use strikes::{Strike, Strikes};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use table::Table;

/// Why a client is banned, and for how long. Travels to other gateways and into the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Unix ms; `None`: until it is lifted.
    pub until_ms: Option<u64>,
    /// For people.
    #[serde(default)]
    pub reason: Option<String>,
    /// Unix ms.
    pub since_ms: u64,
    /// An operator's; else the judge's.
    pub manual: bool,
    /// How often the judge has banned this client, this time included; 0 for an operator's.
    #[serde(default)]
    pub times: u32,
}

impl Ban {
    /// Whether it still holds.
    pub fn holds(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until_ms| until_ms > now_ms)
    }

    /// Whether nobody needs it any more: it has ended, and longer ago than repetition counts.
    fn is_forgotten(&self, now_ms: u64, memory_ms: u64) -> bool {
        let memory_ms = if self.manual { 0 } else { memory_ms };
        self.until_ms.is_some_and(|until_ms| until_ms.saturating_add(memory_ms) <= now_ms)
    }
}

/// A request of a banned client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banned {
    /// When the ban ends, from now; `None`: when it is lifted.
    pub retry_after: Option<Duration>,
}

/// As many bans as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

type List = HashMap<Client, Ban, RandomState>;

/// All bans of this gateway.
#[derive(Debug)]
pub struct Blacklist {
    table: ArcSwapOption<Table>,
    list: Mutex<List>,
    /// What the cores have to tell the judge.
    pub strikes: Strikes,
    /// Where the list is kept; `None`: in Redis.
    file: Option<PathBuf>,
    writing: Mutex<()>,
    made: AtomicU64,
    turned_away: AtomicU64,
}

impl Blacklist {
    /// For so many cores. `dir`: the data folder, when bans are kept there; those in it hold at once. A file that cannot
    /// be read is told in the log and does not stop the start: to sell without bans is better than not to sell.
    pub fn open(cores: usize, dir: Option<&Path>) -> Self {
        let file = dir.map(file::path);
        let list: List = file.as_deref().map(file::read).unwrap_or_default().into_iter().collect();
        let blacklist = Self {
            table: ArcSwapOption::empty(),
            list: Mutex::default(),
            strikes: Strikes::new(cores),
            file,
            writing: Mutex::default(),
            made: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        };
        blacklist.change(|present| *present = list);
        blacklist
    }

    /// Whether a network is banned, and so the address counts. One atomic load.
    pub fn has_networks(&self) -> bool {
        self.table.load().as_ref().is_some_and(|table| table.has_networks())
    }

    /// Whether an address is banned; those of `exempt` never are.
    pub fn address(
        &self,
        address: IpAddr,
        exempt: &[IpNet],
        now_ms: impl FnOnce() -> u64,
    ) -> Result<(), Banned> {
        let table = self.table.load();
        let until_ms = table.as_ref().and_then(|table| table.address(address));
        let Some(until_ms) = until_ms else { return Ok(()) };
        if exempt.iter().any(|network| network.contains(&address)) {
            Ok(())
        } else {
            told(until_ms, now_ms())
        }
    }

    /// Whether a buyer is banned; ask only for one whose identity is proven.
    pub fn buyer(&self, buyer: &str, now_ms: impl FnOnce() -> u64) -> Result<(), Banned> {
        let table = self.table.load();
        match table.as_ref().and_then(|table| table.buyer(buyer)) {
            Some(until_ms) => told(until_ms, now_ms()),
            None => Ok(()),
        }
    }

    /// The bans that hold, in order of the clients' names.
    pub fn list(&self, now_ms: u64) -> Vec<(Client, Ban)> {
        let list = self.list.lock();
        let held = list.iter().filter(|(_, ban)| ban.holds(now_ms));
        let mut held: Vec<_> = held.map(|(client, ban)| (client.clone(), ban.clone())).collect();
        held.sort_by(|(a, _), (b, _)| a.cmp(b));
        held
    }

    /// A client's ban, whether or not it still holds.
    pub fn get(&self, client: &Client) -> Option<Ban> {
        self.list.lock().get(client).cloned()
    }

    /// Who must go so that one more client can be banned: `None`, nobody. `most`: how many there may be.
    pub fn room(&self, client: &Client, ban: &Ban, most: usize, now_ms: u64) -> Result<Option<Client>, Full> {
        let list = self.list.lock();
        if list.len() < most || list.contains_key(client) {
            return Ok(None);
        }
        let replaceable = |other: &Ban| !other.manual && (ban.manual || !other.holds(now_ms));
        let first =
            list.iter().filter(|(_, other)| replaceable(other)).min_by_key(|(_, other)| other.until_ms);
        first.map(|(client, _)| Some(client.clone())).ok_or_else(|| {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            Full
        })
    }

    /// Puts a ban in place of the client's earlier one; `gone` makes room for it. See [`Self::room`].
    pub fn put(&self, client: Client, ban: Ban, gone: Option<&Client>) {
        if !ban.manual {
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        self.change(|list| {
            if let Some(gone) = gone {
                list.remove(gone);
            }
            list.insert(client, ban);
        });
    }

    /// Lifts a ban; whether there was one.
    pub fn remove(&self, client: &Client) -> bool {
        let mut removed = false;
        self.change(|list| removed = list.remove(client).is_some());
        removed
    }

    /// Takes over the list as others keep it.
    pub fn replace(&self, bans: impl IntoIterator<Item = (Client, Ban)>) {
        let bans = bans.into_iter().collect();
        self.change(|list| *list = bans);
    }

    /// Those that nobody needs any more.
    pub fn forgotten(&self, now_ms: u64, memory_ms: u64) -> Vec<Client> {
        let list = self.list.lock();
        let gone = list.iter().filter(|(_, ban)| ban.is_forgotten(now_ms, memory_ms));
        gone.map(|(client, _)| client.clone()).collect()
    }

    /// Writes the list into the data folder, where it is kept there. Blocks for the disk.
    pub fn keep(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // Whoever writes last has the newest list.
        let _writing = self.writing.lock();
        let list: Vec<_> =
            self.list.lock().iter().map(|(client, ban)| (client.clone(), ban.clone())).collect();
        file::write(file, &list)
    }

    /// Bans that the judge made since the start, and clients whom nobody could ban because the list was full.
    pub fn counts(&self) -> (u64, u64) {
        (self.made.load(Ordering::Relaxed), self.turned_away.load(Ordering::Relaxed))
    }

    fn change(&self, change: impl FnOnce(&mut List)) {
        let mut list = self.list.lock();
        change(&mut list);
        let until = |(client, ban): (&'_ Client, &Ban)| (client.clone(), ban.until_ms.unwrap_or(u64::MAX));
        let bans: Vec<_> = list.iter().map(until).collect();
        // Under the lock: the newest list is published last.
        self.table.store(Table::of(bans.iter().map(|(client, until_ms)| (client, *until_ms))).map(Arc::new));
    }
}

fn told(until_ms: u64, now_ms: u64) -> Result<(), Banned> {
    match until_ms {
        u64::MAX => Err(Banned { retry_after: None }),
        until_ms if until_ms <= now_ms => Ok(()),
        until_ms => Err(Banned { retry_after: Some(Duration::from_millis(until_ms - now_ms)) }),
    }
}

#[cfg(test)]
mod tests;
