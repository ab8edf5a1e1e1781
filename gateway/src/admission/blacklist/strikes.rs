//! What the cores report of clients: a short list a core, emptied once a second. A full one takes no more until then, so
//! under a flood the judge sees a part of it: enough to know those who flood, and a few bad ones get away.

use parking_lot::Mutex;

/// Reports of one core between two looks, at most.
const MOST: usize = 4_096;

/// Something that a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strike {
    /// Came again and again in spite of the buyer's quota.
    Refused(Box<str>),
    /// An address brought a stranger, who was asked to come back.
    Asked {
        /// The address's client.
        network: u64,
        /// Hash of the sale's name.
        sale: u64,
    },
    /// One of those came back.
    Kept {
        /// The address's client.
        network: u64,
        /// Hash of the sale's name.
        sale: u64,
    },
}

/// The reports of all cores.
#[derive(Debug)]
pub struct Strikes(Vec<Row>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Row(Mutex<Vec<Strike>>);

impl Strikes {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        Self((0..cores.max(1)).map(|_| Row::default()).collect())
    }

    /// Reports what a client did, unless this core has reported enough. Its lock is its own but for a moment a second.
    pub fn report(&self, core: usize, strike: impl FnOnce() -> Strike) {
        let mut row = self.0[core % self.0.len()].0.lock();
        if row.len() < MOST {
            row.push(strike());
        }
    }

    /// Everything reported since the last time.
    pub fn take(&self) -> Vec<Strike> {
        self.0.iter().flat_map(|row| std::mem::take(&mut *row.0.lock())).collect()
    }
}
