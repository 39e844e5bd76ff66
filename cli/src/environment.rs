//! What the run ran on: read from /proc and the control group; what cannot be read is left out, not guessed.

use nearbench_core::report::Machine;
use std::fs;

/// CPU time that was asked for and not given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuPressure {
    throttled_us: u64,
    steal_ticks: u64,
    total_ticks: u64,
}

impl CpuPressure {
    /// Reads the counters as they stand.
    pub(crate) fn now() -> Self {
        let throttled_us = ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|text| {
                field(&text, "throttled_usec").or_else(|| field(&text, "throttled_time").map(|ns| ns / 1000))
            })
            .unwrap_or(0);
        let ticks: Vec<u64> = fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| {
                let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?.to_owned();
                Some(line.split_whitespace().filter_map(|tick| tick.parse().ok()).collect())
            })
            .unwrap_or_default();
        // user nice system idle iowait irq softirq steal; the guest times after them are contained in user and nice.
        Self {
            throttled_us,
            steal_ticks: ticks.get(7).copied().unwrap_or(0),
            total_ticks: ticks.iter().take(8).sum(),
        }
    }

    /// Milliseconds of throttling since `earlier`.
    pub(crate) fn throttled_ms_since(self, earlier: Self) -> f64 {
        self.throttled_us.saturating_sub(earlier.throttled_us) as f64 / 1000.0
    }

    /// Per cent of all CPU time that the hypervisor gave to others since `earlier`.
    pub(crate) fn steal_percent_since(self, earlier: Self) -> f64 {
        let total = self.total_ticks.saturating_sub(earlier.total_ticks);
        if total == 0 {
            return 0.0;
        }
        self.steal_ticks.saturating_sub(earlier.steal_ticks) as f64 * 100.0 / total as f64
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// The machine.
pub(crate) fn machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    Machine {
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        cpu_model: read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        memory_bytes: kibibytes(&read("/proc/meminfo"), "MemTotal:"),
        os: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
    }
}

/// The most memory that this process held at once, in bytes; 0 where the system does not say.
pub(crate) fn peak_rss_bytes() -> u64 {
    kibibytes(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:")
}

fn kibibytes(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
