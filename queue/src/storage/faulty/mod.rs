//! A disk that fails as disks do, for tests: over real files in a folder, so that maps work.
//!
//! Fails chosen calls, runs full, holds syncs back, loses power. What a sync has not covered, or a failed sync has
//! given up, is undone by [`FaultyStorage::power_loss`]; the page cache (the file as readers see it) shows it
//! until then. Nothing here is ever really synced: that is what makes it quick.

mod disk;

use super::{Storage, StorageFile};
use disk::{Disk, FileId};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a power loss leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Nothing.
    Everything,
    /// Any blocks of this many bytes (a multiple of 512), of any write, in any order; a block that was written
    /// several times since the last sync is as any of these writes left it.
    Blocks(u64),
}

/// Which calls to count, to fail one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultyCall {
    /// `write_at`; the failing one writes nothing.
    Write,
    /// `write_at`; the failing one writes its first half.
    ShortWrite,
    /// `sync` of a file.
    Sync,
    /// `allocate`; the failing one changes nothing.
    Allocate,
    /// `fill`; the failing one changes nothing.
    Fill,
    /// `rename`, by the new name.
    Rename,
    /// `remove`.
    Remove,
    /// `sync_dir`.
    SyncDir,
}

/// The storage and its controls. It outlives the processes that a test simulates: [`Self::as_storage`] gives each a
/// handle, and [`Self::kill`] or [`Self::power_loss`] ends all of those given so far.
pub struct FaultyStorage {
    root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    disk: Disk,
    /// Handles of an earlier number belong to a dead process.
    process: u64,
    faults: Vec<Fault>,
    calls: u64,
    /// Times that somebody asked how much is free.
    looks: u64,
    fills: u64,
    hold_fills: bool,
    kill_at: Option<u64>,
    /// Syncs of files whose path starts so are held.
    hold_syncs: Option<String>,
    /// How many syncs were held since then, and how many of them may pass.
    held_syncs: u64,
    passed_syncs: u64,
}

struct Fault {
    call: FaultyCall,
    path_prefix: String,
    countdown: u64,
    /// `None`: the process is killed instead.
    kind: Option<io::ErrorKind>,
}

impl FaultyStorage {
    /// Over the folder `dir`, created when missing. What is in it counts as synced.
    pub fn new(dir: impl Into<PathBuf>) -> Arc<Self> {
        let root = dir.into();
        std::fs::create_dir_all(&root).expect("a folder for the test");
        let state = State {
            disk: Disk::new(&root),
            process: 0,
            faults: Vec::new(),
            calls: 0,
            looks: 0,
            fills: 0,
            hold_fills: false,
            kill_at: None,
            hold_syncs: None,
            held_syncs: 0,
            passed_syncs: 0,
        };
        Arc::new(Self { root, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// A handle for one simulated process.
    pub fn as_storage(self: &Arc<Self>) -> Arc<dyn Storage> {
        let process = self.state.lock().process;
        Arc::new(Handle { storage: Arc::clone(self), process })
    }

    /// Fails the `nth` (from 1, from now) such call on a file whose path starts with `path_prefix`, once.
    pub fn fail(&self, call: FaultyCall, path_prefix: &str, nth: u64, kind: io::ErrorKind) {
        let path_prefix = path_prefix.to_owned();
        self.state.lock().faults.push(Fault { call, path_prefix, countdown: nth, kind: Some(kind) });
    }

    /// Takes back all failures that have not come yet.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Kills the process before the `nth` (from 1, from now) such call on a path that starts with `path_prefix`;
    /// in the middle of it for [`FaultyCall::ShortWrite`].
    pub fn kill_at(&self, call: FaultyCall, path_prefix: &str, nth: u64) {
        let path_prefix = path_prefix.to_owned();
        self.state.lock().faults.push(Fault { call, path_prefix, countdown: nth, kind: None });
    }

    /// How many processes have ended.
    pub fn ended(&self) -> u64 {
        self.state.lock().process
    }

    /// Bytes that all files together may have; growing beyond is `StorageFull`. `None`: no limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.state.lock().disk.quota = bytes;
    }

    /// Bytes that all files have now.
    pub fn used(&self) -> u64 {
        self.state.lock().disk.used
    }

    /// From now on, all syncs of files wait until [`Self::release_syncs`].
    pub fn hold_syncs(&self) {
        self.hold_syncs_of("");
    }

    /// The same for files whose path starts with `path_prefix`.
    pub fn hold_syncs_of(&self, path_prefix: &str) {
        let mut state = self.state.lock();
        state.hold_syncs = Some(path_prefix.to_owned());
        (state.held_syncs, state.passed_syncs) = (0, 0);
    }

    /// Lets one held sync go on.
    pub fn pass_sync(&self) {
        self.state.lock().passed_syncs += 1;
        self.changed.notify_all();
    }

    /// Lets all held syncs go on, and later ones too.
    pub fn release_syncs(&self) {
        self.state.lock().hold_syncs = None;
        self.changed.notify_all();
    }

    /// Waits until the `nth` sync (from 1, since the hold began) is held; false when none came within ten seconds.
    pub fn wait_for_held_sync(&self, nth: u64) -> bool {
        let mut state = self.state.lock();
        let waited = self.changed.wait_while_for(&mut state, |s| s.held_syncs < nth, Duration::from_secs(10));
        !waited.timed_out()
    }

    /// Calls so far that change something.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// From now on, fills wait (if `hold`) or no longer do. Answers how many there were.
    pub fn hold_fills(&self, hold: bool) -> u64 {
        let mut state = self.state.lock();
        state.hold_fills = hold;
        self.changed.notify_all();
        state.fills
    }

    /// Fills so far, those that wait included.
    pub fn fills(&self) -> u64 {
        self.state.lock().fills
    }

    /// How often it was asked so far how much is free.
    pub fn looks(&self) -> u64 {
        self.state.lock().looks
    }

    /// The process is killed before its `nth` (from 1, from now) call that changes something.
    pub fn kill_at_call(&self, nth: u64) {
        let mut state = self.state.lock();
        state.kill_at = Some(state.calls + nth);
    }

    /// Kills the process: every further call through its handles fails. The page cache stays.
    pub fn kill(&self) {
        self.state.lock().end_process();
        self.changed.notify_all();
    }

    /// Kills the process and loses what was not synced: all of it, or a choice by `seed`. Files that were never
    /// synced at their present length may become shorter: nothing may read old maps of them.
    pub fn power_loss(&self, seed: u64, mode: PowerLoss) {
        let mut state = self.state.lock();
        state.end_process();
        state.disk.lose_power(seed, mode).expect("undoing writes in the test's folder");
        self.changed.notify_all();
    }
}

impl State {
    fn end_process(&mut self) {
        self.process += 1;
        self.kill_at = None;
        self.hold_syncs = None;
        self.hold_fills = false;
        self.faults.clear();
    }

    /// Counts a call; answers how it fails.
    fn fault(&mut self, calls: &[FaultyCall], path: &Path) -> Option<(FaultyCall, Option<io::ErrorKind>)> {
        if self.faults.is_empty() {
            return None;
        }
        let path = path.to_string_lossy();
        let mut hit = None;
        self.faults.retain_mut(|fault| {
            if !calls.contains(&fault.call) || !path.starts_with(&fault.path_prefix) {
                return true;
            }
            fault.countdown -= 1;
            if fault.countdown == 0 {
                hit = Some((fault.call, fault.kind));
            }
            fault.countdown > 0
        });
        hit
    }

    /// The same for a file that is open.
    fn fault_of(&mut self, calls: &[FaultyCall], id: FileId) -> Option<(FaultyCall, Option<io::ErrorKind>)> {
        let path = self.disk.path_of(id).to_owned();
        self.fault(calls, &path)
    }
}

/// What one process sees.
struct Handle {
    storage: Arc<FaultyStorage>,
    process: u64,
}

impl Handle {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.storage.state.lock();
        if state.process == self.process { Ok(state) } else { Err(dead()) }
    }

    /// Before a call that changes something.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        state.calls += 1;
        if state.kill_at.is_some_and(|at| state.calls >= at) {
            state.end_process();
            self.storage.changed.notify_all();
            return Err(dead());
        }
        Ok(state)
    }

    /// The error of a call that fails, after killing the process when that is what was asked for.
    fn failed(&self, state: &mut State, kind: Option<io::ErrorKind>) -> io::Error {
        if let Some(kind) = kind {
            return kind.into();
        }
        state.end_process();
        self.storage.changed.notify_all();
        dead()
    }

    /// Before a call on a path.
    fn change_at(&self, call: FaultyCall, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.change()?;
        match state.fault(&[call], path) {
            Some((_, kind)) => Err(self.failed(&mut state, kind)),
            None => Ok(state),
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("this process was killed by the test")
}

impl Storage for Handle {
    fn root(&self) -> &Path {
        &self.storage.root
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let exists = self.storage.root.join(path).exists();
        let mut state = if exists { self.alive()? } else { self.change()? };
        let (id, file) = state.disk.open(path, create)?;
        drop(state);
        let handle = Handle { storage: Arc::clone(&self.storage), process: self.process };
        Ok(Arc::new(FaultyFile { handle, id, file }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        drop(self.alive()?);
        super::DiskStorage::new(&self.storage.root)?.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_at(FaultyCall::Rename, to)?.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change_at(FaultyCall::Remove, path)?.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change_at(FaultyCall::SyncDir, dir)?.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.alive()?;
        state.looks += 1;
        Ok(state.disk.free())
    }
}

struct FaultyFile {
    handle: Handle,
    id: FileId,
    file: File,
}

impl StorageFile for FaultyFile {
    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let mut state = self.handle.change()?;
        let fault = state.fault_of(&[FaultyCall::Write, FaultyCall::ShortWrite], self.id);
        match fault {
            Some((FaultyCall::Write, kind)) => return Err(self.handle.failed(&mut state, kind)),
            Some(_) => bytes.truncate(bytes.len() / 2),
            None => {}
        }
        state.disk.write(self.id, offset, &bytes)?;
        fault.map_or(Ok(()), |(_, kind)| Err(self.handle.failed(&mut state, kind)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.handle.change()?;
        let held = state
            .hold_syncs
            .as_ref()
            .is_some_and(|prefix| state.disk.path_of(self.id).to_string_lossy().starts_with(prefix.as_str()));
        if held {
            state.held_syncs += 1;
            let number = state.held_syncs;
            self.handle.storage.changed.notify_all();
            while state.hold_syncs.is_some()
                && state.passed_syncs < number
                && state.process == self.handle.process
            {
                self.handle.storage.changed.wait(&mut state);
            }
        }
        if state.process != self.handle.process {
            return Err(dead());
        }
        if let Some((_, kind)) = state.fault_of(&[FaultyCall::Sync], self.id) {
            if kind.is_some() {
                state.disk.fail_sync(self.id);
            }
            return Err(self.handle.failed(&mut state, kind));
        }
        state.disk.sync(self.id);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.handle.change()?;
        // Growing a file writes zeros.
        let calls = [FaultyCall::Allocate, FaultyCall::Write, FaultyCall::ShortWrite];
        if let Some((_, kind)) = state.fault_of(&calls, self.id) {
            return Err(self.handle.failed(&mut state, kind));
        }
        state.disk.allocate(self.id, len)
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = self.handle.change()?;
        if let Some((_, kind)) = state.fault_of(&[FaultyCall::Fill], self.id) {
            return Err(self.handle.failed(&mut state, kind));
        }
        state.fills += 1;
        self.handle.storage.changed.notify_all();
        while state.hold_fills && state.process == self.handle.process {
            self.handle.storage.changed.wait(&mut state);
        }
        drop(state);
        // Zeros over zeros change nothing, so none are written; over anything else they would be a disaster.
        let mut present = vec![0; (range.end - range.start) as usize];
        self.file.read_exact_at(&mut present, range.start)?;
        if present.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("zeros would have been written over something"));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        drop(self.handle.alive()?);
        Ok(self.file.metadata()?.len())
    }

    fn file(&self) -> &File {
        &self.file
    }
}
