//! Worker processes that share a Redis: whether more of them make a transfer dearer, and what one holds in memory. A worker
//! is this binary again, with an argument; it ends with its standard input.

use crate::{
    chain::Chain,
    rate::{cpu_seconds_of, spread},
    work,
};
use nearbench_near::Signer;
use nearbench_store::{Durability, Fleet, RedisOptions, RedisStore, RedisUrl, Store};
use nearbench_testing::redis::RedisServer;
use nearbench_worker::{
    Engine, Finality, Setup,
    fleet::{LEASE, Measured, Member},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    io::Read,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// What tells this binary to be a worker.
pub(crate) const ARGUMENT: &str = "--be-a-worker";
const REPETITIONS: usize = 5;
const BATCH: u32 = 20;
const TRANSFERS: u64 = 400_000;
const BACKLOG: u64 = 1_000_000;
const STEADY_RATE: u64 = 1000;
const STEADY: Duration = Duration::from_secs(20);
/// Keys of a run of that size, and four times as many. Steps of a worker's lanes that come together share a round trip: with
/// few lanes each, more workers share less.
const LANES: [usize; 2] = [work::LANES, 4 * work::LANES];
const LOOK: Duration = Duration::from_millis(50);

/// A worker process, which is ended with its handle.
struct Process(Child);

impl Process {
    fn start(chain: &Chain, redis: &RedisServer, run: &str, lanes: usize) -> Self {
        let arguments = [ARGUMENT, &chain.port.to_string(), &redis.address(), run, &lanes.to_string()];
        let child = Command::new(std::env::current_exe().unwrap()).args(arguments).stdin(Stdio::piped()).spawn();
        Self(child.unwrap())
    }

    fn cpu_seconds(&self) -> f64 {
        cpu_seconds_of(&self.0.id().to_string())
    }

    /// The most that it held, in MiB (proc_pid_status(5), VmHWM).
    fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It gives its lanes back first.
        drop(self.0.stdin.take());
        _ = self.0.wait();
    }
}

/// The keys of every worker.
fn signers(lanes: usize) -> Vec<Signer> {
    let mut rng = StdRng::seed_from_u64(1);
    (0..lanes).map(|_| Signer::generate(work::ACCOUNT.parse().unwrap(), &mut rng)).collect()
}

fn options(run: &str) -> RedisOptions {
    RedisOptions::new(run).durability(Durability::Local)
}

/// One worker, until its standard input ends.
pub(crate) fn work(mut args: impl Iterator<Item = String>) {
    let mut next = || args.next().unwrap();
    let (port, url, run) = (next().parse().unwrap(), RedisUrl::parse(&next()).unwrap(), next());
    let lanes = next().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, stop) = (work::client(port), CancellationToken::new());
        let store = Arc::new(RedisStore::open(&url, options(&run)).await.unwrap());
        let finality = Finality::follow(client.clone(), CancellationToken::new()).await.unwrap();
        let tally = work::tally(TRANSFERS);
        let setup = Setup {
            store: store.clone(),
            client: client.clone(),
            finality,
            tally: tally.clone(),
            lease: LEASE,
            lanes: Vec::new(),
            token: work::TOKEN.parse().unwrap(),
            engine: work::engine(BATCH),
            limits: work::LIMITS,
        };
        let engine = Arc::new(Engine::start(setup).await.unwrap());
        let member = Member::new(store, client, tally, engine, signers(lanes));
        std::thread::spawn({
            let stop = stop.clone();
            move || {
                _ = std::io::stdin().read(&mut [0]);
                stop.cancel();
            }
        });
        member.take_part(&stop, |_| {}).await.unwrap();
    });
}

async fn fill(store: &RedisStore, count: u64) {
    let mut all = work::transfers(count).peekable();
    while all.peek().is_some() {
        let some: Vec<_> = all.by_ref().take(1000).collect();
        let pushed = some.len();
        assert_eq!(store.push(some, u64::MAX).await.unwrap(), pushed);
    }
}

async fn until_settled(store: &RedisStore) {
    while store.depth().await.unwrap().unsettled() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

async fn until_held(store: &RedisStore, lanes: usize) {
    let held = async || {
        let measured = store.measured().await.unwrap();
        measured.iter().map(|(_, bytes)| Measured::from_bytes(bytes).lanes).sum::<u64>()
    };
    while held().await < lanes as u64 {
        tokio::time::sleep(LOOK).await;
    }
}

/// What is measured in one repetition: transfers for each second of processor time of all workers.
async fn per_core(chain: &Chain, redis: &RedisServer, run: &str, workers: usize, lanes: usize) -> f64 {
    let store = RedisStore::create(&RedisUrl::parse(&redis.address()).unwrap(), options(run)).await.unwrap();
    let processes: Vec<_> = (0..workers).map(|_| Process::start(chain, redis, run, lanes)).collect();
    until_held(&store, lanes).await;
    // All is there at once: workers that wait for whoever fills the queue are not what is measured.
    let staged = RedisStore::create(&RedisUrl::parse(&redis.address()).unwrap(), options("staged")).await.unwrap();
    fill(&staged, TRANSFERS).await;
    let before: f64 = processes.iter().map(Process::cpu_seconds).sum();
    let key = |run: &str, name: &str| format!("{{nearbench:{run}}}:{name}");
    redis.ask(&["RENAME", &key("staged", "queue"), &key(run, "queue")]);
    redis.ask(&["PUBLISH", &key(run, "work"), ""]);
    staged.forget().await.unwrap();
    until_settled(&store).await;
    let cpu = processes.iter().map(Process::cpu_seconds).sum::<f64>() - before;
    drop(processes);
    store.forget().await.unwrap();
    TRANSFERS as f64 / cpu
}

/// The most that a worker holds at a steady rate, and then before a backlog, in MiB.
async fn memory(chain: &Chain, redis: &RedisServer) -> (f64, f64) {
    let store = RedisStore::create(&RedisUrl::parse(&redis.address()).unwrap(), options("memory")).await.unwrap();
    let worker = Process::start(chain, redis, "memory", work::LANES);
    until_held(&store, work::LANES).await;
    let (start, mut sent) = (Instant::now(), 0);
    let mut all = work::transfers(STEADY_RATE * STEADY.as_secs());
    while start.elapsed() < STEADY {
        let due = (start.elapsed().as_secs_f64() * STEADY_RATE as f64) as u64;
        let some: Vec<_> = all.by_ref().take((due - sent) as usize).collect();
        sent = due;
        store.push(some, u64::MAX).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until_settled(&store).await;
    let steady = worker.peak_mib();
    fill(&store, BACKLOG).await;
    (steady, worker.peak_mib())
}

pub(crate) fn measure() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let chain = Chain::start(BATCH);
        let redis = RedisServer::start(&["--appendonly", "yes"]);
        for lanes in LANES {
            println!(
                "workers that share a Redis and {lanes} lanes, batches of {BATCH}, transfers/s a core of all workers"
            );
            let mut one = Vec::new();
            for workers in [1, 2, 4] {
                let mut rates = Vec::new();
                for repetition in 0..REPETITIONS {
                    let run = format!("{lanes}-{workers}-{repetition}");
                    rates.push(per_core(&chain, &redis, &run, workers, lanes).await);
                }
                println!("  {workers} workers                     {}", spread(rates.iter().copied(), 0));
                if workers == 1 {
                    one = rates;
                } else {
                    let ratios = rates.iter().zip(&one).map(|(rate, one)| rate / one);
                    println!("  {workers} workers / 1 worker          {}", spread(ratios, 2));
                }
            }
        }
        let (steady, backlog) = memory(&chain, &redis).await;
        println!(
            "a worker's memory, MiB: {steady:.1} at {STEADY_RATE}/s, {backlog:.1} once {BACKLOG} more came at once"
        );
    });
}
