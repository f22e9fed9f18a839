//! CPU and memory of a process, from /proc.

use rustix::process::Pid;

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time since its start, threads that ended included, seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, bytes.
    pub(crate) memory_bytes: u64,
}

/// Reads it; none where the process has ended.
pub(crate) fn of(pid: Pid) -> Option<Usage> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero())).ok();
    Some(Usage {
        cpu_seconds: cpu_seconds(&read("stat")?)?,
        memory_bytes: memory_bytes(&read("statm")?)?,
    })
}

/// utime and stime of proc_pid_stat(5), fields 14 and 15, in clock ticks. The name in field 2 may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    let ticks_per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some((f64::from(user) + f64::from(system)) / f64::from(ticks_per_second))
}

/// Resident pages of proc_pid_statm(5).
fn memory_bytes(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_read_behind_a_name_with_spaces_and_brackets() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 5 1000 10";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(of(rustix::process::getpid()).unwrap().memory_bytes > 100_000);
    }
}
