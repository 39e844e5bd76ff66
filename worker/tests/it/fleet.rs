//! Several workers on one store: they share the lanes out, and whatever becomes of one of them, no transfer is lost or paid
//! twice.

use crate::world::World;
use nearbench_core::Transfer;
use nearbench_store::{Fleet, MemoryStore, Order, Recall, Store};
use nearbench_worker::{
    Engine, Finality, Setup, Tally,
    fleet::{Measured, Member, State},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::{runtime, sync::watch};
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(2);
/// Longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(90);
const BATCH: u32 = 4;

/// A worker on a thread of its own, so that it can die or be held up whole.
struct Hand {
    runtime: Option<runtime::Handle>,
    stop: CancellationToken,
    dead: CancellationToken,
    state: watch::Receiver<State>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hand {
    async fn hire(world: &World, store: &Arc<MemoryStore>) -> Self {
        let (stop, dead) = (CancellationToken::new(), CancellationToken::new());
        let (told, tell) = mpsc::channel();
        let (client, signers, store) = (world.client.clone(), world.lanes.clone(), store.clone());
        let tally = World::tally(0);
        let follow = CancellationToken::new();
        let finality = Finality::follow(client.clone(), follow.clone()).await.unwrap();
        let setup = Setup { lease: LEASE, ..world.setup(store.clone(), finality, tally.clone(), BATCH) };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (stopped, died) = (stop.clone(), dead.clone());
        let thread = std::thread::spawn(move || {
            let work = async {
                let engine = Arc::new(Engine::start(setup).await.unwrap());
                let member = Member::new(store, client, tally, engine, signers);
                told.send((runtime::Handle::current(), member.follow())).unwrap();
                member.take_part(&stopped, |_| {}).await.unwrap();
            };
            runtime.block_on(died.run_until_cancelled(work));
            follow.cancel();
            // What is under way is dropped where it stands, as in a process that is killed.
            runtime.shutdown_background();
        });
        let (runtime, state) = tell.recv().unwrap();
        Self { runtime: Some(runtime), stop, dead, state, thread: Some(thread) }
    }

    fn lanes(&self) -> usize {
        self.state.borrow().lanes
    }

    /// It dies where it stands.
    fn dies(&mut self) {
        self.dead.cancel();
        self.runtime = None;
        self.thread.take().unwrap().join().unwrap();
    }

    /// It is held up whole for so long.
    fn sleeps(&self, long: Duration) {
        self.runtime.as_ref().unwrap().spawn(async move { std::thread::sleep(long) });
    }

    /// It ends in order.
    fn leaves(&mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.dead.cancel();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

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

/// Everything ends, as the store tells it and as the chain does.
async fn examine(world: &World, store: &MemoryStore, transfers: &[Transfer]) -> Tally {
    let began = Instant::now();
    while store.depth().await.unwrap().unsettled() > 0 {
        assert!(began.elapsed() < PATIENCE, "what was accepted has no end: {:?}", store.depth().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tally = Arc::into_inner(World::tally(transfers.len() as u64)).unwrap();
    tally.recall(store).await.unwrap();
    let counts = tally.recorder().counts();
    let all = transfers.len() as u64;
    assert_eq!((counts.accepted, counts.succeeded, counts.ended()), (all, all, all), "{counts:?}");
    let audit = world.audit(transfers, &tally).await;
    assert!(audit.matches && audit.transfers_found == all, "{audit:?}");
    tally
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
    examine(&world, &store, &transfers).await;
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
    examine(&world, &store, &transfers).await;
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
    examine(&world, &store, &transfers).await;
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
    store.measured().await.unwrap().iter().for_each(|(_, bytes)| measured.merge(&Measured::from_bytes(bytes)));
    assert!(measured.errors.values().sum::<u64>() > 0 && measured.requests > 0, "{measured:?}");
}
