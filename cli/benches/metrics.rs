//! What its metrics cost an engine: the engine of the bench of that name, on the same stand-in for a chain, while a process of
//! its own scrapes all that a run tells over HTTP, beside the same engine that nobody looks at. One after the other, again and
//! again, as ratios; a core is a second of this process's CPU time, in which the answers to scrapes are counted.
//!
//! Scraped is far more often than any Prometheus does, so that it shows; what a scrape alone takes is measured too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../worker/benches/engine/chain.rs"]
mod chain;
#[allow(dead_code)]
#[path = "../src/environment.rs"]
mod environment;
#[allow(dead_code)]
#[path = "../src/exit.rs"]
mod exit;
#[allow(dead_code)]
#[path = "../src/metrics.rs"]
mod metrics;
#[allow(dead_code)]
#[path = "../../worker/benches/engine/rate.rs"]
mod rate;
#[path = "../../worker/benches/engine/sink.rs"]
mod sink;
#[allow(dead_code)]
#[path = "../../worker/benches/engine/work.rs"]
mod work;

use chain::Chain;
use metrics::{Metrics, Sources};
use nearbench_core::Plan;
use nearbench_store::MemoryStore;
use rate::{Rate, cpu_seconds, spread};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// What tells this binary to be a Prometheus.
const ARGUMENT: &str = "--be-a-prometheus";
const REPETITIONS: usize = 5;
/// Between two scrapes, here and as a Prometheus is usually told.
const OFTEN: Duration = Duration::from_millis(100);
const USUALLY: Duration = Duration::from_secs(5);
/// By which what one takes is measured.
const SCRAPES: u64 = 1000;

/// Transfers in batches of so many.
const CASES: [(u32, u64); 2] = [(1, 40_000), (100, 600_000)];

const PLAN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: scraped}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 24}}
  token: {contractId: ft.bench.near, deploy: {}}
  receivers: {count: 100}
  load: {phases: [{name: all, duration: 60, arrivalRate: 1000}]}
"#;

fn plan() -> Plan {
    let run = nearbench_crds::parse(PLAN).unwrap();
    nearbench_crds::plan(&run, &nearbench_crds::Resolve { on_devnet: false, config_map: &|_| None }).unwrap()
}

/// A process that scrapes until it is told to end, or so many times.
struct Prometheus(Child);

impl Prometheus {
    fn start(address: SocketAddr, pause: Duration, times: u64) -> Self {
        let arguments = [ARGUMENT, &address.to_string(), &pause.as_millis().to_string(), &times.to_string()];
        let child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    /// How often it scraped.
    fn end(mut self) -> u64 {
        drop(self.0.stdin.take());
        self.scraped()
    }

    /// The same, once it has scraped as often as it was to.
    fn scraped(&mut self) -> u64 {
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success());
        said.trim().parse().unwrap()
    }
}

/// That process.
fn scrape(mut args: impl Iterator<Item = String>) {
    let address: SocketAddr = args.next().unwrap().parse().unwrap();
    let (pause, times): (u64, u64) = (args.next().unwrap().parse().unwrap(), args.next().unwrap().parse().unwrap());
    let (told, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        _ = std::io::stdin().read(&mut [0]);
        drop(told);
    });
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut scraped = 0;
    while scraped < times {
        let head =
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            answers.read_line(&mut line).unwrap();
            match line.trim().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut text = vec![0; length];
        answers.read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("nearbench_transfers_total{") && text.ends_with("# EOF\n"), "{text}");
        scraped += 1;
        if ended.recv_timeout(Duration::from_millis(pause)) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
            break;
        }
    }
    println!("{scraped}");
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An engine that nobody looks at.
fn alone(chain: &Chain, (batch, transfers): (u32, u64)) -> Rate {
    work::run(chain, MemoryStore::default(), batch, transfers, |_, _, _| {})
}

/// One that is scraped: how fast it is, how often it was scraped, and the CPU seconds of a scrape after it.
fn scraped(chain: &Chain, plan: &Plan, (batch, transfers): (u32, u64)) -> (Rate, u64, f64) {
    let metrics = Metrics::of(plan);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = free_address();
    runtime.block_on(metrics.serve(address)).unwrap();
    let mut prometheus = None;
    let rate = work::run(chain, MemoryStore::default(), batch, transfers, |tally, client, keys| {
        metrics.tell_of(Sources {
            sends: Some(1),
            carries: true,
            client: Some(client),
            keys: Some(keys),
            ..Sources::of(tally)
        });
        prometheus = Some(Prometheus::start(address, OFTEN, u64::MAX));
    });
    let times = prometheus.unwrap().end();
    let before = cpu_seconds();
    assert_eq!(Prometheus::start(address, Duration::ZERO, SCRAPES).scraped(), SCRAPES);
    (rate, times, (cpu_seconds() - before) / SCRAPES as f64)
}

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(chain::ARGUMENT) => return sink::serve(args.next().unwrap().parse().unwrap()),
        Some(ARGUMENT) => return scrape(args),
        _ => {}
    }
    let plan = plan();
    println!("metrics: {REPETITIONS} repetitions, median and spread; scraped every {OFTEN:?}");
    for case in CASES {
        let chain = Chain::start(case.0);
        let mut rates = Vec::new();
        for repetition in 0..REPETITIONS {
            // Neither is always the one that finds the machine warm.
            let first = (repetition % 2 == 0).then(|| alone(&chain, case));
            let watched = scraped(&chain, &plan, case);
            rates.push((first.unwrap_or_else(|| alone(&chain, case)), watched));
        }
        println!("in memory, batches of {}", case.0);
        let per_core = rates.iter().map(|(alone, _)| alone.per_core);
        println!("  engine, transfers/s a core               {}", spread(per_core, 0));
        let ratios = rates.iter().map(|(alone, (scraped, ..))| scraped.per_core / alone.per_core);
        println!("  scraped / not, transfers/s a core        {}", spread(ratios, 3));
        let ratios = rates.iter().map(|(alone, (scraped, ..))| scraped.per_second / alone.per_second);
        println!("  scraped / not, transfers/s               {}", spread(ratios, 3));
        println!(
            "  scrapes                                  {}",
            spread(rates.iter().map(|(_, (_, n, _))| *n as f64), 0)
        );
        println!("  CPU of a scrape, ms                      {}", spread(rates.iter().map(|(_, (.., s))| s * 1e3), 3));
        let share = rates.iter().map(|(_, (.., s))| s / USUALLY.as_secs_f64() * 100.0);
        println!("  of a core, every {USUALLY:?}, %                   {}", spread(share, 4));
    }
}
