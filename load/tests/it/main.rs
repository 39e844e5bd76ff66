//! The driver on a clock that the tests own.
#![allow(clippy::unwrap_used, missing_docs)]

mod http;

use nearbench_core::{
    Account, Amount,
    counts::Counts,
    measure::Recorder,
    plan::{Arrivals, Batch, Phase},
    schedule::Schedule,
};
use nearbench_load::{Offer, drive};
use nearbench_store::{LaneKey, LeaseId, MemoryStore, Store};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

fn phase(name: &str, seconds: u64, arrivals: Arrivals, max_vusers: Option<u32>) -> Phase {
    Phase { name: name.to_owned(), duration_ms: seconds * 1000, arrivals, max_vusers }
}

fn offer(phases: &[Phase], max_queue_depth: u64) -> Offer {
    let receivers: Vec<Account> = ["a.near", "b.near", "c.near"].iter().map(|id| id.parse().unwrap()).collect();
    Offer {
        namespace: [5; 32],
        receivers: receivers.into(),
        amount: Amount(1),
        max_queue_depth,
        max_under_way: phases.iter().map(|phase| phase.max_vusers).collect(),
    }
}

/// Drives `phases` into a store of its own for `limit` at most.
async fn driven(phases: &[Phase], max_queue_depth: u64, limit: Option<Duration>) -> (Counts, MemoryStore, Offer) {
    let schedule = Schedule::new(phases);
    let recorder = Mutex::new(Recorder::new(&schedule));
    let (store, offer) = (MemoryStore::default(), offer(phases, max_queue_depth));
    let stop = CancellationToken::new();
    if let Some(limit) = limit {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            stop.cancel();
        });
    }
    let start = Instant::now();
    drive(&store, schedule.arrivals(0, 1), &offer, start, &recorder, &stop).await.unwrap();
    let counts = recorder.lock().unwrap().counts();
    (counts, store, offer)
}

#[tokio::test(start_paused = true)]
async fn every_arrival_of_the_schedule_is_queued_once_with_its_own_id_and_its_receiver_in_turn() {
    let phases = [
        phase("ramp", 10, Arrivals::Ramp { from: 5.0, to: 150.0 }, None),
        phase("rest", 5, Arrivals::Pause, None),
        phase("count", 3, Arrivals::Count(77), None),
    ];
    let began = Instant::now();
    let (counts, store, offer) = driven(&phases, u64::MAX, None).await;
    let total = Schedule::new(&phases).total();
    assert_eq!((counts.sent, counts.accepted, counts.rejected), (total, total, 0));
    // The last arrival lies before the end, after the pause.
    assert!((Duration::from_secs(15)..Duration::from_secs(18)).contains(&began.elapsed()));
    let queued = store.cancel_queued().await.unwrap();
    for (n, transfer) in queued.iter().enumerate() {
        let n = n as u64;
        assert_eq!((transfer.sequence, transfer.id), (n, offer.id(n)));
        assert_eq!(&transfer.receiver, offer.receiver(n));
    }
    let ids: std::collections::HashSet<_> = queued.iter().map(|transfer| transfer.id).collect();
    assert_eq!(ids.len() as u64, total);
}

#[tokio::test(start_paused = true)]
async fn what_a_full_queue_refuses_is_counted_as_rejected() {
    let (counts, ..) = driven(&[phase("all", 10, Arrivals::Rate(10.0), None)], 30, None).await;
    assert_eq!((counts.sent, counts.accepted, counts.rejected), (100, 30, 70));
}

#[tokio::test(start_paused = true)]
async fn what_a_phase_forbids_is_not_sent() {
    let phases = [phase("bounded", 10, Arrivals::Rate(10.0), Some(25)), phase("free", 10, Arrivals::Rate(10.0), None)];
    let (counts, ..) = driven(&phases, u64::MAX, None).await;
    // Nobody works the queue off: 25 stay under way in the first phase, and the second adds all of its own.
    assert_eq!((counts.sent, counts.accepted), (125, 125));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_load_and_leaves_what_was_queued() {
    let phases = [phase("all", 60, Arrivals::Rate(10.0), None)];
    let (counts, store, _) = driven(&phases, u64::MAX, Some(Duration::from_millis(4_950))).await;
    assert_eq!((counts.sent, counts.accepted), (50, 50));
    assert_eq!(store.depth().await.unwrap().queued, 50);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_was_held_up_sends_everything_that_is_due_and_records_its_lag() {
    let phases = [phase("all", 10, Arrivals::Rate(100.0), None)];
    let schedule = Schedule::new(&phases);
    let recorder = Mutex::new(Recorder::new(&schedule));
    let (store, offer) = (Arc::new(MemoryStore::default()), offer(&phases, u64::MAX));
    // The load was to start 3 s ago.
    let start = Instant::now();
    tokio::time::advance(Duration::from_secs(3)).await;
    drive(&*store, schedule.arrivals(0, 1), &offer, start, &recorder, &CancellationToken::new()).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 9, "it caught up instead of shifting the schedule");
    assert_eq!(recorder.lock().unwrap().counts().sent, 1000);
    let lane = LaneKey { account: "bench.near".parse().unwrap(), public_key: "ed25519:1".into() };
    store.acquire(&lane, LeaseId([1; 16]), Duration::from_secs(60)).await.unwrap();
    let claim =
        store.claim(&lane, LeaseId([1; 16]), &Batch { min: 2, max: 2, depth_divisor: 1 }, 2).await.unwrap().unwrap();
    assert_eq!(claim.transfers[1].intended_ns, 10_000_000, "latencies count from when it was meant to arrive");
    assert_eq!(claim.transfers[1].sent_ns, 3_000_000_000, "and it says when it was handed over");
}
