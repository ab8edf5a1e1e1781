//! `tidegate backup`: a consistent copy of a data folder, also of one that a gateway writes to.
//!
//! It grows under another name, `TO.partial`, and gets its own when it is whole, verified and on disk. So a folder of the
//! name that was asked for is a backup, whatever became of this process.

use super::{Failure, log, out};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tidegate_queue::log::{VerifyReport, verify};
use tidegate_queue::storage::DiskStorage;
use tidegate_queue::{Backup, Copied};

/// Snapshots of the ledger come and go while they are listed; each retry means that all that were there went.
const LIST_TRIES: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Data folder of a gateway, running or not
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The copy: a new folder, or an empty one; never an older backup
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Args { data, to } = args;
    let partial = partial_of(data, to)?;
    fs::create_dir(&partial).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Usage(format!(
            "{} is there: another backup is being made, or one did not finish; remove it, or choose another name",
            partial.display()
        )),
        _ => failed(&partial, &error),
    })?;
    let made = make(data, &partial).and_then(|made| {
        fs::rename(&partial, to).map_err(|error| failed(to, &error))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(parent)?;
        Ok(made)
    });
    let (copied, report) = made.inspect_err(|_| {
        // It made the folder, and a part of a copy is of no use. What cannot be removed keeps its telling name.
        let _ = fs::remove_dir_all(&partial);
    })?;
    out::say(format_args!(
        "copied {} to {}: {} files, {} bytes\nlog is sound: {} records, positions {} to {}",
        data.display(),
        to.display(),
        copied.files,
        copied.bytes,
        report.records,
        report.start,
        report.end
    ))
}

/// Where the copy grows; refuses what it must not touch.
fn partial_of(data: &Path, to: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = to.file_name() else {
        return Err(Failure::Usage(format!("--to {} names no folder", to.display())));
    };
    match fs::read_dir(to) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(Failure::Usage(format!(
                    "{} is not empty; nothing is overwritten: choose a new folder",
                    to.display()
                )));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(to, &error)),
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().map_err(|error| failed(parent, &error))?;
    if data.canonicalize().is_ok_and(|data| parent.starts_with(data)) {
        return Err(Failure::Usage(format!("{} lies in the data folder itself", to.display())));
    }
    let mut partial = name.to_owned();
    partial.push(".partial");
    Ok(to.with_file_name(partial))
}

fn make(data: &Path, partial: &Path) -> Result<(Copied, VerifyReport), Failure> {
    let storage = DiskStorage::new(partial).map_err(|error| failed(partial, &error))?;
    // Before anything else: what is removed from here on is still copied.
    let backup = Backup::begin(data, &storage).map_err(log::failure)?;
    let (mut files, mut bytes) = (0, 0);
    for path in own_files(data)? {
        let Some(len) = copy_file(&data.join(&path), &partial.join(&path))? else { continue };
        files += 1;
        bytes += len;
    }
    // The log is last: it holds what the snapshots rest on.
    let mut copied = backup.finish().map_err(log::failure)?;
    copied.files += files;
    copied.bytes += bytes;
    let report = verify(partial).map_err(log::failure)?;
    if !report.is_sound() || report.end != copied.log.end {
        return Err(Failure::No(format!(
            "the copy does not read back as it was written; is the disk under {} sound?\n{report}",
            partial.display()
        )));
    }
    Ok((copied, report))
}

/// What the gateway keeps beside the queue: its id, and snapshots of the ledger.
fn own_files(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = data.join("ledger");
    let mut files = vec![PathBuf::from("gateway.id")];
    for _ in 0..LIST_TRIES {
        let names: Vec<PathBuf> = match fs::read_dir(&folder) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().into()))
                .collect::<io::Result<_>>()
                .map_err(|error| failed(&folder, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(&folder, &error)),
        };
        let snapshots: Vec<PathBuf> =
            names.into_iter().filter(|name| name.extension().is_some_and(|it| it == "snapshot")).collect();
        // The newest one goes only when a newer one has come.
        let newest = snapshots.iter().max();
        if newest.is_none_or(|newest| folder.join(newest).exists()) {
            files.extend(snapshots.into_iter().map(|name| Path::new("ledger").join(name)));
            return Ok(files);
        }
    }
    Err(Failure::start("snapshots of the ledger come and go too fast to be copied; try again"))
}

/// A file that is replaced or removed as a whole, never changed. `None`: it is not there, or is there no more.
fn copy_file(from: &Path, to: &Path) -> Result<Option<u64>, Failure> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(from, &error)),
    };
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut write = || {
        fs::create_dir_all(folder)?;
        let mut copy = File::create(to)?;
        let bytes = io::copy(&mut source, &mut copy)?;
        copy.flush()?;
        copy.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(bytes)
    };
    write().map(Some).map_err(|error: io::Error| failed(to, &error))
}

fn sync_folder(folder: &Path) -> Result<(), Failure> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Start(format!("{}: {error}; there is no backup", path.display()))
}
