//! The process's own figures, under the names that every Prometheus exporter has for them.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// What the kernel says of this process; a figure that it does not say is left out.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Memory in RAM, in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Descriptors that are open.
    pub(super) open_fds: Option<usize>,
    /// How many may be.
    pub(super) max_fds: Option<u64>,
    /// Processor time since the start, in seconds.
    pub(super) cpu_seconds: f64,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            resident_bytes: kib.map(|kib| kib * 1024),
            // Less the one that lists them.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1)),
            // Asked for in this way, as the unit's filter of system calls may let no other pass.
            max_fds: limits.lines().find_map(|line| {
                line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()
            }),
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        }
    }
}
