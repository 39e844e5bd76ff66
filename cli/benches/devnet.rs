//! What `nearbench run` takes of a machine while a chain in a process of its own takes its load over HTTP: transfers for
//! each second of CPU time, and memory. Each repetition is a run on a new chain, audited to the end.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const REPETITIONS: usize = 5;
const SECONDS: u64 = 20;

struct Case {
    transfers_per_second: u64,
    batch: u64,
    /// Transactions under way on each of 12 keys. A batch is what waits when a place becomes free: few places make full
    /// batches.
    in_flight: u64,
}

const CASES: [Case; 2] = [
    Case { transfers_per_second: 700, batch: 100, in_flight: 2 },
    Case { transfers_per_second: 300, batch: 1, in_flight: 100 },
];

/// What a run took.
struct Cost {
    transfers: u64,
    cpu_seconds: f64,
    peak_mib: f64,
    mean_batch: f64,
    passed: bool,
}

/// A process that is ended with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nearbench(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearbench"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command
}

fn manifest(url: &str, case: &Case) -> String {
    let Case { transfers_per_second, batch, in_flight } = case;
    format!(
        "apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: cost}}
spec:
  network:
    profile: devnet
    endpoints: [{{url: \"{url}\"}}]
  account:
    accountId: bench.test.near
    createFrom: {{accountId: test.near, secretRef: {{name: devnet-root}}, initialBalance: \"1000 NEAR\"}}
    keys: {{count: 12}}
  token: {{contractId: ft.bench.test.near, deploy: {{}}}}
  receivers: {{count: 100}}
  load:
    phases: [{{name: all, duration: {SECONDS}, arrivalRate: {transfers_per_second}}}]
  engine: {{concurrency: 1200, maxInFlightPerKey: {in_flight}, batch: {{min: 1, max: {batch}, depthDivisor: 1}}}}
  ensure:
    thresholds: [{{metric: successRate, min: \"100\"}}]
"
    )
}

fn run(case: &Case) -> Cost {
    let folder = TempDir::new().unwrap();
    let mut chain = Process(
        nearbench(folder.path(), &["devnet", "--rpc-addr", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap(),
    );
    let url = BufReader::new(chain.0.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            Some(format!(
                "http://127.0.0.1:{}",
                line.split_once("http://127.0.0.1:")?.1.split(|c: char| !c.is_ascii_digit()).next()?
            ))
        })
        .unwrap();
    fs::write(folder.path().join("run.yaml"), manifest(&url, case)).unwrap();
    // The kernel tells what a process took until its parent has asked how it ended.
    let child = nearbench(folder.path(), &["run", "run.yaml", "--secrets", "secrets", "--out", "out"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut child = Process(child);
    while state(pid) != "Z" {
        thread::sleep(Duration::from_millis(20));
    }
    let cpu_seconds = cpu_seconds(pid);
    let passed = child.0.wait().unwrap().success();
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("out/report.json")).unwrap()).unwrap();
    Cost {
        transfers: report["results"]["succeeded"].as_u64().unwrap(),
        cpu_seconds,
        peak_mib: report["environment"]["peakRssBytes"].as_f64().unwrap() / 1048576.0,
        mean_batch: report["results"]["batchSize"]["mean"].as_f64().unwrap(),
        passed,
    }
}

/// The fields of `/proc/PID/stat` after the process's name (proc_pid_stat(5)).
fn stat(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect()
}

fn state(pid: u32) -> String {
    stat(pid)[0].clone()
}

/// Of user and system, ended threads included; a tick is 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    stat(pid)[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Median and spread.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} (from {low:.digits$} to {high:.digits$})", values[values.len() / 2])
}

fn main() {
    println!(
        "devnet over HTTP: {REPETITIONS} repetitions of {SECONDS} s, median and spread; provisioning and audit included"
    );
    for case in CASES {
        let costs: Vec<Cost> = (0..REPETITIONS).map(|_| run(&case)).collect();
        println!("{} transfers/s in batches of {} at most", case.transfers_per_second, case.batch);
        println!(
            "  transfers for a second of CPU  {}",
            spread(costs.iter().map(|c| c.transfers as f64 / c.cpu_seconds), 0)
        );
        println!("  CPU seconds                    {}", spread(costs.iter().map(|c| c.cpu_seconds), 2));
        println!("  peak resident memory, MiB      {}", spread(costs.iter().map(|c| c.peak_mib), 1));
        println!("  transfers in a transaction     {}", spread(costs.iter().map(|c| c.mean_batch), 1));
        println!("  passed                         {} of {REPETITIONS}", costs.iter().filter(|c| c.passed).count());
    }
}
