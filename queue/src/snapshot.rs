//! The queue's own snapshot: everything that is derived from the log below a position, so that a start reads only
//! what lies after it. FORMAT.md, "Snapshot". Two are kept, each replaced as a whole.
//!
//! A snapshot is taken while the queue works, each part a little later than its position `at`. That is right as long
//! as dispatching the log again from `at` over what it holds comes to the same; `queue/snapshot.rs` says why it does.

use crate::codec::{Reader, put_text, put_u32, put_u64};
use crate::index::IndexState;
use crate::log::OpenError;
use crate::producer::Producers;
use crate::storage::Storage;
use crate::timer::Pending;
use crate::transaction::Halves;
use crate::{Position, catalog};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

const DIR: &str = "snapshot";
const MAGIC: &[u8; 8] = b"TGSNAPSH";
const VERSION: u32 = 1;
/// The last four bytes are the checksum of those before.
const HEAD: usize = 64;

/// What a snapshot holds.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Everything below was dispatched.
    pub at: Position,
    pub topics: Vec<(String, Vec<IndexState>)>,
    pub delays: Vec<Pending>,
    pub halves: Halves,
    pub producers: Producers,
}

/// The snapshots of a folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub newest: Option<Snapshot>,
    pub older: Option<Snapshot>,
}

pub(crate) fn newest() -> PathBuf {
    Path::new(DIR).join("state")
}

pub(crate) fn older() -> PathBuf {
    Path::new(DIR).join("state.old")
}

/// Puts a body together; parts go in with [`Body::delays`] and so on, in the order of the fields.
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn new(topics: &[(&str, Vec<IndexState>)]) -> Self {
        let mut out = Vec::new();
        put_u32(&mut out, topics.len() as u32);
        for (name, queues) in topics {
            put_text(&mut out, name);
            put_u32(&mut out, queues.len() as u32);
            for state in queues {
                state.encode(&mut out);
            }
        }
        Self(out)
    }

    /// `held`: about how many there are. `piece` gives them out: see [`Delays::piece`](crate::timer::Delays::piece).
    pub(crate) fn delays(&mut self, held: usize, piece: impl Fn(usize, &mut dyn FnMut(Pending)) -> bool) {
        self.0.reserve(8 + held * 28);
        let (place, mut count, mut number) = (self.0.len(), 0u64, 0);
        put_u64(&mut self.0, 0);
        let mut put = |Pending { at_ms, id, position, bytes }| {
            put_u64(&mut self.0, at_ms);
            put_u64(&mut self.0, id.0);
            put_u64(&mut self.0, position.0);
            put_u32(&mut self.0, bytes);
            count += 1;
        };
        while piece(number, &mut put) {
            number += 1;
        }
        self.0[place..place + 8].copy_from_slice(&count.to_le_bytes());
    }
}

fn decode_body(at: Position, body: &[u8]) -> Option<Snapshot> {
    let mut reader = Reader(body);
    let topics = (0..reader.u32()?)
        .map(|_| {
            let name = reader.text()?.to_owned();
            let queues =
                (0..reader.u32()?).map(|_| IndexState::decode(&mut reader)).collect::<Option<_>>()?;
            Some((name, queues))
        })
        .collect::<Option<_>>()?;
    let delays = (0..reader.u64()?)
        .map(|_| {
            let (at_ms, id) = (reader.u64()?, Position(reader.u64()?));
            Some(Pending { at_ms, id, position: Position(reader.u64()?), bytes: reader.u32()? })
        })
        .collect::<Option<_>>()?;
    let (halves, producers) = (Halves::decode(&mut reader)?, Producers::decode(&mut reader)?);
    Some(Snapshot { at, topics, delays, halves, producers })
}

/// Replaces the newest; what it was becomes the older one. After an error both still stand.
pub(crate) fn store(storage: &dyn Storage, log_id: u64, at: Position, body: &[u8]) -> io::Result<()> {
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(MAGIC);
    put_u32(&mut head, VERSION);
    put_u32(&mut head, HEAD as u32);
    for number in [log_id, at.0, body.len() as u64] {
        put_u64(&mut head, number);
    }
    put_u32(&mut head, crc32c::crc32c(body));
    head.resize(HEAD - 4, 0);
    let crc = crc32c::crc32c(&head);
    put_u32(&mut head, crc);
    let parts = [IoSlice::new(&head), IoSlice::new(body)];
    catalog::replace(storage, Path::new(DIR), &newest(), &older(), &parts)
}

/// Reads what there is of this log, up to its end. What is damaged, of another log or of a later state of this one
/// is not believed and taken away, so that it is not believed later, and does not replace a good one.
pub(crate) fn load(storage: &dyn Storage, log_id: u64, end: Position) -> Result<Found, OpenError> {
    let mut found = Found::default();
    for (path, place) in [(newest(), &mut found.newest), (older(), &mut found.older)] {
        let io = |source| OpenError::Io { path: storage.root().join(&path), source };
        let Some(bytes) = catalog::read_file(storage, &path).map_err(io)? else { continue };
        match decode(&bytes, log_id, end) {
            Ok(snapshot) => *place = Some(snapshot),
            Err(Refused::Newer(version)) => {
                let file = storage.root().join(&path);
                return Err(OpenError::NewerFormat { file, found: version, known: VERSION });
            }
            Err(Refused::Bad(why)) => {
                tracing::warn!(file = %path.display(), "snapshot is {why}; a start without it reads more of the log");
                storage.remove(&path).and_then(|()| storage.sync_dir(Path::new(DIR))).map_err(io)?;
            }
        }
    }
    Ok(found)
}

enum Refused {
    Newer(u32),
    Bad(&'static str),
}

fn decode(bytes: &[u8], log_id: u64, end: Position) -> Result<Snapshot, Refused> {
    const DAMAGED: Refused = Refused::Bad("damaged");
    // Of a header of any version these places are known.
    let mut fields = Reader(bytes.get(8..).ok_or(DAMAGED)?);
    let (version, head) = (fields.u32().ok_or(DAMAGED)?, fields.u32().ok_or(DAMAGED)? as usize);
    let sum =
        head.checked_sub(4).and_then(|at| Some((bytes.get(..at)?, Reader(bytes.get(at..head)?).u32()?)));
    if &bytes[..8] != MAGIC || sum.is_none_or(|(head, sum)| crc32c::crc32c(head) != sum) {
        return Err(DAMAGED);
    }
    if version > VERSION {
        return Err(Refused::Newer(version));
    }
    let mut number = || fields.u64().ok_or(DAMAGED);
    let (of_log, at, len) = (number()?, Position(number()?), number()?);
    if of_log != log_id {
        return Err(Refused::Bad("of another log"));
    }
    if at > end {
        return Err(Refused::Bad("of a later state of the log than it is now in"));
    }
    let body = bytes.get(HEAD..).filter(|body| body.len() as u64 == len).ok_or(DAMAGED)?;
    if fields.u32() != Some(crc32c::crc32c(body)) {
        return Err(DAMAGED);
    }
    decode_body(at, body).ok_or(DAMAGED)
}

#[cfg(feature = "testing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    use crate::timer::Delays;
    let _ = decode(bytes, 7, Position(u64::MAX));
    // Behind the checksums.
    let Some(snapshot) = decode_body(Position(0), bytes) else { return };
    let encode = |snapshot: &Snapshot, delays: &Delays| {
        let mut body = Body::new(&[]);
        body.delays(delays.held(), |number, each| delays.piece(number, each));
        snapshot.halves.encode(&mut body.0);
        snapshot.producers.encode(&mut body.0);
        body.0
    };
    let restore = |pending: &[Pending]| {
        let mut delays = Delays::default();
        for pending in pending {
            delays.restore(*pending);
        }
        delays
    };
    let mut delays = restore(&snapshot.delays);
    let body = encode(&snapshot, &delays);
    let again = decode_body(Position(0), &body).expect("what was read can be written and read again");
    assert_eq!(encode(&again, &restore(&again.delays)).len(), body.len());
    let now_ms = 1 << 41;
    for _ in 0..snapshot.delays.len() {
        let Some(pending) = delays.pop_due(now_ms) else { break };
        assert!(pending.at_ms <= now_ms, "early");
        delays.delivered(pending.id);
    }
    let (_, _, _) = (delays.next_due_ms(), delays.bytes(), snapshot.halves.bytes());
}
