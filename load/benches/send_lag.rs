//! How late the driver sends beside a loop that does nothing but sleep until the same times, on the same runtime and in
//! the same run.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use nearbench_core::{
    Account, Amount,
    histogram::Histogram,
    measure::Recorder,
    plan::{Arrivals, Phase},
    report::{Observed, Results},
    schedule::Schedule,
};
use nearbench_load::{Offer, drive};
use nearbench_store::MemoryStore;
use std::{sync::Mutex, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const REPETITIONS: usize = 5;
const PER_SECOND: f64 = 2_000.0;
const SECONDS: u64 = 4;

fn schedule() -> (Phase, Schedule) {
    let arrivals = Arrivals::Rate(PER_SECOND);
    let phase = Phase { name: "all".to_owned(), duration_ms: SECONDS * 1000, arrivals, max_vusers: None };
    let schedule = Schedule::new(std::slice::from_ref(&phase));
    (phase, schedule)
}

/// The 99th percentile of the lag of a loop that only sleeps, in milliseconds.
async fn bare(schedule: &Schedule) -> f64 {
    let mut lags = Histogram::default();
    let start = Instant::now();
    for arrival in schedule.arrivals(0, 1) {
        let at = start + Duration::from_nanos(arrival.intended_ns);
        if Instant::now() < at {
            tokio::time::sleep_until(at).await;
        }
        lags.record_ns(Instant::now().saturating_duration_since(at).as_nanos() as u64);
    }
    lags.percentile_ms(99.0).unwrap()
}

/// The 99th percentile of the driver's send lag, in milliseconds.
async fn driven(phase: &Phase, schedule: &Schedule) -> f64 {
    let receivers: Vec<Account> = (0..100).map(|n| format!("user-{n}.bench.near").parse().unwrap()).collect();
    let offer = Offer {
        namespace: [5; 32],
        receivers: receivers.into(),
        amount: Amount(1),
        max_queue_depth: u64::MAX,
        max_under_way: [None].into(),
    };
    let recorder = Mutex::new(Recorder::new(schedule));
    let (store, never) = (MemoryStore::default(), CancellationToken::new());
    drive(&store, schedule.arrivals(0, 1), &offer, Instant::now(), &recorder, &never).await.unwrap();
    let observed = Observed { block_time_ms: 600.0, max_send_lag_ms: 1000, ..Observed::default() };
    let results = Results::new(&recorder.into_inner().unwrap(), [phase.name.as_str()], &observed).unwrap();
    assert_eq!(results.measures.counts.sent, schedule.total());
    results.measures.latency_ms.send_lag.unwrap().p99
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (phase, schedule) = schedule();
    println!("send lag at {PER_SECOND} arrivals/s, {REPETITIONS} repetitions of {SECONDS} s");
    let mut lags: Vec<(f64, f64)> = (0..REPETITIONS)
        .map(|_| {
            let bare = runtime.block_on(bare(&schedule));
            (bare, runtime.block_on(driven(&phase, &schedule)))
        })
        .collect();
    lags.sort_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
    let more = |index: usize| lags[index].1 - lags[index].0;
    let (bare, driven) = lags[REPETITIONS / 2];
    println!("  p99 of the driver {driven:.3} ms, of a bare loop {bare:.3} ms");
    println!(
        "  p99 above the bare loop's: median {:.3} ms (from {:.3} to {:.3})",
        more(REPETITIONS / 2),
        more(0),
        more(REPETITIONS - 1)
    );
}
