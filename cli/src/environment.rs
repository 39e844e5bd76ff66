//! What the run ran on: read from /proc and the control group; what cannot be read is left out, not guessed.

use nearbench_core::report::Machine;
use std::fs;

/// CPU time that was asked for and not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuPressure {
    throttled_us: Option<u64>,
    /// Stolen and all ticks of all CPUs.
    ticks: Option<(u64, u64)>,
}

impl CpuPressure {
    /// Reads the counters as they stand.
    pub(crate) fn now() -> Self {
        let throttled_us = ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|text| {
                field(&text, "throttled_usec").or_else(|| field(&text, "throttled_time").map(|ns| ns / 1000))
            });
        let ticks = fs::read_to_string("/proc/stat").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
            // user nice system idle iowait irq softirq steal; the guest times after them are in user and nice.
            let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|tick| tick.parse().ok()).collect();
            Some((*ticks.get(7)?, ticks.iter().sum()))
        });
        Self { throttled_us, ticks }
    }

    /// Milliseconds of throttling since `earlier`; `None` where the system does not say.
    pub(crate) fn throttled_ms_since(self, earlier: Self) -> Option<u64> {
        Some(self.throttled_us?.saturating_sub(earlier.throttled_us?) / 1000)
    }

    /// Per cent of all CPU time that the hypervisor gave to others since `earlier`.
    pub(crate) fn steal_percent_since(self, earlier: Self) -> Option<f64> {
        let ((steal, total), (steal_before, total_before)) = (self.ticks?, earlier.ticks?);
        let total = total.checked_sub(total_before).filter(|total| *total > 0)?;
        Some(steal.saturating_sub(steal_before) as f64 * 100.0 / total as f64)
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
        memory_bytes: kibibytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0),
        os: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
    }
}

/// The most memory that this process held at once, in bytes; `None` where the system does not say.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:")
}

/// What the process used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    /// When it began, as a Unix time.
    pub(crate) started_unix_s: Option<f64>,
}

/// Ticks of a second in /proc: `USER_HZ`, which is the same on every Linux.
const TICKS: f64 = 100.0;

/// Reads it.
pub(crate) fn usage() -> Usage {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // Fields from the third on: the second, the program's name, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    let booted = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    Usage {
        cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, system)| (user + system) / TICKS),
        resident_bytes: kibibytes(&read("/proc/self/status"), "VmRSS:"),
        started_unix_s: booted.zip(ticks(22)).map(|(booted, since)| booted + since / TICKS),
    }
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let kibibytes: u64 =
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())?;
    Some(kibibytes * 1024)
}
