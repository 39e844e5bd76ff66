//! Several workers on one store: they share the lanes out, and whatever becomes of one of them, no transfer is lost or paid
//! twice.

use crate::{
    hand::{Hand, LEASE, PATIENCE, examine, until},
    world::World,
};
use nearbench_core::Transfer;
use nearbench_store::{Fleet, MemoryStore, Order, Recall, Store};
use nearbench_worker::fleet::Measured;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

fn shares(hands: &[Hand]) -> Vec<usize> {
    hands.iter().map(Hand::lanes).collect()
}

/// Pushes transfers a few at a time, as a client would, until there are `count`.
fn push(store: &Arc<MemoryStore>, transfers: Vec<Transfer>) -> tokio::task::JoinHandle<()> {
    let store = store.clone();
    tokio::spawn(async move {
        for some in transfers.chunks(5) {
            store.push(some.to_vec(), u64::MAX).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_grows_and_shrinks_under_load_shares_its_lanes_out_and_loses_nothing() {
    let world = World::new(6, 1_000_000).await;
    let store = Arc::new(MemoryStore::of_a_fleet());
    let transfers = world.transfers(800, |_| None);
    let mut hands = vec![Hand::hire(&world, &store).await];
    let pushing = push(&store, transfers.clone());
    until("one holds all", || shares(&hands) == [6]).await;
    hands.push(Hand::hire(&world, &store).await);
    until("two share", || shares(&hands) == [3, 3]).await;
    hands.extend([Hand::hire(&world, &store).await, Hand::hire(&world, &store).await]);
    let fair = |hands: &[Hand]| {
        let mut shares = shares(hands);
        shares.sort_unstable();
        shares
    };
    until("four share", || fair(&hands) == [1, 1, 2, 2]).await;
    for _ in 0..3 {
        hands.remove(0).leaves();
    }
    until("one holds all again", || shares(&hands) == [6]).await;
    pushing.await.unwrap();
    examine(&world, &*store, &transfers).await;
    hands.remove(0).leaves();
    // Nothing is held, and nobody has to wait for a lease.
    let standing = store.beat(nearbench_store::WorkerId([0; 16]), LEASE, Default::default()).await.unwrap();
    assert_eq!((standing.leases, standing.workers.len()), (vec![], 1));
    assert_eq!(store.measured().await.unwrap().len(), 5, "what each measured stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_is_replaced_once_its_leases_end() {
    let world = World::new(4, 1_000_000).await;
    let store = Arc::new(MemoryStore::of_a_fleet());
    let transfers = world.transfers(600, |_| None);
    let mut hands = vec![Hand::hire(&world, &store).await, Hand::hire(&world, &store).await];
    until("two share", || shares(&hands) == [2, 2]).await;
    let pushing = push(&store, transfers.clone());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    hands.remove(0).dies();
    assert!(store.depth().await.unwrap().open > 0, "it died with attempts under way");
    until("the other holds all", || shares(&hands) == [4]).await;
    pushing.await.unwrap();
    examine(&world, &*store, &transfers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_leases_ended_changes_nothing_and_takes_part_again() {
    let world = World::new(4, 1_000_000).await;
    let store = Arc::new(MemoryStore::of_a_fleet());
    let transfers = world.transfers(900, |_| None);
    let mut hands = vec![Hand::hire(&world, &store).await, Hand::hire(&world, &store).await];
    until("two share", || shares(&hands) == [2, 2]).await;
    let pushing = push(&store, transfers.clone());
    tokio::time::sleep(Duration::from_millis(800)).await;
    hands[0].sleeps(Duration::from_secs(9));
    until("the other holds all", || hands[1].lanes() == 4).await;
    until("both share again", || shares(&hands) == [2, 2]).await;
    pushing.await.unwrap();
    let mut paid = BTreeSet::new();
    examine(&world, &*store, &transfers).await;
    store
        .results(&mut |row| {
            if let nearbench_store::ResultRow::Settled { hash, .. } = row {
                assert!(paid.insert(hash), "{hash} was settled twice");
            }
        })
        .await
        .unwrap();
    hands.iter_mut().for_each(Hand::leaves);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_told_to_abandon_leave_what_has_no_proof_to_a_person() {
    let world = World::new(2, 1_000_000).await;
    let store = Arc::new(MemoryStore::of_a_fleet());
    let transfers = world.transfers(40, |_| None);
    let mut hand = Hand::hire(&world, &store).await;
    until("one holds all", || hand.lanes() == 2).await;
    world.fail(|method| match method {
        "send_tx" | "tx" => crate::world::Fault::Lost,
        _ => crate::world::Fault::None,
    });
    store.push(transfers.clone(), u64::MAX).await.unwrap();
    let began = Instant::now();
    while store.depth().await.unwrap().open == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.order(Order::Abandon).await.unwrap();
    let began = Instant::now();
    loop {
        let depth = store.depth().await.unwrap();
        if depth.open + depth.claimed == 0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{depth:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let withdrawn = store.cancel_queued().await.unwrap().len() as u64;
    let tally = World::tally(40);
    tally.recall(&*store).await.unwrap();
    let counts = tally.recorder().counts();
    assert_eq!((counts.cancelled, counts.unknown, counts.ended()), (withdrawn, 40 - withdrawn, 40), "{counts:?}");
    hand.leaves();
    let mut measured = Measured::default();
    for (_, bytes) in store.measured().await.unwrap() {
        assert!(bytes.len() < 16_000, "what a worker leaves at every beat is small: {}", bytes.len());
        measured.merge(&Measured::from_bytes(&bytes));
    }
    let evidence = &measured.evidence;
    let endings: Vec<_> = evidence.endpoints.values().map(|served| served.endings).collect();
    let troubled: u64 = endings.iter().map(|endings| endings.troubled()).sum();
    assert!(troubled > 0 && endings.iter().all(|endings| endings.ok > 0), "{measured:?}");
    assert_eq!(measured.errors.values().sum::<u64>(), troubled, "{measured:?}");
    let lanes = evidence.lanes;
    assert!(lanes.idle_ns > 0 && lanes.store_ns > 0 && lanes.idle_ns + lanes.store_ns <= lanes.total_ns, "{lanes:?}");
    assert!(lanes.total_ns <= 2 * evidence.elapsed_ns && evidence.looks > 0, "two lanes: {evidence:?}");
    assert!(evidence.store.summary().is_some_and(|steps| steps.max > 0.0), "{evidence:?}");
}
