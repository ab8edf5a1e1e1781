//! The acknowledgement checkpoint: progress of all groups in one file, replaced as a whole. The file
//! before it is kept. FORMAT.md, "Acknowledgement checkpoint". Waiting for the log is the caller's job.

use super::progress::{NO_DEADLINE, Progress, Track, TrackState};
use super::ranges::RangeSet;
use super::reports::Reports;
use crate::codec::{Reader, put_text, put_u64};
use crate::storage::Storage;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

const DIR: &str = "groups";
/// Followed by the version, two decimal digits.
const MAGIC: &[u8; 6] = b"TGACKS";
pub(crate) const VERSION: u32 = 1;
/// Magic, log id, length of the body; the checksum follows.
const HEAD: usize = 24;

/// Progress of one group.
#[derive(Debug, Default)]
pub(crate) struct GroupProgress {
    pub topic: String,
    pub group: String,
    pub queues: Vec<Progress>,
    /// How long it had neither received nor acknowledged; ms.
    pub idle_ms: u64,
}

/// What loading found.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// The newest one.
    Newest(Vec<GroupProgress>),
    /// The newest was damaged or missing; this is the one before.
    Older(Vec<GroupProgress>),
    /// None that can be read.
    Nothing {
        /// There were files, but all are damaged or of another log.
        refused: bool,
    },
    /// Written by a newer release, in this version of the format.
    Newer(PathBuf, u32),
}

fn newest() -> PathBuf {
    Path::new(DIR).join("acks")
}

fn older() -> PathBuf {
    Path::new(DIR).join("acks.old")
}

/// Replaces the checkpoint. After an error the one before still stands.
pub(crate) fn store(storage: &dyn Storage, body: &[u8], log_id: u64) -> io::Result<()> {
    let mut head = [0u8; HEAD + 4];
    head[..6].copy_from_slice(MAGIC);
    head[6..8].copy_from_slice(format!("{VERSION:02}").as_bytes());
    head[8..16].copy_from_slice(&log_id.to_le_bytes());
    head[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..HEAD]), body);
    head[HEAD..].copy_from_slice(&crc.to_le_bytes());
    crate::catalog::replace(
        storage,
        Path::new(DIR),
        &newest(),
        &older(),
        &[IoSlice::new(&head), IoSlice::new(body)],
    )
}

/// Reads the newest checkpoint of this log that is whole.
pub(crate) fn load(storage: &dyn Storage, log_id: u64) -> io::Result<Loaded> {
    let mut refused = false;
    for (path, is_newest) in [(newest(), true), (older(), false)] {
        let Some(bytes) = crate::catalog::read_file(storage, &path)? else { continue };
        match decode(&bytes, log_id) {
            Err(version) => return Ok(Loaded::Newer(path, version)),
            Ok(Some(groups)) if is_newest => return Ok(Loaded::Newest(groups)),
            Ok(Some(groups)) => return Ok(Loaded::Older(groups)),
            Ok(None) => {
                refused = true;
                tracing::warn!(file = %path.display(), "acknowledgement checkpoint is damaged or of another log");
            }
        }
    }
    Ok(Loaded::Nothing { refused })
}

/// `Err`: sound, of a newer version. Magic, log id, length and checksum keep their places in all versions.
pub(crate) fn decode(bytes: &[u8], log_id: u64) -> Result<Option<Vec<GroupProgress>>, u32> {
    let Some((version, body)) = checked(bytes, log_id) else { return Ok(None) };
    if version > VERSION {
        return Err(version);
    }
    Ok(decode_body(body))
}

/// Version and body of a checkpoint of this log whose checksum holds.
fn checked(bytes: &[u8], log_id: u64) -> Option<(u32, &[u8])> {
    let head = bytes.get(..HEAD)?;
    let body = bytes.get(HEAD + 4..)?;
    let mut fields = Reader(&head[8..]);
    if &head[..6] != MAGIC || fields.u64()? != log_id {
        return None;
    }
    let version = std::str::from_utf8(&head[6..8]).ok()?.parse().ok()?;
    let body = body.get(..usize::try_from(fields.u64()?).ok()?)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(head), body);
    (Reader(&bytes[HEAD..]).u32()? == crc).then_some((version, body))
}

pub(crate) fn decode_body(body: &[u8]) -> Option<Vec<GroupProgress>> {
    let mut reader = Reader(body);
    let groups = reader.u32()?;
    let mut groups: Vec<_> = (0..groups).map(|_| decode_group(&mut reader)).collect::<Option<_>>()?;
    for group in &mut groups {
        // Earlier releases did not write it.
        group.idle_ms = reader.u64().unwrap_or(0);
    }
    Some(groups)
}

fn decode_group(reader: &mut Reader<'_>) -> Option<GroupProgress> {
    let (topic, group) = (reader.text()?.to_owned(), reader.text()?.to_owned());
    let queues = reader.u32()?;
    let queues = (0..queues).map(|_| decode_progress(reader)).collect::<Option<_>>()?;
    Some(GroupProgress { topic, group, queues, idle_ms: 0 })
}

/// Starts the body of a checkpoint of so many groups.
pub(crate) fn begin(groups: u32) -> Vec<u8> {
    groups.to_le_bytes().to_vec()
}

/// Adds one group to the body.
pub(crate) fn encode_group(out: &mut Vec<u8>, topic: &str, group: &str, queues: &[Progress]) {
    for text in [topic, group] {
        put_text(out, text);
    }
    out.extend_from_slice(&(queues.len() as u32).to_le_bytes());
    for progress in queues {
        encode_progress(out, progress);
    }
}

/// After all groups, in their order: how long one was idle.
pub(crate) fn encode_idle(out: &mut Vec<u8>, idle_ms: u64) {
    put_u64(out, idle_ms);
}

fn encode_progress(out: &mut Vec<u8>, progress: &Progress) {
    for number in [progress.start, progress.floor, progress.next, u64::from(progress.truncated)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let (drops, deaths) = (progress.drop_reports.to_ranges(), progress.dead_reports.to_ranges());
    let sets = [&progress.settled, &progress.dropped, &progress.dead, &progress.skipped, &progress.dead_kept];
    for set in sets.into_iter().chain([&drops, &deaths]) {
        out.extend_from_slice(&(set.ranges() as u64).to_le_bytes());
        for (start, end) in set.iter() {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
    }
    out.extend_from_slice(&(progress.tracked.len() as u64).to_le_bytes());
    for (&offset, track) in &progress.tracked {
        // A lease does not outlive the process, the count of attempts does.
        let at_ms = if let TrackState::Waiting { at_ms } = track.state { at_ms } else { 0 };
        for number in [offset, u64::from(track.attempt), at_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn decode_progress(reader: &mut Reader<'_>) -> Option<Progress> {
    let mut progress = Progress::new(reader.u64()?);
    progress.floor = reader.u64()?;
    progress.next = reader.u64()?;
    progress.truncated = reader.u64()? != 0;
    progress.settled = ranges(reader)?;
    progress.dropped = ranges(reader)?;
    progress.dead = ranges(reader)?;
    progress.skipped = ranges(reader)?;
    progress.dead_kept = ranges(reader)?;
    progress.drop_reports = Reports::from_ranges(ranges(reader)?);
    progress.dead_reports = Reports::from_ranges(ranges(reader)?);
    for _ in 0..reader.u64()? {
        let (offset, attempt, at_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let state = TrackState::Waiting { at_ms };
        if progress.tracked.contains_key(&offset) {
            return None;
        }
        progress.track(offset, Track { attempt: attempt as u32, deadline_ms: NO_DEADLINE, state });
    }
    Some(progress)
}

fn ranges(reader: &mut Reader<'_>) -> Option<RangeSet> {
    let count = reader.u64()?;
    (0..count).map(|_| Some((reader.u64()?, reader.u64()?))).collect()
}
