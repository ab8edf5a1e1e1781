//! Connections of single clients: nobody takes all places of a listener.

use crate::admission::network_of;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

const SHARDS: usize = 16;

/// Open connections by address, v6 by its /64. No more entries than connections.
#[derive(Debug, Default)]
pub(super) struct Seats {
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, u32, RandomState>>; SHARDS],
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    client: u64,
}

impl Seats {
    fn shard(&self, client: u64) -> &Mutex<HashMap<u64, u32, RandomState>> {
        &self.shards[self.hasher.hash_one(client) as usize % SHARDS]
    }

    /// A place for a connection of this client; `None` when it has `max` already.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Seat> {
        let client = network_of(address);
        let mut shard = self.shard(client).lock();
        let held = shard.entry(client).or_insert(0);
        if *held as usize >= max {
            return None;
        }
        *held += 1;
        Some(Seat { seats: self.clone(), client })
    }

    #[cfg(test)]
    fn clients(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shard = self.seats.shard(self.client).lock();
        if let Some(held) = shard.get_mut(&self.client) {
            *held -= 1;
            if *held == 0 {
                shard.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_places_and_leaves_nothing_behind() {
        let seats = Arc::new(Seats::default());
        let take = |address: &str| seats.take(address.parse().unwrap(), 2);
        let held = [take("198.51.100.7"), take("198.51.100.7")];
        assert!(held.iter().all(Option::is_some));
        assert!(take("198.51.100.7").is_none());
        assert!(take("::ffff:198.51.100.7").is_none(), "the same client");
        assert!(take("198.51.100.8").is_some());
        let neighbours = [take("2001:db8:0:1::1"), take("2001:db8:0:1:ffff::2")];
        assert!(neighbours.iter().all(Option::is_some));
        assert!(take("2001:db8:0:1::3").is_none(), "one /64 is one client");
        assert!(take("2001:db8:0:2::1").is_some());
        drop(held);
        assert!(take("198.51.100.7").is_some());
        drop(neighbours);
        assert_eq!(seats.clients(), 0);
    }
}
