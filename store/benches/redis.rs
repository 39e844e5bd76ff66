//! What a Redis server does for a run: transfers through the whole cycle (push, claim, commit, settle) in batches of 20,
//! per second of the server's processor time, with an append-only file that is synced every second, beside what
//! redis-benchmark's pipelined SETs cost the same server in the same run; the same cycle of transfers that clients submit, and
//! what a million of their records take; round trips per transfer at a steady rate; and what a backlog of a million does
//! to a claim.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bytes::Bytes;
use nearbench_core::{
    Account, Amount, Hash, Transfer, TransferId,
    plan::Batch,
    settle::{Executed, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{
    Attempt, Digest, Durability, LaneKey, LeaseId, Records, RedisOptions, RedisStore, RedisUrl, Store, Submission,
};
use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const REPETITIONS: usize = 5;
const LANES: u64 = 16;
const BATCH: u32 = 20;
const ROUND: Duration = Duration::from_secs(2);

struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir_in(".").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs: .ci/setup servers installs it");
        let server = Self { child, port, _folder: folder };
        while redis::Client::open(server.address()).unwrap().get_connection().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn url(&self) -> RedisUrl {
        RedisUrl::parse(&self.address()).unwrap()
    }

    /// Processor time of the server, its threads and what it forked, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(4).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// Reads that brought in commands: each is a round trip of somebody.
    fn reads(&self) -> u64 {
        let mut connection = redis::Client::open(self.address()).unwrap().get_connection().unwrap();
        let info: String = redis::cmd("INFO").arg("stats").query(&mut connection).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn transfers(first: u64, count: u64) -> Vec<Transfer> {
    let receiver: Account = "user-42.ft-benchmark.testnet".parse().unwrap();
    let one = |n: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        Transfer {
            id: TransferId(id),
            receiver: receiver.clone(),
            amount: Amount(1_000_000),
            memo: None,
            sequence: n,
            phase: 1,
            intended_ns: n * 25_000,
            sent_ns: n * 25_000 + 400_000,
        }
    };
    (first..first + count).map(one).collect()
}

/// The same, as clients submit them: under ids that are hashes.
fn submissions(count: u64) -> Vec<Submission> {
    let one = |transfer| Submission {
        transfer: Transfer { id: TransferId(rand::random()), ..transfer },
        digest: Digest(rand::random()),
        budget: None,
    };
    transfers(0, count).into_iter().map(one).collect()
}

fn lane(number: u64) -> LaneKey {
    LaneKey { account: "ft-benchmark.testnet".parse().unwrap(), public_key: format!("ed25519:{number:044}").into() }
}

fn whole() -> Batch {
    Batch { min: BATCH, max: BATCH, depth_divisor: 1 }
}

async fn carry(store: &RedisStore, key: &LaneKey, lease: LeaseId) -> u64 {
    let Some(claim) = store.claim(key, lease, &whole(), BATCH).await.unwrap() else { return 0 };
    let attempt = Attempt {
        hash: Hash([3; 32]),
        bytes: Bytes::from(vec![7; 200 + 150 * claim.transfers.len()]),
        nonce: claim.nonce,
        base_height: 100_000_000,
        expiry_height: 100_086_400,
    };
    let id = store.commit(key, lease, Some(claim.id), attempt).await.unwrap();
    let executed =
        Executed { receipt: Hash([4; 32]), block: Hash([5; 32]), block_unix_ns: 1_700_000_000_000_000_000, at_ns: 9 };
    let settled = Settled {
        settlement: Settlement::All(Fate::Finalized),
        proof: Proof::Executed(executed),
        failure: None,
        at_ns: 10,
    };
    store.settle(id, &settled).await.unwrap();
    claim.transfers.len() as u64
}

/// Lanes that each push a batch and carry one through, as fast as they can.
async fn cycles(store: &RedisStore, until: Instant) -> u64 {
    let numbers = Arc::new(AtomicU64::new(0));
    let lanes = (0..LANES).map(|number| {
        let (store, numbers) = (store.clone(), numbers.clone());
        tokio::spawn(async move {
            let (key, lease, mut done) = (lane(number), LeaseId([number as u8; 16]), 0);
            store.acquire(&key, lease, Duration::from_secs(600)).await.unwrap();
            while Instant::now() < until {
                let first = numbers.fetch_add(BATCH.into(), Relaxed);
                store.push(transfers(first, BATCH.into()), u64::MAX).await.unwrap();
                done += carry(&store, &key, lease).await;
            }
            done
        })
    });
    let mut done = 0;
    for lane in lanes.collect::<Vec<_>>() {
        done += lane.await.unwrap();
    }
    done
}

/// The cycle of so many submissions, and the server's processor time for it.
async fn records(server: &Server, store: &RedisStore, count: u64) -> f64 {
    let before = server.cpu();
    let lanes = (0..LANES).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let (key, lease) = (lane(number), LeaseId([number as u8; 16]));
            store.acquire(&key, lease, Duration::from_secs(600)).await.unwrap();
            for _ in 0..count / LANES / u64::from(BATCH) {
                store.accept(submissions(BATCH.into()), u64::MAX).await.unwrap();
                carry(&store, &key, lease).await;
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    server.cpu() - before
}

/// Bytes that the keys of final records take, and how many records those are.
fn memory_of_records(server: &Server) -> (u64, u64) {
    let mut connection = redis::Client::open(server.address()).unwrap().get_connection().unwrap();
    let (mut cursor, mut bytes, mut count) = (0u64, 0, 0);
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("{nearbench:bench}:r:*").arg("COUNT").arg(1000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query(&mut connection).unwrap();
        for key in keys {
            let usage = redis::cmd("MEMORY").arg("USAGE").arg(&key).arg("SAMPLES").arg(0).query::<u64>(&mut connection);
            bytes += usage.unwrap();
            count += redis::cmd("HLEN").arg(&key).query::<u64>(&mut connection).unwrap();
        }
        if next == 0 {
            return (bytes, count);
        }
        cursor = next;
    }
}

/// Transfers that come one by one, `rate` a second, and lanes that carry them.
async fn steady(store: &RedisStore, rate: u64, until: Instant) -> u64 {
    let lanes = (0..LANES).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let (key, lease, mut done) = (lane(number), LeaseId([number as u8; 16]), 0);
            store.acquire(&key, lease, Duration::from_secs(600)).await.unwrap();
            while Instant::now() < until {
                _ = tokio::time::timeout(Duration::from_millis(100), store.wait_for_work()).await;
                done += carry(&store, &key, lease).await;
                // As long as a transaction takes.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            done
        })
    });
    let lanes: Vec<_> = lanes.collect();
    let start = Instant::now();
    for n in 0.. {
        let due = start + Duration::from_nanos(n * 1_000_000_000 / rate);
        if due > until {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let store = store.clone();
        tokio::spawn(async move { store.push(transfers(n, 1), u64::MAX).await });
    }
    let mut done = 0;
    for lane in lanes {
        done += lane.await.unwrap();
    }
    done
}

/// SETs of a transfer's size per second of the server's processor time.
fn sets(server: &Server) -> f64 {
    let before = server.cpu();
    let count = 1_000_000;
    let status = Command::new("redis-benchmark")
        .args(["-p", &server.port.to_string(), "-t", "set", "-n", &count.to_string(), "-P", "16", "-d", "90"])
        .args(["-r", "100000", "-q"])
        .stdout(Stdio::null())
        .status()
        .expect("redis-benchmark runs");
    assert!(status.success());
    f64::from(count) / (server.cpu() - before)
}

fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut rates, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let server = Server::start();
        let options = RedisOptions::new("bench").durability(Durability::Local);
        let (done, spent) = runtime.block_on(async {
            let store = RedisStore::create(&server.url(), options).await.unwrap();
            let before = server.cpu();
            let done = cycles(&store, Instant::now() + ROUND).await;
            (done as f64, server.cpu() - before)
        });
        rates.push(done / spent);
        bare.push(sets(&server));
        ratios.push(done / spent / bare[bare.len() - 1]);
    }
    let ([rate, low, high], [set, ..], [ratio, least, most]) = (spread(rates), spread(bare), spread(ratios));
    println!("redis: push, claim, commit and settle in batches of {BATCH}, AOF everysec; {REPETITIONS} repetitions");
    println!("  transfers a second of the server's processor time: median {rate:.0} (from {low:.0} to {high:.0})");
    println!(
        "  pipelined SETs a second of it: median {set:.0}; as a multiple: {ratio:.2} (from {least:.2} to {most:.2})"
    );

    let server = Server::start();
    runtime.block_on(async {
        let options = RedisOptions::new("bench").durability(Durability::Local);
        let store = RedisStore::create(&server.url(), options).await.unwrap();
        let (first, rest) = (100_000, 900_000);
        let early = first as f64 / records(&server, &store, first).await;
        let late = rest as f64 / records(&server, &store, rest).await;
        println!("  of submissions with records, the first {first}: {early:.0}, {rest} more: {late:.0}");
        let (bytes, count) = memory_of_records(&server);
        println!("  {count} records: {:.1} bytes each", bytes as f64 / count as f64);
    });

    let mut trips = Vec::new();
    for _ in 0..REPETITIONS {
        let server = Server::start();
        let done = runtime.block_on(async {
            let store = RedisStore::create(&server.url(), RedisOptions::new("bench")).await.unwrap();
            let before = server.reads();
            let done = steady(&store, 1000, Instant::now() + Duration::from_secs(4)).await;
            (server.reads() - before) as f64 / done as f64
        });
        trips.push(done);
    }
    let [trip, least, most] = spread(trips);
    println!("  round trips a transfer at 1000 a second: median {trip:.3} (from {least:.3} to {most:.3})");

    let server = Server::start();
    runtime.block_on(async {
        let store = RedisStore::create(&server.url(), RedisOptions::new("bench")).await.unwrap();
        let (key, lease) = (lane(0), LeaseId([1; 16]));
        store.acquire(&key, lease, Duration::from_secs(600)).await.unwrap();
        for depth in [1_000u64, 1_000_000] {
            let mut pushed = store.depth().await.unwrap().queued;
            while pushed < depth {
                let count = (depth - pushed).min(10_000);
                store.push(transfers(pushed, count), u64::MAX).await.unwrap();
                pushed += count;
            }
            let mut times = Vec::new();
            for _ in 0..200 {
                let begun = Instant::now();
                let claim = store.claim(&key, lease, &whole(), BATCH).await.unwrap().unwrap();
                times.push(begun.elapsed().as_secs_f64() * 1e6);
                store.release(claim.id).await.unwrap();
            }
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
            let [time, ..] = spread(times);
            println!("  a claim with {depth} in the queue: median {time:.0} us; this process has {memory}");
        }
    });
}
