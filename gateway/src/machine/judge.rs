//! Needs and grants side by side.

use super::grants::Disk;
use super::{Grants, Needs};

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Name of the limit.
    pub(crate) what: &'static str,
    /// What the machine grants, for people.
    pub(crate) granted: String,
    /// What the configuration can need, for people.
    pub(crate) needed: String,
    /// What it means.
    pub(crate) verdict: Verdict,
}

/// Whether a limit suffices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does.
    Good,
    /// It may not; what happens then, and what to set.
    Low(String),
    /// It cannot; what to set.
    Fails(String),
}

impl Finding {
    /// In one line for the log.
    pub(crate) fn line(&self) -> String {
        let Self { what, granted, needed, verdict } = self;
        let why = match verdict {
            Verdict::Good => "",
            Verdict::Low(why) | Verdict::Fails(why) => why,
        };
        format!("{what}: {granted} granted, {needed} needed; {why}")
    }
}

/// Every limit that can be found out.
pub(crate) fn judge(needs: &Needs, grants: &Grants) -> Vec<Finding> {
    // A log never outgrows its disk, and rarely fills it.
    let segments = needs.segments(grants.disk.map_or(0, |disk| disk.total));
    [
        grants.open_files.map(|granted| open_files(needs, granted, segments)),
        grants.maps.map(|granted| maps(needs, granted, segments)),
        grants.backlog.map(|granted| backlog(needs, granted)),
        grants.disk.map(|disk| free_disk(needs, disk)),
        grants.memory.map(|granted| memory(needs, granted)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn open_files(needs: &Needs, granted: u64, segments: u64) -> Finding {
    let needed = needs.files(segments);
    let set = format!(
        "set LimitNOFILE={needed} in the systemd unit (or `ulimit -n {needed}` before the start, `--ulimit \
         nofile={needed}` of a container), or lower listen.connections_max: each connection of the two listeners is a file"
    );
    let verdict = if granted < needs.files_least {
        Verdict::Fails(set)
    } else if granted < needed {
        Verdict::Low(format!("beyond it connections are not accepted and the log cannot grow; {set}"))
    } else {
        Verdict::Good
    };
    Finding { what: "open files", granted: granted.to_string(), needed: needed.to_string(), verdict }
}

fn maps(needs: &Needs, granted: u64, segments: u64) -> Finding {
    let needed = needs.maps(segments);
    let verdict = if granted < needed {
        Verdict::Low(format!(
            "a log that fills the disk cannot be mapped; `sysctl -w vm.max_map_count={needed}` and the same in \
             /etc/sysctl.d, or raise data.segment_bytes"
        ))
    } else {
        Verdict::Good
    };
    Finding { what: "vm.max_map_count", granted: granted.to_string(), needed: needed.to_string(), verdict }
}

fn backlog(needs: &Needs, granted: u64) -> Finding {
    let needed = needs.backlog;
    let verdict = if granted < needed {
        Verdict::Low(format!(
            "a rush of new connections is turned away by the kernel; `sysctl -w net.core.somaxconn={needed}` and \
             the same in /etc/sysctl.d"
        ))
    } else {
        Verdict::Good
    };
    Finding { what: "net.core.somaxconn", granted: granted.to_string(), needed: needed.to_string(), verdict }
}

fn free_disk(needs: &Needs, disk: Disk) -> Finding {
    // New orders are refused below one segment; one is written and one is prepared, and one more is some room to sell.
    let needed = 4 * needs.segment_bytes;
    let verdict = if disk.free < needed {
        Verdict::Low(
            "new orders are refused with 503 while it is nearly full; free some of the disk of data.dir, or lower \
             data.segment_bytes"
                .to_owned(),
        )
    } else {
        Verdict::Good
    };
    Finding { what: "free disk", granted: mebibytes(disk.free), needed: mebibytes(needed), verdict }
}

fn memory(needs: &Needs, granted: u64) -> Finding {
    let verdict = if granted < needs.memory_bytes {
        Verdict::Low(
            "at all of its bounds the gateway would be killed for its memory, tickets not counted; give it more, or \
             lower listen.connections_max, admission.quota.clients_max, admission.pass.spent_max, queue.delayed_max"
                .to_owned(),
        )
    } else {
        Verdict::Good
    };
    let needed = mebibytes(needs.memory_bytes);
    Finding { what: "memory", granted: mebibytes(granted), needed, verdict }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const GIB: u64 = 1 << 30;

    fn needs(text: &str) -> Needs {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        std::fs::write(&file, text).unwrap();
        Needs::of(&Config::load(Some(&file), std::iter::empty()).unwrap())
    }

    fn ample() -> Grants {
        Grants {
            open_files: Some(1_048_576),
            maps: Some(65_530),
            backlog: Some(4_096),
            disk: Some(Disk { free: 100 * GIB, total: 200 * GIB }),
            memory: Some(8 * GIB),
        }
    }

    /// The findings that are not good, by name and verdict.
    fn low(needs: &Needs, grants: &Grants) -> Vec<(&'static str, Verdict)> {
        let findings = judge(needs, grants).into_iter();
        findings
            .filter(|found| found.verdict != Verdict::Good)
            .map(|found| (found.what, found.verdict))
            .collect()
    }

    #[test]
    fn an_ample_machine_is_good_for_the_defaults() {
        let needs = needs("");
        assert_eq!(low(&needs, &ample()), []);
        assert_eq!(judge(&needs, &ample()).len(), 5, "every limit is told");
        assert_eq!(judge(&needs, &Grants::default()), [], "what is not known is not judged");
    }

    #[test]
    fn each_limit_that_is_too_low_is_told_with_what_to_set() {
        let needs = needs("[listen]\nthreads = 2\n");
        let one = |grants: Grants| {
            let low = low(&needs, &grants);
            let [(what, Verdict::Low(why))] = &low[..] else { panic!("{low:?}") };
            (*what, why.clone())
        };
        let (what, why) = one(Grants { open_files: Some(20_000), ..ample() });
        assert_eq!(what, "open files");
        // Two listeners with 20,000 connections each; 200 GiB are 3,202 segments of 64 MiB.
        assert!(why.contains("LimitNOFILE=46684") && why.contains("listen.connections_max"), "{why}");
        let (what, why) = one(Grants { backlog: Some(128), ..ample() });
        assert!(what == "net.core.somaxconn" && why.contains("sysctl -w net.core.somaxconn=4096"), "{why}");
        let (what, why) = one(Grants { maps: Some(2_000), ..ample() });
        assert!(what == "vm.max_map_count" && why.contains("sysctl -w vm.max_map_count=4226"), "{why}");
        let disk = Some(Disk { free: 200 << 20, total: 200 * GIB });
        let (what, why) = one(Grants { disk, ..ample() });
        assert!(what == "free disk" && why.contains("data.dir"), "{why}");
        let (what, why) = one(Grants { memory: Some(GIB / 2), ..ample() });
        assert!(what == "memory" && why.contains("connections_max"), "{why}");
    }

    #[test]
    fn only_what_cannot_work_at_all_fails() {
        let needs = needs("[listen]\nthreads = 2\n");
        let poor = Grants {
            open_files: Some(300),
            maps: Some(100),
            backlog: Some(1),
            disk: Some(Disk { free: 0, total: GIB }),
            memory: Some(1 << 20),
        };
        assert!(low(&needs, &poor).iter().all(|(_, verdict)| matches!(verdict, Verdict::Low(_))));
        let none = Grants { open_files: Some(32), ..ample() };
        assert!(matches!(&low(&needs, &none)[..], [("open files", Verdict::Fails(_))]));
    }

    #[test]
    fn needs_follow_the_configuration() {
        let grants = ample();
        assert_eq!(low(&needs("[listen]\nconnections_max = 600000\n"), &grants).len(), 2, "files, memory");
        let small = low(&needs("[data]\nsegment_bytes = 65536\n"), &grants);
        let names: Vec<&str> = small.iter().map(|(what, _)| *what).collect();
        assert_eq!(names, ["open files", "vm.max_map_count"], "a large disk in small files");
        let quotas = "[admission.quota]\nbuyer_per_s = 1\nip_per_s = 1\nclients_max = 100000000\n";
        assert_eq!(low(&needs(quotas), &grants).len(), 1, "memory");
    }
}
