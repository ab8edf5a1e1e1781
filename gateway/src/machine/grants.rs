//! What this machine grants the process. What cannot be found out is `None`, and judged by nobody.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;

/// Limits of the machine and of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// Files the process may open, and to what it may raise that itself. `None`: no limit.
    pub(super) open_files: Option<u64>,
    /// `vm.max_map_count`
    pub(super) maps: Option<u64>,
    /// `net.core.somaxconn`
    pub(super) backlog: Option<u64>,
    /// Free on the disk of the data folder, and the size of that disk, in bytes.
    pub(super) disk: Option<Disk>,
    /// Of the control group, else of the machine, in bytes.
    pub(super) memory: Option<u64>,
}

/// The disk of the data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// For this process.
    pub(super) free: u64,
    /// In all.
    pub(super) total: u64,
}

impl Grants {
    /// Of this machine, with `data` as the data folder; it need not be there yet.
    pub(crate) fn read(data: &Path) -> Self {
        Self {
            open_files: getrlimit(Resource::Nofile).maximum,
            maps: number("/proc/sys/vm/max_map_count"),
            backlog: number("/proc/sys/net/core/somaxconn"),
            disk: disk(data),
            memory: [group_memory(), machine_memory()].into_iter().flatten().min(),
        }
    }
}

/// Raises the soft limit of open files to the hard one. Answers the limit that holds now; `None`: none.
pub(crate) fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // A sandbox may forbid even that; then the soft one is what there is.
        Err(_) => limit.current,
    }
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn disk(data: &Path) -> Option<Disk> {
    let data = std::path::absolute(data).ok()?;
    let there = data.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(Disk { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
}

/// The least limit of the process's group and those above it.
fn group_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    // `0::/a/b` in version 2, `5:memory:/a/b` in version 1.
    let of = |prefix: &str| groups.lines().find_map(|line| line.split_once(prefix).map(|(_, path)| path));
    let (root, path, file) = match of(":memory:") {
        Some(path) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
        None => ("/sys/fs/cgroup", of("0::")?, "memory.max"),
    };
    let group = Path::new(root).join(path.trim_start_matches('/'));
    group.ancestors().take_while(|at| at.starts_with(root)).filter_map(|at| number(at.join(file))).min()
}

fn machine_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_its_limits() {
        let grants = Grants::read(Path::new("/tmp/not/there/yet"));
        assert!(grants.disk.is_some_and(|disk| disk.total >= disk.free && disk.total > 0), "{grants:?}");
        assert!(grants.memory.is_some_and(|bytes| bytes > 1 << 20), "{grants:?}");
        assert!(grants.maps.is_some() && grants.backlog.is_some(), "{grants:?}");
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
        let raised = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, raised);
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
    }
}
