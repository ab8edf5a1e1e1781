//! What is on the simulated disk, and what only the page cache shows: an undo log of everything not synced.

use super::PowerLoss;
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Writes are undone in units of this.
const SECTOR: u64 = 512;
/// Writes of one sector since the last sync that are told apart; later ones count as the last of these.
const VERSIONS_MAX: usize = 8;
/// Where removed and replaced files wait until their folder is synced.
const TRASH: &str = ".unsynced";

pub(super) type FileId = u64;
/// What a sector held on disk; `None` for zeros.
type Sector = Option<Box<[u8]>>;

pub(super) struct Disk {
    root: PathBuf,
    names: HashMap<PathBuf, FileId>,
    files: HashMap<FileId, Entry>,
    changes: Vec<Change>,
    next_id: FileId,
    writes: u64,
    pub(super) used: u64,
    pub(super) quota: Option<u64>,
}

struct Entry {
    path: PathBuf,
    file: File,
    len: u64,
    durable_len: u64,
    /// Sectors written since the last sync: what each held before every one of these writes. The first is what
    /// the disk surely has; write-back may have brought any later one there.
    dirty: BTreeMap<u64, Versions>,
    /// Sectors that a failed sync gave up: clean for the page cache, not on disk, and no later sync brings them
    /// there unless they are written again.
    lost: BTreeMap<u64, Sector>,
}

/// What a sector held before each write, with the number of that write.
type Versions = SmallVec<[(u64, Sector); 1]>;

/// A change of a folder that is not synced.
enum Change {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
    Removed { path: PathBuf, trash: PathBuf },
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Created(path) | Self::Removed { path, .. } | Self::Renamed { to: path, .. } => {
                path.parent()
            }
        }
    }
}

impl Disk {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            names: HashMap::new(),
            files: HashMap::new(),
            changes: Vec::new(),
            next_id: 0,
            writes: 0,
            used: used(root),
            quota: None,
        }
    }

    pub(super) fn path_of(&self, id: FileId) -> &Path {
        &self.files[&id].path
    }

    pub(super) fn free(&self) -> u64 {
        self.quota.map_or(u64::MAX, |quota| quota.saturating_sub(self.used))
    }

    pub(super) fn open(&mut self, path: &Path, create: bool) -> io::Result<(FileId, File)> {
        let full = self.root.join(path);
        let new = !full.exists();
        // A descriptor of its own for each open, as locks go by it.
        let open = || OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&full);
        let opened = open()?;
        if let Some(id) = self.names.get(path) {
            return Ok((*id, opened));
        }
        let file = open()?;
        let len = file.metadata()?.len();
        if new {
            self.changes.push(Change::Created(path.to_owned()));
        }
        self.next_id += 1;
        let id = self.next_id;
        self.names.insert(path.to_owned(), id);
        let entry = Entry {
            path: path.to_owned(),
            file,
            len,
            durable_len: len,
            dirty: BTreeMap::new(),
            lost: BTreeMap::new(),
        };
        self.files.insert(id, entry);
        Ok((id, opened))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = if self.root.join(to).exists() { Some(self.keep(to)?) } else { None };
        fs::rename(self.root.join(from), self.root.join(to))?;
        self.names.remove(to);
        self.renamed(from, to);
        self.changes.push(Change::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let len = fs::metadata(self.root.join(path))?.len();
        let trash = self.keep(path)?;
        fs::remove_file(self.root.join(path))?;
        self.names.remove(path);
        self.used = self.used.saturating_sub(len);
        self.changes.push(Change::Removed { path: path.to_owned(), trash });
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(self.root.join(dir))?;
        self.changes.retain(|change| change.folder() != Some(dir));
        Ok(())
    }

    pub(super) fn write(&mut self, id: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        self.grow(id, end)?;
        self.writes += 1;
        let number = self.writes;
        let entry = self.files.get_mut(&id).expect("ids are never taken back");
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            // Written again, so the next sync takes it to disk after all.
            let old = match entry.lost.remove(&sector) {
                Some(old) => old,
                None => read_sector(&entry.file, sector)?,
            };
            let versions = entry.dirty.entry(sector).or_default();
            if versions.len() < VERSIONS_MAX {
                versions.push((number, old));
            }
        }
        entry.file.write_all_at(bytes, offset)
    }

    pub(super) fn allocate(&mut self, id: FileId, len: u64) -> io::Result<()> {
        let present = self.files[&id].len;
        if len >= present {
            // New space is zeros whether it reaches the disk or not: nothing to undo but the length.
            self.grow(id, len)?;
            return self.files[&id].file.set_len(len);
        }
        self.writes += 1;
        let number = self.writes;
        let entry = self.files.get_mut(&id).expect("ids are never taken back");
        for sector in len / SECTOR..present.div_ceil(SECTOR) {
            let old = read_sector(&entry.file, sector)?;
            entry.dirty.entry(sector).or_insert_with(|| smallvec![(number, old)]);
        }
        entry.len = len;
        self.used = self.used.saturating_sub(present - len);
        entry.file.set_len(len)
    }

    fn grow(&mut self, id: FileId, len: u64) -> io::Result<()> {
        let entry = self.files.get_mut(&id).expect("ids are never taken back");
        let more = len.saturating_sub(entry.len);
        if more > 0 && self.quota.is_some_and(|quota| self.used + more > quota) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used += more;
        entry.len = entry.len.max(len);
        Ok(())
    }

    pub(super) fn sync(&mut self, id: FileId) {
        let entry = self.files.get_mut(&id).expect("ids are never taken back");
        entry.dirty.clear();
        entry.durable_len = entry.len;
    }

    pub(super) fn fail_sync(&mut self, id: FileId) {
        let entry = self.files.get_mut(&id).expect("ids are never taken back");
        for (sector, versions) in std::mem::take(&mut entry.dirty) {
            let (_, old) = versions.into_iter().next().expect("made with its first version");
            entry.lost.entry(sector).or_insert(old);
        }
    }

    /// Puts back what was not synced. A choice keeps any blocks, and the first so many changes of folders
    /// (a journal keeps those in order).
    pub(super) fn lose_power(&mut self, seed: u64, mode: PowerLoss) -> io::Result<()> {
        let mut random = SplitMix(seed);
        let mut files: Vec<_> = self.files.values_mut().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for entry in files {
            let group = match mode {
                PowerLoss::Everything => None,
                PowerLoss::Blocks(bytes) => Some((bytes / SECTOR).max(1)),
            };
            let dirty: Vec<_> = std::mem::take(&mut entry.dirty).into_iter().collect();
            // All sectors of a block went to disk at one instant: after that many writes of the file.
            for block in dirty.chunk_by(|a, b| group.is_some_and(|group| a.0 / group == b.0 / group)) {
                let mut upto = 0;
                if group.is_some() {
                    let mut writes: Vec<u64> = block
                        .iter()
                        .flat_map(|(_, versions)| versions.iter().map(|version| version.0))
                        .collect();
                    writes.sort_unstable();
                    writes.dedup();
                    let nth = random.next() as usize % (writes.len() + 1);
                    upto = nth.checked_sub(1).map_or(0, |nth| writes[nth]);
                }
                for (sector, versions) in block {
                    if let Some((_, old)) = versions.iter().find(|(write, _)| *write > upto) {
                        write_sector(&entry.file, *sector, old.as_deref())?;
                    }
                }
            }
            for (sector, old) in std::mem::take(&mut entry.lost) {
                write_sector(&entry.file, sector, old.as_deref())?;
            }
            let keeps_len = group.is_some() && entry.len > entry.durable_len && random.coin();
            let len = if keeps_len { entry.len } else { entry.durable_len };
            entry.file.set_len(len)?;
        }
        let keep = match mode {
            PowerLoss::Everything => 0,
            PowerLoss::Blocks(_) => random.next() as usize % (self.changes.len() + 1),
        };
        for change in self.changes.drain(keep..).rev() {
            match change {
                Change::Created(path) => fs::remove_file(self.root.join(path))?,
                Change::Renamed { from, to, replaced } => {
                    fs::rename(self.root.join(&to), self.root.join(&from))?;
                    if let Some(replaced) = replaced {
                        fs::rename(replaced, self.root.join(to))?;
                    }
                }
                Change::Removed { path, trash } => fs::rename(trash, self.root.join(path))?,
            }
        }
        let trash = self.root.join(TRASH);
        if trash.exists() {
            fs::remove_dir_all(trash)?;
        }
        let quota = self.quota;
        let next_id = self.next_id;
        *self = Self { next_id, quota, ..Self::new(&self.root) };
        Ok(())
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        if let Some(id) = self.names.remove(from) {
            self.names.insert(to.to_owned(), id);
            if let Some(entry) = self.files.get_mut(&id) {
                to.clone_into(&mut entry.path);
            }
        }
    }

    /// Another name for a file that is about to lose its own.
    fn keep(&mut self, path: &Path) -> io::Result<PathBuf> {
        let dir = self.root.join(TRASH);
        fs::create_dir_all(&dir)?;
        self.next_id += 1;
        let trash = dir.join(self.next_id.to_string());
        fs::hard_link(self.root.join(path), &trash)?;
        Ok(trash)
    }
}

fn used(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => used(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn read_sector(file: &File, sector: u64) -> io::Result<Sector> {
    let mut bytes = vec![0; SECTOR as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], sector * SECTOR + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    Ok(bytes.iter().any(|byte| *byte != 0).then(|| bytes.into_boxed_slice()))
}

fn write_sector(file: &File, sector: u64, bytes: Option<&[u8]>) -> io::Result<()> {
    let zeros = [0; SECTOR as usize];
    file.write_all_at(bytes.unwrap_or(&zeros), sector * SECTOR)
}

/// Sebastiano Vigna's generator: small, and a seed repeats a run.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }
}
