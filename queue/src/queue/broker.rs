//! Everything behind the handle: the parts, and how they are put together when a queue is opened.
//!
//! Locks, always taken in this order: snapshots → ticking → appender → topics → one group → one of delays, deadlines, halves, producers,
//! wakers, keeping.

use super::append::Appender;
use super::dispatch::Dispatcher;
use super::retention::{Keeping, OwnerHold};
use super::snapshot::{Choice, Snapshots};
use super::topic::Topics;
use super::{Durable, OpenError, Policies, QueueOptions};
use crate::catalog::{self, Catalog};
use crate::group::checkpoint::{self, GroupProgress};
use crate::group::{Group, GroupConfig};
use crate::keys::{KeyIndex, Limits};
use crate::log::{CommitLog, LogOptions};
use crate::producer::Producers;
use crate::storage::Storage;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::timer::{Bell, DeadlineHeap, Delays};
use crate::transaction::Halves;
use crate::{Clock, Position};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

/// The parts of an open queue.
pub(super) struct Broker {
    pub(super) options: QueueOptions,
    pub(super) policies: Policies,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) log: CommitLog,
    pub(super) topics: Topics,
    pub(super) keys: KeyIndex,
    pub(super) appender: Mutex<Appender>,
    pub(super) delays: Mutex<Delays>,
    /// Delayed messages that were accepted and that `delays` does not know yet. Changed with the appender's lock, or
    /// with that of `delays`.
    pub(super) delays_coming: AtomicUsize,
    /// When the oldest pending delayed message is old enough to be carried; clock's Unix ms, or earlier.
    pub(super) carry_at_ms: AtomicU64,
    /// What the owner wants kept free; what delayed messages need comes on top.
    pub(super) owner_reserve: AtomicU64,
    /// The index has no space ahead: only owed work is accepted. It heals.
    pub(super) index_full: AtomicBool,
    pub(super) deadlines: Mutex<DeadlineHeap>,
    pub(super) halves: Mutex<Halves>,
    /// What committing all open ones takes in the log.
    pub(super) half_bytes: AtomicU64,
    /// The one producer that asked for checks last.
    pub(super) check_waker: Mutex<Option<Waker>>,
    pub(super) producers: Mutex<Producers>,
    /// Messages whose deadlines a new or reset group has still to be told.
    pub(super) catch_ups: Mutex<VecDeque<CatchUp>>,
    /// The one owner that asked last. Comparing wakers instead is no way to keep several apart: two of the
    /// same task need not be equal.
    pub(super) report_waker: Mutex<Option<Waker>>,
    /// Group whose reports are given first.
    pub(super) first_reporter: AtomicUsize,
    /// Everything below is in the index and the timers.
    pub(super) dispatched: Mutex<Position>,
    pub(super) dispatch_moved: Condvar,
    /// When the timers look again; clock's Unix ms.
    pub(super) planned_ms: AtomicU64,
    pub(super) ticking: Mutex<()>,
    pub(super) checkpointing: Mutex<()>,
    pub(super) acks_changed: AtomicBool,
    pub(super) catalog_changed: AtomicBool,
    pub(super) owner_hold: OwnerHold,
    /// Taken before all other locks, by whoever makes a snapshot or deletes.
    pub(super) snapshots: Mutex<Snapshots>,
    /// A snapshot is made when the dispatcher comes here.
    pub(super) next_snapshot: AtomicU64,
    /// What was found the last time.
    pub(super) keeping: Mutex<Keeping>,
    pub(super) bells: Arc<Bells>,
}

/// What the threads wait for; shared with the log's listener, which must not keep the broker alive.
#[derive(Default)]
pub(super) struct Bells {
    pub(super) dispatch: Bell,
    pub(super) timer: Bell,
    pub(super) checkpoint: Bell,
    /// Rung when a snapshot is due.
    pub(super) keeper: Bell,
    /// Rung when the key index has something to read or to write.
    pub(super) keys: Bell,
    /// Rung when more of the log is on disk.
    pub(super) synced: Bell,
    pub(super) stopping: AtomicBool,
    pub(super) poisoned: AtomicBool,
}

/// Messages `[next, end)` of one queue, whose deadlines have to be found.
pub(super) struct CatchUp {
    pub(super) topic: u32,
    /// `None`: all groups of the topic.
    pub(super) group: Option<Arc<Group>>,
    pub(super) queue: u32,
    pub(super) next: u64,
    pub(super) end: u64,
}

impl Bells {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring_all();
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn ring_all(&self) {
        self.dispatch.ring();
        self.timer.ring();
        self.checkpoint.ring();
        self.keeper.ring();
        self.keys.ring();
        self.synced.ring();
    }
}

impl Broker {
    /// Opens the log, then brings index, groups and timers up to its end. Starts no thread.
    pub(super) fn open(
        options: QueueOptions,
        policies: Policies,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Dispatcher), OpenError> {
        check(&options)?;
        let disk_low_bytes = options.disk_low_bytes.unwrap_or(options.segment_bytes);
        let disk_high_bytes = options.disk_high_bytes.unwrap_or(disk_low_bytes + options.segment_bytes);
        let log_options = LogOptions {
            segment_bytes: options.segment_bytes,
            flush: options.flush,
            pending_bytes_max: options.pending_bytes_max,
            disk_low_bytes,
            disk_high_bytes,
            salvage: false,
        };
        // 1 MiB, 50,000 messages, beside the usual segments.
        let topics = Topics::new(Arc::clone(&storage), options.segment_bytes / 64);
        let mut chosen = Choice::default();
        let log = CommitLog::open_trusting(Arc::clone(&storage), &log_options, &mut |log_id, start| {
            chosen = Choice::look(storage.as_ref(), &topics, log_id, start, Position(u64::MAX))?;
            Ok(chosen.from())
        })?;
        let keys = KeyIndex::open(
            Arc::clone(&storage),
            log.log_id(),
            Limits::default(),
            log.start(),
            log.recovered().end,
        )
        .map_err(|error| io_error(Path::new("keys"), error))?;
        let mut broker = Self {
            keys,
            topics,
            appender: Mutex::default(),
            delays: Mutex::default(),
            delays_coming: AtomicUsize::new(0),
            carry_at_ms: AtomicU64::new(0),
            owner_reserve: AtomicU64::new(0),
            index_full: AtomicBool::new(false),
            deadlines: Mutex::default(),
            halves: Mutex::default(),
            half_bytes: AtomicU64::new(0),
            check_waker: Mutex::default(),
            producers: Mutex::default(),
            catch_ups: Mutex::default(),
            report_waker: Mutex::default(),
            first_reporter: AtomicUsize::new(0),
            dispatched: Mutex::new(log.recovered().start),
            dispatch_moved: Condvar::new(),
            planned_ms: AtomicU64::new(0),
            ticking: Mutex::new(()),
            checkpointing: Mutex::new(()),
            acks_changed: AtomicBool::new(false),
            catalog_changed: AtomicBool::new(false),
            owner_hold: OwnerHold::default(),
            snapshots: Mutex::default(),
            next_snapshot: AtomicU64::new(u64::MAX),
            keeping: Mutex::default(),
            bells: Arc::default(),
            options,
            policies,
            clock,
            storage,
            log,
        };
        let dispatcher = broker.recover(chosen)?;
        broker.listen();
        Ok((broker, dispatcher))
    }

    fn recover(&mut self, chosen: Choice) -> Result<Dispatcher, OpenError> {
        self.load_catalog()?;
        self.load_checkpoint()?;
        let resumed = self.resume(chosen)?;
        let mut dispatcher = Dispatcher::new(resumed.from, true);
        loop {
            match self.dispatch(&mut dispatcher) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(io_error(Path::new("commitlog"), error.into())),
            }
        }
        dispatcher.recovered();
        self.settle_start(&resumed)?;
        for topic in self.topics.all() {
            let queues = topic.queues();
            topic.appended.store(0, Ordering::Relaxed);
            self.appender.get_mut().set_tails(&topic, &queues);
            for group in topic.groups() {
                let mut state = group.state.lock();
                state.grow(queues.len());
                for (progress, queue) in state.queues.iter_mut().zip(&queues) {
                    progress.clamp(queue.end());
                    progress.raise(queue.oldest());
                }
            }
        }
        self.find_deadlines(&resumed);
        Ok(dispatcher)
    }

    fn load_catalog(&self) -> Result<(), OpenError> {
        let catalog = match catalog::load(self.storage.as_ref()) {
            Ok(catalog::Loaded::Found(catalog)) => catalog,
            Ok(catalog::Loaded::Nothing) => Catalog::default(),
            Ok(catalog::Loaded::Damaged(file)) => {
                let what = "damaged, and so is the copy beside it; restore one of them, or delete both: topics are \
                            then found from the log, and groups without acknowledgements start from first";
                return Err(io_error(&file, io::Error::new(io::ErrorKind::InvalidData, what)));
            }
            Ok(catalog::Loaded::Newer(file, found)) => {
                return Err(self.newer(&file, found, catalog::VERSION));
            }
            Err(error) => return Err(io_error(Path::new("catalog"), error)),
        };
        for (name, entry) in catalog.topics {
            let (topic, _) = self.topics.put(&name, entry.queues).map_err(OpenError::Invalid)?;
            *topic.broadcasts.write() = entry.broadcasts;
            for (group, config) in entry.groups {
                topic.put_group(&group, || config).map_err(OpenError::Invalid)?;
            }
        }
        Ok(())
    }

    fn load_checkpoint(&self) -> Result<(), OpenError> {
        let loaded = checkpoint::load(self.storage.as_ref(), self.log.log_id())
            .map_err(|error| io_error(Path::new("groups"), error))?;
        let groups = match loaded {
            checkpoint::Loaded::Newer(file, found) => {
                return Err(self.newer(&file, found, checkpoint::VERSION));
            }
            checkpoint::Loaded::Newest(groups) => groups,
            checkpoint::Loaded::Older(groups) => {
                tracing::warn!("acknowledgements start from the older checkpoint; some messages come again");
                groups
            }
            checkpoint::Loaded::Nothing { refused } => {
                let groups = self.topics.all().iter().map(|topic| topic.groups().len()).sum::<usize>();
                if refused || groups > 0 {
                    tracing::warn!(
                        groups,
                        "no acknowledgement checkpoint; groups start where they were configured"
                    );
                }
                Vec::new()
            }
        };
        let now_ms = self.clock.now_ms();
        for group in self.topics.all().iter().flat_map(|topic| topic.groups()) {
            group.state.lock().active_ms = now_ms;
        }
        for GroupProgress { topic, group, queues, idle_ms } in groups {
            let (topic, _) = self.topics.put(&topic, queues.len() as u32).map_err(OpenError::Invalid)?;
            let (group, _) = topic.put_group(&group, GroupConfig::default).map_err(OpenError::Invalid)?;
            let mut state = group.state.lock();
            state.queues = queues;
            // Not by the time of day: while the process was down nobody could be active.
            state.active_ms = now_ms.saturating_sub(idle_ms);
        }
        Ok(())
    }

    fn newer(&self, file: &Path, found: u32, known: u32) -> OpenError {
        OpenError::NewerFormat { file: self.storage.root().join(file), found, known }
    }

    fn listen(&self) {
        let bells = Arc::clone(&self.bells);
        self.log.on_durable(Box::new(move |durable| match durable {
            Durable::Up(_) => {
                bells.dispatch.ring();
                bells.synced.ring();
            }
            Durable::Synced(_) => bells.synced.ring(),
            Durable::Poisoned(_) => {
                bells.poisoned.store(true, Ordering::Release);
                bells.ring_all();
            }
        }));
    }

    /// The timers look again at `at_ms` at the latest.
    pub(super) fn plan(&self, at_ms: u64) {
        if self.planned_ms.fetch_min(at_ms, Ordering::AcqRel) > at_ms {
            self.bells.timer.ring();
        }
    }

    pub(super) fn acks_changed(&self) {
        if !self.acks_changed.swap(true, Ordering::AcqRel) {
            self.bells.checkpoint.ring();
        }
    }

    pub(super) fn catalog_changed(&self) {
        self.catalog_changed.store(true, Ordering::Release);
        self.bells.checkpoint.ring();
    }
}

fn check(options: &QueueOptions) -> Result<(), OpenError> {
    if options.topic_queues == 0 || options.topic_queues > super::topic::QUEUES_MAX {
        return Err(OpenError::Invalid("topic_queues must be 1 to 1024"));
    }
    if options.attempts_max == 0 {
        return Err(OpenError::Invalid("attempts_max must be at least 1"));
    }
    Ok(())
}

pub(super) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_path_buf(), source }
}
