//! The CommitLog: one append-only log of records for all topics.
//!
//! ```text
//! record.rs → frame.rs → segment.rs   the bytes, from small to large (FORMAT.md)
//! map.rs                              read-only maps; the crate's only unsafe
//! pending.rs                          append: positions, the frame under construction
//! writer.rs, pace.rs                  write, sync, publish; poison; whom a commit waits for
//! keeper.rs, checkpoint.rs            segments ahead of need, the checkpoint, the async sync
//! removal.rs                          giving up the beginning of the log
//! survey.rs → recovery.rs             what a folder's bytes say, and opening it
//! backup.rs                           a copy of a log in use
//! scan.rs, verify.rs                  reading: a log in use, a log at rest
//! ```
//!
//! Queues, offsets, groups and timers are not known here: a record's fields are the caller's.

mod backup;
mod checkpoint;
mod error;
mod frame;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod keeper;
mod lock;
mod map;
mod pace;
mod pending;
mod record;
mod recovery;
mod removal;
mod scan;
mod segment;
mod survey;
mod verify;
mod writer;

pub(crate) use backup::{Held, mark_unfinished};
pub use error::{OpenError, ReadError};
pub use record::{Record, RecordKind, RecordParts, RecordView};
pub use survey::Damage;
pub use verify::{LogReader, VerifyReport, salvage, verify};

use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::JoinHandle;
use crate::sync::{Condvar, Mutex, RwLock};
use crate::{AppendError, Durability, Durable, Position, Space};
use checkpoint::CheckpointFile;
use frame::FRAME_HEADER;
use keeper::Nudge;
use lock::FolderLock;
use pending::{Pending, Stopped};
use recovery::Trusted;
use scan::{Cursor, Limit, Scan};
use segment::Segments;
use smallvec::SmallVec;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

/// Where every log begins. One that starts later has given up, or lost, what was before.
pub const FIRST_POSITION: Position = Position(segment::SEGMENT_HEADER);
/// Segments prepared ahead, at most, however large the reserve. Far above what a disk allows with usual segments;
/// it bounds open files and maps.
const SEGMENTS_PREPARED_MAX: usize = 4_096;
/// Stands for the next batch where nobody has one yet.
const COMMON_BATCH_BYTES: u64 = 4096;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a new segment: a multiple of 4096, at most 1 GiB.
    pub segment_bytes: u64,
    /// When accepted becomes durable.
    pub flush: Durability,
    /// Accepted and not yet written, at most.
    pub pending_bytes_max: u64,
    /// While less than this is free on the disk, new work is refused and only owed work taken; 0: never.
    pub disk_low_bytes: u64,
    /// From so much free space on new work is taken again; not below `disk_low_bytes`.
    pub disk_high_bytes: u64,
    /// Go on without damaged parts.
    pub salvage: bool,
}

impl LogOptions {
    /// The default size of a segment.
    pub const SEGMENT_BYTES: u64 = 64 << 20;
}

impl Default for LogOptions {
    /// Sync mode, usual segments, 16 MiB pending, no water marks.
    fn default() -> Self {
        Self {
            segment_bytes: Self::SEGMENT_BYTES,
            flush: Durability::Sync,
            pending_bytes_max: 16 << 20,
            disk_low_bytes: 0,
            disk_high_bytes: 0,
            salvage: false,
        }
    }
}

/// Positions of the records of one batch.
pub type Positions = SmallVec<[Position; 8]>;

/// What an open found.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// Rises at every open.
    pub boot_epoch: u64,
    /// First position kept; scans start here.
    pub start: Position,
    /// End of the log after recovery; all below is durable.
    pub end: Position,
    /// The last process closed the log.
    pub clean: bool,
    /// Ranges given up by `salvage`.
    pub lost: Vec<Range<Position>>,
}

type Listener = Box<dyn Fn(Durable) + Send + Sync>;

/// What the threads share.
struct Shared {
    storage: Arc<dyn Storage>,
    log_id: u64,
    epoch: u64,
    /// Base of the oldest segment kept.
    log_start: AtomicU64,
    checkpoint: Mutex<CheckpointFile>,
    segment_bytes: u64,
    /// Low and high, in free bytes.
    disk_marks: (u64, u64),
    flush: Durability,
    recovered: Recovered,
    pending: Mutex<Pending>,
    writer_wake: Condvar,
    /// Records that wait for the writer; a hint for its pace.
    waiting_records: pace::Waiting,
    /// Segments that hold frames, or will next. Never empty.
    segments: Segments,
    durable: AtomicU64,
    synced: AtomicU64,
    reserve: AtomicU64,
    poisoned: AtomicBool,
    waiters: Mutex<usize>,
    waiters_wake: Condvar,
    listeners: RwLock<Vec<Listener>>,
    keeper: Mutex<Nudge>,
    keeper_wake: Condvar,
    keeper_idle: AtomicBool,
    flusher: Mutex<Nudge>,
    flusher_wake: Condvar,
}

struct Threads {
    writer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    flusher: Option<JoinHandle<()>>,
    /// Files below the start may still be there: a removal failed.
    leftovers: bool,
    _lock: FolderLock,
}

/// The log. One per data folder, which it locks. Share by `Arc`. Dropping it without [`CommitLog::close`] writes
/// what was accepted, but tells no listener's owner of failure and leaves no mark of a clean shutdown.
pub struct CommitLog {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

impl CommitLog {
    /// Locks the folder, recovers, starts the threads.
    pub fn open(storage: Arc<dyn Storage>, options: &LogOptions) -> Result<Self, OpenError> {
        Self::open_trusting(storage, options, &mut |_, _| Ok(None))
    }

    /// The same for a caller that has a snapshot: the segments wholly below the position that it answers for this log
    /// are not verified now; whoever reads in them verifies what he reads.
    pub(crate) fn open_trusting(
        storage: Arc<dyn Storage>,
        options: &LogOptions,
        trusted: Trusted<'_>,
    ) -> Result<Self, OpenError> {
        let possible = segment::SEGMENT_MIN..=segment::SEGMENT_MAX;
        if !possible.contains(&options.segment_bytes)
            || !options.segment_bytes.is_multiple_of(segment::SEGMENT_MIN)
        {
            return Err(OpenError::Invalid("segment_bytes must be a multiple of 4096 and at most 1 GiB"));
        }
        if options.disk_high_bytes < options.disk_low_bytes {
            return Err(OpenError::Invalid("disk_high_bytes must not be below disk_low_bytes"));
        }
        let lock = FolderLock::exclusive(&*storage)?;
        let ready = recovery::recover(&*storage, options, trusted)?;
        let end = ready.recovered.end.0;
        let active = Arc::clone(ready.segments.last().expect("recovery leaves a segment to write in"));
        let shared = Arc::new(Shared {
            log_id: ready.log_id,
            epoch: ready.recovered.boot_epoch,
            log_start: AtomicU64::new(ready.log_start),
            checkpoint: Mutex::new(ready.checkpoint),
            segment_bytes: options.segment_bytes,
            disk_marks: (options.disk_low_bytes, options.disk_high_bytes),
            flush: options.flush,
            pending: Mutex::new(Pending::new(active, ready.prepared, end, options.pending_bytes_max)),
            writer_wake: Condvar::new(),
            waiting_records: pace::Waiting::default(),
            segments: Segments::new(storage.root().to_owned(), ready.log_id, ready.segments),
            durable: AtomicU64::new(end),
            synced: AtomicU64::new(end),
            reserve: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            waiters: Mutex::new(0),
            waiters_wake: Condvar::new(),
            listeners: RwLock::new(Vec::new()),
            keeper: Mutex::new(Nudge::default()),
            keeper_wake: Condvar::new(),
            keeper_idle: AtomicBool::new(false),
            flusher: Mutex::new(Nudge::default()),
            flusher_wake: Condvar::new(),
            recovered: ready.recovered,
            storage,
        });
        keeper::look_at_disk(&shared);
        let threads = Threads {
            writer: spawn("log-writer", &shared, |shared| writer::run(&shared))?,
            keeper: spawn("log-keeper", &shared, |shared| keeper::run(&shared))?,
            flusher: match options.flush {
                Durability::Sync => None,
                Durability::Async { interval_ms } => {
                    let interval = Duration::from_millis(interval_ms.max(1));
                    Some(spawn("log-flusher", &shared, move |shared| keeper::flush(&shared, interval))?)
                }
            },
            leftovers: false,
            _lock: lock,
        };
        Ok(Self { shared, threads: Mutex::new(Some(threads)) })
    }

    /// Identity of the log: no other log ever has the same.
    pub fn log_id(&self) -> u64 {
        self.shared.log_id
    }

    /// What the open found.
    pub fn recovered(&self) -> &Recovered {
        &self.shared.recovered
    }

    /// Appends one atomic batch; `positions` is cleared and gets one position for each record. Never blocks on the
    /// disk. The batch is durable once `durable() >= range.end`; `range.start` is the first record's position.
    /// `Err` is definite.
    pub fn append(
        &self,
        space: Space,
        records: &[RecordParts<'_>],
        positions: &mut Positions,
    ) -> Result<Range<Position>, AppendError> {
        positions.clear();
        if records.is_empty() {
            return Err(AppendError::Invalid("empty batch"));
        }
        let mut need = 0;
        for record in records {
            record.check().map_err(AppendError::Invalid)?;
            need += record.encoded_len();
        }
        let shared = &*self.shared;
        if (need + FRAME_HEADER) as u64 > shared.segment_bytes - segment::SEGMENT_HEADER {
            return Err(AppendError::Invalid("batch does not fit into a segment"));
        }
        let reserve = shared.reserve.load(Ordering::Relaxed);
        let mut pending = shared.pending.lock();
        let accepted = pending.append(records, need, space, reserve, positions)?;
        shared.waiting_records.0.fetch_add(accepted.records, Ordering::Relaxed);
        let rolled = accepted.rolled_to.is_some();
        if let Some(segment) = accepted.rolled_to {
            // Before the lock is left: whoever sees these positions durable must find their segment.
            shared.segments.push(segment);
        }
        let wake = std::mem::take(&mut pending.writer_idle);
        drop(pending);
        if wake {
            shared.writer_wake.notify_one();
        }
        if rolled {
            shared.nudge_keeper();
        }
        Ok(accepted.range)
    }

    /// Everything accepted is below. Nothing accepted later is.
    pub fn end(&self) -> Position {
        Position(self.shared.pending.lock().end())
    }

    /// First position kept: where a scan of everything starts. Moves with [`CommitLog::remove_below`].
    pub fn start(&self) -> Position {
        Position(self.shared.log_start.load(Ordering::Acquire) + segment::SEGMENT_HEADER)
    }

    /// Everything below may be seen. One atomic load.
    pub fn durable(&self) -> Position {
        Position(self.shared.durable.load(Ordering::Acquire))
    }

    /// Everything below is on disk (in async mode it trails `durable`).
    pub fn synced(&self) -> Position {
        Position(self.shared.synced.load(Ordering::Acquire))
    }

    /// Blocks until `durable() >= position`.
    pub fn wait_durable(&self, position: Position) -> Result<(), AppendError> {
        let shared = &*self.shared;
        let reached = || shared.durable.load(Ordering::SeqCst) >= position.0;
        if reached() {
            return Ok(());
        }
        let mut waiters = shared.waiters.lock();
        *waiters += 1;
        while !reached() && !shared.poisoned.load(Ordering::SeqCst) {
            shared.waiters_wake.wait(&mut waiters);
        }
        *waiters -= 1;
        if reached() { Ok(()) } else { Err(AppendError::Poisoned) }
    }

    /// Blocks until `synced() >= position`; in async mode the sync is made at once.
    pub fn wait_synced(&self, position: Position) -> Result<(), AppendError> {
        let shared = &*self.shared;
        let reached = || shared.synced.load(Ordering::SeqCst) >= position.0;
        let mut waiters = shared.waiters.lock();
        *waiters += 1;
        while !reached() && !shared.poisoned.load(Ordering::SeqCst) {
            // What is not written yet wakes this when it is.
            if shared.flush != Durability::Sync && shared.durable.load(Ordering::SeqCst) >= position.0 {
                shared.hurry_flusher();
            }
            shared.waiters_wake.wait(&mut waiters);
        }
        *waiters -= 1;
        if reached() { Ok(()) } else { Err(AppendError::Poisoned) }
    }

    /// Called by the writer thread once per commit, in async mode also by the flusher thread once per sync, in order
    /// of registration; must be quick. When the log is
    /// poisoned already the listener is told so at once, and may be told twice.
    pub fn on_durable(&self, listener: Box<dyn Fn(Durable) + Send + Sync>) {
        let shared = &*self.shared;
        // Under the lock that `tell` reads with: who is poisoned after this look tells this listener too.
        let mut listeners = shared.listeners.write();
        if shared.poisoned.load(Ordering::SeqCst) {
            listener(Durable::Poisoned(self.durable()));
        }
        listeners.push(listener);
    }

    /// Bytes kept allocated for [`Space::Owed`], as far as the disk has them; while it has not, new work is refused.
    /// Any number; it costs open files and maps, one of each a segment, and no writing.
    pub fn set_reserve(&self, bytes: u64) {
        if self.shared.reserve.swap(bytes, Ordering::Relaxed) < bytes {
            self.shared.nudge_keeper();
        }
    }

    /// Bytes of records that appends of [`Space::New`] would be accepted with now, if nobody else appends; not less than
    /// one batch of common size. Or why none would be.
    pub fn room(&self) -> Result<u64, AppendError> {
        let reserve = self.shared.reserve.load(Ordering::Relaxed);
        self.shared.pending.lock().room(COMMON_BATCH_BYTES, reserve)
    }

    /// Durable records from `from` (a record's position, or the end of one, or [`CommitLog::start`]) on, each
    /// verified, owning the map. Ends at what is durable when it gets there; after an `Err` it ends. One that is
    /// below the start, or is overtaken by it, answers [`ReadError::Removed`].
    pub fn scan(&self, from: Position) -> impl Iterator<Item = Result<Record, ReadError>> + '_ {
        Scan::new(&self.shared.segments, from, Limit::Durable(&self.shared.durable))
    }

    /// The same as borrowed views, without allocation and without checking checksums again: for the dispatcher.
    /// Answers where to go on.
    pub fn visit(
        &self,
        from: Position,
        visitor: &mut dyn FnMut(RecordView<'_>) -> ControlFlow<()>,
    ) -> Result<Position, ReadError> {
        let durable = self.shared.durable.load(Ordering::Acquire);
        let mut cursor = Cursor::new(&self.shared.segments, from)?;
        while let Some((at, len)) = cursor.step(durable)? {
            if visitor(cursor.view(at, len)?).is_break() {
                break;
            }
        }
        Ok(cursor.position())
    }

    /// One durable record, verified.
    pub fn read(&self, position: Position) -> Result<Record, ReadError> {
        scan::read(&self.shared.segments, self.durable().0, position)
    }

    /// Where each segment that holds records begins and ends, oldest first.
    pub fn segments(&self) -> Vec<Range<Position>> {
        self.shared.segments.ranges()
    }

    /// Deletes the whole segments that end at or below `position`; never the one that is written, nor what is not
    /// on disk yet. Answers how many files went. First the new start is on disk, then the files go, oldest first:
    /// killed in between, the next open removes the rest. Readers that hold a record or stand in a removed segment
    /// go on in it. Blocks on the disk, but neither appends nor the writer wait for it.
    ///
    /// An error leaves the log usable (unless the checkpoint could not be synced, which poisons it): a later call
    /// removes what is left.
    pub fn remove_below(&self, position: Position) -> std::io::Result<usize> {
        // Held to the end: the folder stays locked until the last file is gone.
        let mut threads = self.threads.lock();
        match &mut *threads {
            Some(threads) => removal::remove_below(&self.shared, position.0, &mut threads.leftovers),
            None => Err(std::io::Error::other("the log is closed")),
        }
    }

    /// Takes no more appends and tells the listeners so, as after a failed write: something is so wrong that only a
    /// new start helps.
    pub(crate) fn poison(&self, what: &str, error: &std::io::Error) {
        self.shared.poison(what, error);
    }

    /// Writes and syncs all that was accepted, marks a clean shutdown, stops the threads, unlocks. Later appends
    /// are refused. A second call does nothing.
    pub fn close(&self) -> Result<(), AppendError> {
        let Some(threads) = self.threads.lock().take() else { return self.shared.poison_error() };
        self.shared.stop(threads.writer, threads.flusher, threads.keeper);
        self.shared.poison_error()?;
        let shared = &*self.shared;
        let last = keeper::sync_written(shared).and_then(|news| {
            shared.tell_synced(news);
            let synced = shared.synced.load(Ordering::Acquire);
            shared.checkpoint.lock().write_both(&shared.checkpoint(synced, true))
        });
        if let Err(error) = last {
            shared.poison("cannot close the log", &error);
        }
        shared.wake_waiters();
        shared.poison_error()
    }
}

impl Drop for CommitLog {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.get_mut().take() {
            self.shared.stop(threads.writer, threads.flusher, threads.keeper);
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    shared: &Arc<Shared>,
    body: impl FnOnce(Arc<Shared>) -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    let path = shared.storage.root().to_owned();
    let shared = Arc::clone(shared);
    let thread = crate::sync::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || body(shared)).map_err(|source| OpenError::Io { path, source })
}

impl Shared {
    /// Makes everything below `end` visible and tells of it.
    fn publish(&self, end: u64) {
        {
            let _order = self.waiters.lock();
            if self.poisoned.load(Ordering::SeqCst) {
                return;
            }
            self.durable.store(end, Ordering::SeqCst);
        }
        if self.flush != Durability::Sync {
            let mut nudge = self.flusher.lock();
            if !nudge.asked {
                nudge.asked = true;
                self.flusher_wake.notify_one();
            }
        }
        self.tell(Durable::Up(Position(end)));
        if self.keeper_idle.load(Ordering::SeqCst) {
            self.nudge_keeper();
        }
    }

    /// Tells what the flusher, or the close in async mode, brought to disk.
    fn tell_synced(&self, news: Option<u64>) {
        let Some(synced) = news else { return };
        // Under the lock of `publish` and `poison`, as there.
        let poisoned = {
            let _order = self.waiters.lock();
            self.poisoned.load(Ordering::SeqCst)
        };
        if !poisoned {
            self.tell(Durable::Synced(Position(synced)));
        }
    }

    fn tell(&self, durable: Durable) {
        self.wake_waiters();
        for listener in &*self.listeners.read() {
            listener(durable);
        }
    }

    /// The first failure: nothing that is not durable now ever will be, in this process.
    fn poison(&self, what: &str, error: &std::io::Error) {
        self.pending.lock().stopped = Some(Stopped::Poisoned);
        self.writer_wake.notify_one();
        {
            // Under the lock of `publish`: what listeners are told last, and only once, is that it is over.
            let _order = self.waiters.lock();
            if self.poisoned.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        tracing::error!(%error, "{what}; the log takes no more appends until a restart");
        self.tell(Durable::Poisoned(Position(self.durable.load(Ordering::SeqCst))));
    }

    fn poison_error(&self) -> Result<(), AppendError> {
        if self.poisoned.load(Ordering::SeqCst) { Err(AppendError::Poisoned) } else { Ok(()) }
    }

    fn hurry_flusher(&self) {
        let mut nudge = self.flusher.lock();
        (nudge.asked, nudge.hurry) = (true, true);
        self.flusher_wake.notify_one();
    }

    /// Those who wait look again.
    fn wake_waiters(&self) {
        if *self.waiters.lock() > 0 {
            self.waiters_wake.notify_all();
        }
    }

    fn nudge_keeper(&self) {
        self.keeper.lock().asked = true;
        self.keeper_wake.notify_one();
    }

    /// Lets the writer finish what was accepted, then stops the other threads.
    fn stop(&self, writer: JoinHandle<()>, flusher: Option<JoinHandle<()>>, keeper: JoinHandle<()>) {
        self.pending.lock().stopped.get_or_insert(Stopped::Closed);
        self.writer_wake.notify_one();
        // A thread that panicked has said so; the log is then as after a crash.
        let _ = writer.join();
        if let Some(flusher) = flusher {
            self.flusher.lock().stop = true;
            self.flusher_wake.notify_one();
            let _ = flusher.join();
        }
        self.keeper.lock().stop = true;
        self.keeper_wake.notify_one();
        let _ = keeper.join();
    }
}
