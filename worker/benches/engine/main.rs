//! What the engine does beside what a transfer costs at the least, as ratios measured in one run.
//!
//! The engine works against a stand-in for a chain in another process, over HTTP on this machine, and does all that it
//! does in a run: claim, sign, commit, send, confirm, wait for finality, settle, count. Beside it, a bare loop signs and
//! posts as many transactions to the same stand-in and does nothing else. Rates are by the wall clock; "a core" is a
//! second of this process's CPU time, system calls included. At last, several worker processes that share a Redis.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bare;
mod chain;
mod fleet;
mod rate;
mod sink;
mod work;

use chain::Chain;
use nearbench_store::{FileStore, MemoryStore, Store};
use rate::{Rate, spread};
use tempfile::TempDir;

const REPETITIONS: usize = 5;

/// What is measured: so many transfers in batches of so many, and so many bare transactions beside them.
struct Case {
    batch: u32,
    transfers: u64,
    bare_transactions: u64,
}

const CASES: [Case; 2] = [
    Case { batch: 1, transfers: 60_000, bare_transactions: 50_000 },
    Case { batch: 100, transfers: 1_000_000, bare_transactions: 10_000 },
];

fn measure<S: Store>(name: &str, mut store: impl FnMut() -> S) {
    for Case { batch, transfers, bare_transactions } in CASES {
        let chain = Chain::start(batch);
        let rates: Vec<(Rate, Rate)> = (0..REPETITIONS)
            .map(|_| {
                let bare = bare::run(&chain, batch, bare_transactions);
                let engine = work::run(&chain, store(), batch, transfers, |_, _, _| {});
                (bare, engine)
            })
            .collect();
        let size = f64::from(batch);
        println!("{name}, batches of {batch}");
        println!("  engine, transfers/s           {}", spread(rates.iter().map(|(_, e)| e.per_second), 0));
        println!("  engine, transfers/s a core    {}", spread(rates.iter().map(|(_, e)| e.per_core), 0));
        println!("  bare loop, transactions/s     {}", spread(rates.iter().map(|(b, _)| b.per_second), 0));
        println!("  bare loop, transactions/s a core {}", spread(rates.iter().map(|(b, _)| b.per_core), 0));
        println!(
            "  engine / bare loop            {}",
            spread(rates.iter().map(|(b, e)| e.per_second / (b.per_second * size)), 2)
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(chain::ARGUMENT) => return sink::serve(args.next().unwrap().parse().unwrap()),
        Some(fleet::ARGUMENT) => return fleet::work(args),
        // `cargo bench --bench engine -- fleet` measures that alone.
        Some("fleet") => return fleet::measure(),
        _ => {}
    }
    println!("engine: {REPETITIONS} repetitions, median and spread");
    measure("in memory", MemoryStore::default);
    let folder = TempDir::new().unwrap();
    let mut files = 0..;
    measure("in a file", || FileStore::create(&folder.path().join(format!("{}", files.next().unwrap()))).unwrap());
    fleet::measure();
}
