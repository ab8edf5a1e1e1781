//! The whole ledger as a stream of bytes: written and read a block at a time, never doubled in memory.
//!
//! ```text
//! stream   "TGLEDGER"  frame…
//! frame    length u32 | crc32c u32 | kind u8 | payload (length bytes)       little-endian throughout
//! kinds    1 header   version u32, cut u64, generation u64
//!          2 sale     JSON: spec, switch, counters, restocks …; the tickets that follow are its
//!          3 tickets  one after the other in slot order, up to about 64 KiB
//!          4 end      sales u32, tickets u64; nothing follows
//! ```
//!
//! Each frame's checksum goes on from the one before, so a frame that is lost, repeated or moved is found like a
//! flipped bit.

use super::audit::audit;
use super::index::Place;
use super::ledger::{Ledger, LedgerLimits};
use super::sale::{Counters, Sale, SaleState};
use super::snapshot_ticket::{self, Block};
use super::spec::group_of;
use crate::record::{Journal, Lsn};
use crate::types::{SaleId, SaleSpec, SaleSwitch};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const MAGIC: [u8; 8] = *b"TGLEDGER";
const VERSION: u32 = 1;
const FRAME_BYTES_MAX: u32 = 256 << 20;
const BLOCK_BYTES: usize = 64 << 10;

const HEADER: u8 = 1;
const SALE: u8 = 2;
const TICKETS: u8 = 3;
const END: u8 = 4;

/// Why a snapshot was not written or not read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading or writing failed.
    #[error("snapshot: {0}")]
    Io(#[from] io::Error),
    /// These bytes are not what was written: use the previous snapshot.
    #[error("snapshot is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where it was noticed.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Written by another version of the program.
    #[error("snapshot has version {version}, this program reads version {VERSION}")]
    Version {
        /// Found.
        version: u32,
    },
    /// The ledger is not that of the cut: it holds later records, or units whose return is not settled.
    #[error("the ledger is not at the snapshot's cut {cut:?}: {what}")]
    NotAtCut {
        /// Asked for.
        cut: Lsn,
        /// What is beyond it.
        what: &'static str,
    },
    /// A sale's audit does not hold: nothing is written, so that the snapshots before stay the newest.
    #[error("sale {sale:?} does not pass its audit; no snapshot is taken of it")]
    Unsound {
        /// Sale.
        sale: String,
    },
    /// It holds more than the limits allow: raise them.
    #[error("snapshot exceeds the ledger's limit of {limit} {what}; raise the limit")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct SaleHead {
    sale: String,
    spec: SaleSpec,
    switch: SaleSwitch,
    items: Vec<String>,
    item: u16,
    counters: Counters,
    epoch_counter: u64,
    lsn: Lsn,
    spec_lsn: Lsn,
    restocks: Vec<(String, u64)>,
}

impl<J: Journal> Ledger<J> {
    /// Rebuilds a ledger from a snapshot, without reading the journal. The fold goes on from the answered
    /// position; records before it may come again and change nothing.
    pub fn restore(
        journal: J,
        limits: LedgerLimits,
        reader: impl Read,
    ) -> Result<(Self, Lsn), SnapshotError> {
        let mut ledger = Self::new(journal, limits);
        let mut frames = FrameReader::open(BufReader::new(reader))?;
        let fields = frames.expect(HEADER)?;
        let fields = header(&mut fields.as_slice());
        let (version, cut, generation) = fields.ok_or_else(|| frames.damaged("its header is too short"))?;
        if version != VERSION {
            return Err(SnapshotError::Version { version });
        }
        ledger.generation.store(generation, Ordering::Release);
        ledger.restored = cut;
        ledger.folded.store(cut.0, Ordering::Release);
        let mut sale: Option<Arc<Sale>> = None;
        loop {
            let (kind, payload) = frames.next()?;
            match kind {
                SALE => sale = Some(ledger.restore_sale(&payload, &frames)?),
                TICKETS => {
                    let sale = sale.as_ref().ok_or_else(|| frames.damaged("tickets before any sale"))?;
                    ledger.restore_tickets(sale, &payload, &frames)?;
                }
                END => {
                    let mut fields = payload.as_slice();
                    let sales = snapshot_ticket::take_u32(&mut fields);
                    let tickets = snapshot_ticket::take_u64(&mut fields);
                    let held = ledger.sales.read().list.len() as u32;
                    if sales != Some(held) || tickets != Some(ledger.tickets.load(Ordering::Relaxed)) {
                        return Err(frames.damaged("it holds fewer sales or tickets than it says"));
                    }
                    frames.expect_end_of_stream()?;
                    return Ok((ledger, cut));
                }
                _ => return Err(frames.damaged("a frame of unknown kind")),
            }
        }
    }

    /// Writes the ledger as it stands at `cut`: exactly the records up to there folded, all of them durable.
    ///
    /// For a ledger that nobody else uses: the caller folds a copy of its own (from the previous snapshot and
    /// the log), so the ledger that sells is never held up. Flushes `writer`; making it durable is the caller's.
    pub fn write_snapshot(&self, cut: Lsn, writer: impl Write) -> Result<(), SnapshotError> {
        if self.folded.load(Ordering::Acquire) > cut.0 {
            return Err(SnapshotError::NotAtCut { cut, what: "a later record was folded" });
        }
        let sales = self.all_sales();
        let mut frames = FrameWriter::open(BufWriter::new(writer))?;
        let mut payload = Vec::with_capacity(BLOCK_BYTES + 4096);
        payload.extend_from_slice(&VERSION.to_le_bytes());
        payload.extend_from_slice(&cut.0.to_le_bytes());
        payload.extend_from_slice(&self.generation.load(Ordering::Acquire).to_le_bytes());
        frames.write(HEADER, &payload)?;
        for sale in &sales {
            let state = sale.state.lock();
            check(sale, &state, cut)?;
            payload.clear();
            serde_json::to_writer(&mut payload, &sale_head(sale, &state)).map_err(io::Error::from)?;
            frames.write(SALE, &payload)?;
            payload.clear();
            let mut buyers_named = 0;
            for ticket in state.tickets.iter() {
                snapshot_ticket::encode(ticket, &state.buyers, &mut buyers_named, &mut payload);
                if payload.len() >= BLOCK_BYTES {
                    frames.write(TICKETS, &payload)?;
                    payload.clear();
                }
            }
            if !payload.is_empty() {
                frames.write(TICKETS, &payload)?;
            }
        }
        payload.clear();
        payload.extend_from_slice(&(sales.len() as u32).to_le_bytes());
        payload.extend_from_slice(&self.tickets.load(Ordering::Relaxed).to_le_bytes());
        frames.write(END, &payload)?;
        frames.writer.flush()?;
        Ok(())
    }

    fn restore_sale<R: Read>(
        &self,
        payload: &[u8],
        frames: &FrameReader<R>,
    ) -> Result<Arc<Sale>, SnapshotError> {
        let head: SaleHead =
            serde_json::from_slice(payload).map_err(|_| frames.damaged("a sale that is no sale"))?;
        if usize::from(head.item) >= head.items.len() {
            return Err(frames.damaged("a sale without its item"));
        }
        let mut sales = self.sales.write();
        let limit = u64::from(self.limits.sales_max);
        if sales.list.len() as u64 >= limit {
            return Err(SnapshotError::Full { what: "sales", limit });
        }
        if sales.get(&head.sale).is_some() {
            return Err(frames.damaged("a sale twice"));
        }
        let group = group_of(&head.spec, &self.groups);
        let mut state = SaleState::new(head.spec, head.switch, group, head.lsn);
        state.items = head.items.iter().map(|item| Arc::from(item.as_str())).collect();
        state.item = head.item;
        state.counters = head.counters;
        state.epoch_counter = head.epoch_counter;
        state.spec_lsn = head.spec_lsn;
        state.restocks = head.restocks.into_iter().map(|(id, units)| (id.into_boxed_str(), units)).collect();
        let index = sales.list.len() as u32;
        Ok(sales.push(Sale { id: SaleId::from(head.sale), index, state: Mutex::new(state) }))
    }

    fn restore_tickets<R: Read>(
        &self,
        sale: &Sale,
        payload: &[u8],
        frames: &FrameReader<R>,
    ) -> Result<(), SnapshotError> {
        let mut state = sale.state.lock();
        let group = state.group.clone();
        let mut members = group.as_deref().map(Mutex::lock);
        let mut block = Block::new(payload);
        while !block.is_empty() {
            let (ticket, buyer) = block
                .next(&state.buyers)
                .filter(|(ticket, _)| usize::from(ticket.item) < state.items.len())
                .ok_or_else(|| frames.damaged("a ticket that is no ticket"))?;
            let place = Place { sale: sale.index, slot: state.next_slot() };
            if self.index.insert(ticket.id(), place).is_err() {
                return Err(frames.damaged("a ticket twice"));
            }
            let limit = self.limits.tickets_max;
            self.take_seat().ok_or(SnapshotError::Full { what: "tickets", limit })?.keep();
            if !ticket.status.is_terminal() {
                self.live.fetch_add(1, Ordering::Relaxed);
            }
            state.insert(ticket, &buyer, members.as_deref_mut());
        }
        Ok(())
    }
}

fn header(fields: &mut &[u8]) -> Option<(u32, Lsn, u64)> {
    let version = snapshot_ticket::take_u32(fields)?;
    Some((version, Lsn(snapshot_ticket::take_u64(fields)?), snapshot_ticket::take_u64(fields)?))
}

fn check(sale: &Sale, state: &SaleState, cut: Lsn) -> Result<(), SnapshotError> {
    if state.lsn > cut {
        return Err(SnapshotError::NotAtCut { cut, what: "a sale has a later record" });
    }
    if state.counters.returning > 0 {
        return Err(SnapshotError::NotAtCut { cut, what: "returned units are not settled" });
    }
    if !audit(sale, state).holds {
        return Err(SnapshotError::Unsound { sale: sale.id.to_string() });
    }
    Ok(())
}

fn sale_head(sale: &Sale, state: &SaleState) -> SaleHead {
    let mut restocks: Vec<_> = state.restocks.iter().map(|(id, &units)| (id.to_string(), units)).collect();
    restocks.sort_unstable();
    SaleHead {
        sale: sale.id.to_string(),
        spec: state.spec.clone(),
        switch: state.switch,
        items: state.items.iter().map(ToString::to_string).collect(),
        item: state.item,
        counters: state.counters,
        epoch_counter: state.epoch_counter,
        lsn: state.lsn,
        spec_lsn: state.spec_lsn,
        restocks,
    }
}

struct FrameWriter<W> {
    writer: W,
    crc: u32,
}

impl<W: Write> FrameWriter<W> {
    fn open(mut writer: W) -> io::Result<Self> {
        writer.write_all(&MAGIC)?;
        Ok(Self { writer, crc: crc32c::crc32c(&MAGIC) })
    }

    fn write(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).ok().filter(|&length| length <= FRAME_BYTES_MAX);
        let length =
            length.ok_or_else(|| io::Error::other("a sale's record is larger than a frame may be"))?;
        self.crc = frame_crc(self.crc, length, kind, payload);
        self.writer.write_all(&length.to_le_bytes())?;
        self.writer.write_all(&self.crc.to_le_bytes())?;
        self.writer.write_all(&[kind])?;
        self.writer.write_all(payload)
    }
}

fn frame_crc(before: u32, length: u32, kind: u8, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(before, &length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &[kind]), payload)
}

struct FrameReader<R> {
    reader: R,
    crc: u32,
    offset: u64,
}

impl<R: Read> FrameReader<R> {
    fn open(reader: R) -> Result<Self, SnapshotError> {
        let mut frames = Self { reader, crc: crc32c::crc32c(&MAGIC), offset: 0 };
        let mut magic = [0; MAGIC.len()];
        frames.fill(&mut magic)?;
        if magic == MAGIC { Ok(frames) } else { Err(frames.damaged("it does not begin as a snapshot does")) }
    }

    fn next(&mut self) -> Result<(u8, Vec<u8>), SnapshotError> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("a frame longer than any"));
        }
        // Grows with what is really there: a damaged length must not ask for memory.
        let mut payload = Vec::new();
        let read = (&mut self.reader).take(length.into()).read_to_end(&mut payload)?;
        if read < length as usize {
            return Err(self.damaged("it ends in the middle of a frame"));
        }
        self.crc = frame_crc(self.crc, length, head[8], &payload);
        if self.crc != crc {
            return Err(self.damaged("a checksum does not match"));
        }
        self.offset += u64::from(length);
        Ok((head[8], payload))
    }

    fn expect(&mut self, wanted: u8) -> Result<Vec<u8>, SnapshotError> {
        let (kind, payload) = self.next()?;
        if kind == wanted { Ok(payload) } else { Err(self.damaged("its frames are not in order")) }
    }

    fn expect_end_of_stream(&mut self) -> Result<(), SnapshotError> {
        match self.reader.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.damaged("something follows its end")),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        match self.reader.read_exact(bytes) {
            Ok(()) => self.offset += bytes.len() as u64,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged("it ends too early"));
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Damaged { offset: self.offset, what }
    }
}
