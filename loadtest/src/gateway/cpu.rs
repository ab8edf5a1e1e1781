//! Processor time of a process, user and system, from `/proc`.

use std::time::Duration;

/// Time used so far by a live process; `None` when it is gone or `/proc` does not tell.
pub(super) fn used(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = ticks(&stat)?;
    let per_s = rustix::param::clock_ticks_per_second();
    Some(Duration::from_micros(ticks * 1_000_000 / per_s.max(1)))
}

/// Fields 14 (`utime`) and 15 (`stime`) of `proc_pid_stat(5)`. The name in field 2 may hold blanks and brackets:
/// counting begins after its last bracket.
fn ticks(stat: &str) -> Option<u64> {
    let mut after_name = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: u64 = after_name.nth(11)?.parse().ok()?;
    let system: u64 = after_name.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 0 0";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn this_process_has_used_some() {
        let spin = (0..50_000_000u64).fold(0u64, |sum, x| std::hint::black_box(sum ^ x));
        assert!(used(std::process::id()).unwrap() > Duration::ZERO, "{spin}");
    }
}
