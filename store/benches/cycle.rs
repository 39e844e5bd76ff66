//! Transfers per second of processor time through a store's whole cycle (push, claim, commit, settle), for the store in
//! memory and the one in a file, beside a bare redb file that takes one record a transfer, a thousand in a transaction.
//! The ratios are of one run; processor time is the whole process's, the system's part included.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bytes::Bytes;
use nearbench_core::{
    Account, Amount, Hash, Transfer, TransferId,
    plan::Batch,
    settle::{Executed, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{Attempt, FileStore, LaneKey, LeaseId, MemoryStore, Store};
use redb::{Database, TableDefinition};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const REPETITIONS: usize = 5;
/// Tasks that each own a lane.
const LANES: u64 = 64;
/// How long each round runs; processor time is counted in hundredths of a second.
const ROUND: Duration = Duration::from_millis(1500);

/// Processor time of this process, in seconds (proc(5), `/proc/self/stat`, utime and stime).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// What a round did: transfers, per second of processor time and of the clock.
#[derive(Clone, Copy)]
struct Rate {
    by_cpu: f64,
    by_clock: f64,
}

fn rate(round: impl FnOnce() -> u64) -> Rate {
    let (clock, before) = (Instant::now(), cpu());
    let transfers = round() as f64;
    Rate { by_cpu: transfers / (cpu() - before), by_clock: transfers / clock.elapsed().as_secs_f64() }
}

fn cycles<S: Store>(store: S, batch: usize) -> Rate {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let store = Arc::new(store);
    rate(|| {
        let numbers = Arc::new(AtomicU64::new(0));
        let until = Instant::now() + ROUND;
        runtime.block_on(async {
            let lanes: Vec<_> = (0..LANES)
                .map(|lane| {
                    let (store, numbers) = (store.clone(), numbers.clone());
                    tokio::spawn(async move {
                        let mut done = 0;
                        let receiver: Account = "user-42.ft-benchmark.testnet".parse().unwrap();
                        let key = LaneKey {
                            account: "ft-benchmark.testnet".parse().unwrap(),
                            public_key: format!("ed25519:{lane:044}").into(),
                        };
                        let lease = LeaseId([lane as u8; 16]);
                        store.acquire(&key, lease, Duration::from_secs(600)).await.unwrap();
                        let whole = Batch { min: batch as u32, max: batch as u32, depth_divisor: 1 };
                        let bytes = Bytes::from(vec![7; 200 + 150 * batch]);
                        while Instant::now() < until {
                            let first = numbers.fetch_add(batch as u64, Relaxed);
                            let transfers = (first..).take(batch).map(|n| Transfer {
                                id: TransferId([n as u8; 16]),
                                receiver: receiver.clone(),
                                amount: Amount(1_000_000),
                                memo: None,
                                sequence: n,
                                phase: 1,
                                intended_ns: n * 25_000,
                                sent_ns: n * 25_000 + 400_000,
                            });
                            store.push(transfers.collect(), u64::MAX).await.unwrap();
                            let Some(claim) = store.claim(&key, lease, &whole, batch as u32).await.unwrap() else {
                                continue;
                            };
                            let attempt = Attempt {
                                hash: Hash([3; 32]),
                                bytes: bytes.clone(),
                                nonce: claim.nonce,
                                base_height: 100_000_000,
                                expiry_height: 100_086_400,
                            };
                            let id = store.commit(&key, lease, Some(claim.id), attempt).await.unwrap();
                            let executed = Executed {
                                receipt: Hash([4; 32]),
                                block: Hash([5; 32]),
                                block_unix_ns: 1_700_000_000_000_000_000,
                                at_ns: first * 25_000,
                            };
                            let settled = Settled {
                                settlement: Settlement::All(Fate::Finalized),
                                proof: Proof::Executed(executed),
                                failure: None,
                                at_ns: first * 25_000,
                            };
                            store.settle(id, &settled).await.unwrap();
                            done += claim.transfers.len() as u64;
                        }
                        done
                    })
                })
                .collect();
            let mut done = 0;
            for lane in lanes {
                done += lane.await.unwrap();
            }
            done
        })
    })
}

/// One record a transfer, of the size of a result's share.
fn bare(file: &std::path::Path) -> Rate {
    const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("transfers");
    let database = Database::create(file).unwrap();
    rate(|| {
        let until = Instant::now() + ROUND;
        let mut n = 0;
        while Instant::now() < until {
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(TABLE).unwrap();
                for _ in 0..1000 {
                    table.insert(n, [7; 64].as_slice()).unwrap();
                    n += 1;
                }
            }
            transaction.commit().unwrap();
        }
        n
    })
}

fn show(what: &str, mut ratios: Vec<(f64, Rate)>) {
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, rate) = ratios[REPETITIONS / 2];
    println!(
        "  {what}: median {ratio:.2} (from {:.2} to {:.2}); {:.0} transfers a second of processor time, {:.0} a second",
        ratios[0].0,
        ratios[REPETITIONS - 1].0,
        rate.by_cpu,
        rate.by_clock,
    );
}

fn main() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let mut files = 0..;
    let mut file = || folder.path().join(files.next().unwrap().to_string());
    println!(
        "store: transfers a second of processor time through the whole cycle, {LANES} lanes, as a multiple of one redb \
         record each; {REPETITIONS} repetitions"
    );
    for batch in [1, 20, 100] {
        let mut memory = Vec::new();
        let mut durable = Vec::new();
        let mut plain = Vec::new();
        for _ in 0..REPETITIONS {
            let base = bare(&file());
            plain.push((1.0, base));
            let rate = cycles(MemoryStore::default(), batch);
            memory.push((rate.by_cpu / base.by_cpu, rate));
            let rate = cycles(FileStore::create(&file()).unwrap(), batch);
            durable.push((rate.by_cpu / base.by_cpu, rate));
        }
        show("bare redb            ", plain);
        show(&format!("memory, batch of {batch:>3} "), memory);
        show(&format!("file, batch of {batch:>3}   "), durable);
    }
}
