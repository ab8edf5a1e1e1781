//! The real disk.

use super::{Storage, StorageFile};
use rustix::fs::{FallocateFlags, fallocate, fdatasync, fsync, statvfs};
use rustix::io::{Errno, pwritev};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Buffers of one `pwritev` (Linux: `UIO_MAXIOV`).
const IO_SLICES_MAX: usize = 1024;
static ZEROS: [u8; 1 << 18] = [0; 1 << 18];

/// A folder on a real disk.
#[derive(Debug, Clone)]
pub struct DiskStorage {
    root: PathBuf,
}

impl DiskStorage {
    /// Uses `root`, creating it (and its parents) when missing.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }
}

impl Storage for DiskStorage {
    fn root(&self) -> &Path {
        &self.root
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let path = self.root.join(path);
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Arc::new(DiskFile { file }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.root.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = entries.map(|entry| Ok(entry?.file_name().into())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let path = self.root.join(dir);
        fs::create_dir_all(&path)?;
        fsync(File::open(&path)?)?;
        // The folder's own name is an entry of its parent.
        if let Some(parent) = path.parent().filter(|_| path != self.root) {
            fsync(File::open(parent)?)?;
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }
}

struct DiskFile {
    file: File,
}

impl DiskFile {
    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let part = ZEROS.len().min((range.end - at) as usize);
            write_all_at(&self.file, at, &[IoSlice::new(&ZEROS[..part])])?;
            at += part as u64;
        }
        Ok(())
    }
}

impl StorageFile for DiskFile {
    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        write_all_at(&self.file, offset, bufs)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let old = self.len()?;
        if len <= old {
            return self.file.set_len(len);
        }
        match fallocate(&self.file, FallocateFlags::empty(), old, len - old) {
            // A file system without it gives space only for what is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(old..len),
            done => Ok(done?),
        }
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        self.write_zeros(range)?;
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn file(&self) -> &File {
        &self.file
    }
}

/// All of `bufs` in as few calls as the system takes.
fn write_all_at(file: &File, mut offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
    for bufs in bufs.chunks(IO_SLICES_MAX) {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut done = 0;
        while done < total {
            let written = if done == 0 {
                pwritev(file, bufs, offset)
            } else {
                pwritev(file, &rest_of(bufs, done), offset + done as u64)
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        offset += total as u64;
    }
    Ok(())
}

/// `bufs` without its first `skip` bytes, after a short write.
fn rest_of<'a>(bufs: &'a [IoSlice<'_>], mut skip: usize) -> Vec<IoSlice<'a>> {
    let mut rest = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let cut = skip.min(buf.len());
        skip -= cut;
        if cut < buf.len() {
            rest.push(IoSlice::new(&buf[cut..]));
        }
    }
    rest
}
