//! A hierarchical timing wheel, as in Kafka and tokio: each level has 64 slots of a width 64 times that of the level
//! below, from 1 ms on; eleven levels hold any instant.
//!
//! An entry's level is that of the highest digit (base 64) in which its instant differs from the wheel's time. So
//! all slots of a level lie ahead of it, the lowest occupied slot of the lowest occupied level is the next one, and
//! a jump over days costs no more than the slots that hold something. When the time comes to a slot its entries go
//! down to finer ones; those of the finest are due to the millisecond.

use super::store::{NONE, Place, Store};

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 64usize.div_ceil(BITS as usize);
/// Entries that one call moves: about a millisecond.
const TURN_MAX: usize = 8_192;

/// Slots with the heads of their lists; the entries and their links are the store's.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Everything up to here, and nothing after it, has left the wheel.
    time_ms: u64,
    /// A bit for each slot of a level that holds something.
    occupied: [u64; LEVELS],
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    /// The rest of the slot that the time has come to.
    turning: u32,
    turn_max: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            time_ms: 0,
            occupied: [0; LEVELS],
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
            turning: NONE,
            turn_max: TURN_MAX,
        }
    }
}

impl Wheel {
    #[cfg(test)]
    pub(super) fn with_turn_max(turn_max: usize) -> Self {
        Self { turn_max, ..Self::default() }
    }

    /// Takes an entry in; false when its instant is not ahead of the wheel's time.
    pub(super) fn insert(&mut self, store: &mut Store, index: u32) -> bool {
        let at_ms = store[index].at_ms;
        if at_ms <= self.time_ms {
            return false;
        }
        let (level, slot) = self.slot_of(at_ms);
        let head = &mut self.heads[level][slot];
        if *head != NONE {
            store[*head].previous = index;
        }
        let entry = &mut store[index];
        (entry.place, entry.previous, entry.next) = (Place::Wheel, NONE, *head);
        *head = index;
        self.occupied[level] |= 1 << slot;
        true
    }

    /// Takes an entry out that is in the wheel.
    pub(super) fn remove(&mut self, store: &mut Store, index: u32) {
        let (at_ms, previous, next) = (store[index].at_ms, store[index].previous, store[index].next);
        if next != NONE {
            store[next].previous = previous;
        }
        if previous != NONE {
            store[previous].next = next;
            return;
        }
        if self.turning == index {
            self.turning = next;
            return;
        }
        // The first of its list. Its slot is still the one that it was put in: had the wheel's time come to it,
        // it would have left.
        let (level, slot) = self.slot_of(at_ms);
        self.heads[level][slot] = next;
        if next == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// Hands out the entries of the earliest instant that is due, if there is one. No later than `now_ms`: a clock that
    /// steps back waits until it is there again. False when there was more to move than one call does; then
    /// those of the instant that it has come to are handed out when another call answers true.
    pub(super) fn expire(
        &mut self,
        store: &mut Store,
        now_ms: u64,
        mut due: impl FnMut(&mut Store, u32),
    ) -> bool {
        let (mut moved, mut found) = (0, false);
        loop {
            while self.turning != NONE {
                if moved == self.turn_max {
                    return false;
                }
                let index = self.turning;
                self.turning = store[index].next;
                if self.turning != NONE {
                    store[self.turning].previous = NONE;
                }
                if !self.insert(store, index) {
                    due(store, index);
                    found = true;
                }
                moved += 1;
            }
            match self.next_slot() {
                Some((level, slot, start_ms)) if !found && start_ms <= now_ms => {
                    self.time_ms = start_ms;
                    self.occupied[level] &= !(1 << slot);
                    self.turning = std::mem::replace(&mut self.heads[level][slot], NONE);
                }
                _ => break,
            }
        }
        // Nothing lies in between: what is put in from here on is placed by how far ahead it really is.
        if !found {
            self.time_ms = self.time_ms.max(now_ms);
        }
        true
    }

    /// Is a slot moved in part?
    pub(super) fn is_turning(&self) -> bool {
        self.turning != NONE
    }

    /// No entry is due before this; at this time the wheel must turn, if only to look closer.
    pub(super) fn next_turn_ms(&self) -> Option<u64> {
        if self.is_turning() { Some(self.time_ms) } else { self.next_slot().map(|(_, _, start_ms)| start_ms) }
    }

    fn slot_of(&self, at_ms: u64) -> (usize, usize) {
        let level = (at_ms ^ self.time_ms).ilog2() / BITS;
        (level as usize, (at_ms >> (level * BITS)) as usize % SLOTS)
    }

    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&occupied| occupied != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = level as u32 * BITS;
        let above = self.time_ms.checked_shr(shift + BITS).unwrap_or(0);
        let start_ms = above.checked_shl(shift + BITS).unwrap_or(0) | u64::from(slot) << shift;
        Some((level, slot as usize, start_ms))
    }
}
