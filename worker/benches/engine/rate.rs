//! How fast something goes, and how much that varies.

use std::time::Instant;

/// How fast something went.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) per_core: f64,
}

impl Rate {
    /// The rate at which `work` does `count` things in this process.
    pub(crate) fn of(count: u64, work: impl FnOnce()) -> Self {
        let started = Started::now();
        work();
        started.ended(count)
    }

    /// The same of what waits.
    pub(crate) async fn of_async(count: u64, work: impl Future<Output = ()>) -> Self {
        let started = Started::now();
        work.await;
        started.ended(count)
    }
}

struct Started(Instant, f64);

impl Started {
    fn now() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    fn ended(&self, count: u64) -> Rate {
        let (seconds, cpu) = (self.0.elapsed().as_secs_f64(), cpu_seconds() - self.1);
        Rate { per_second: count as f64 / seconds, per_core: count as f64 / cpu }
    }
}

/// The CPU time of this process so far, of user and system, in seconds (proc_pid_stat(5), fields 14 and 15; a tick is
/// 10 ms on every Linux that Rust's std runs on).
pub(crate) fn cpu_seconds() -> f64 {
    cpu_seconds_of("self")
}

/// The same of another process.
pub(crate) fn cpu_seconds_of(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Median and spread.
pub(crate) fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} (from {low:.digits$} to {high:.digits$})", values[values.len() / 2])
}
