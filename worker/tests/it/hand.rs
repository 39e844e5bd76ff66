//! A worker of a fleet on a thread of its own, as tests hire, hold up and kill it.

use crate::world::World;
use nearbench_core::Transfer;
use nearbench_store::{Fleet, Recall};
use nearbench_worker::{
    Engine, Finality, Setup, Tally,
    fleet::{Member, State},
};
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::{runtime, sync::watch};
use tokio_util::sync::CancellationToken;

/// How long a lane is a worker's without a word.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// Longer than any of these takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const BATCH: u32 = 4;

/// A worker on a thread of its own, so that it can die or be held up whole.
pub(crate) struct Hand {
    runtime: Option<runtime::Handle>,
    stop: CancellationToken,
    dead: CancellationToken,
    state: watch::Receiver<State>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hand {
    pub(crate) async fn hire<S: Fleet>(world: &World, store: &Arc<S>) -> Self {
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

    pub(crate) fn lanes(&self) -> usize {
        self.state.borrow().lanes
    }

    /// It dies where it stands.
    pub(crate) fn dies(&mut self) {
        self.dead.cancel();
        self.runtime = None;
        self.thread.take().unwrap().join().unwrap();
    }

    /// It is held up whole for so long.
    pub(crate) fn sleeps(&self, long: Duration) {
        self.runtime.as_ref().unwrap().spawn(async move { std::thread::sleep(long) });
    }

    /// It ends in order.
    pub(crate) fn leaves(&mut self) {
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

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything ends, as the store tells it and as the chain does.
pub(crate) async fn examine(world: &World, store: &impl Recall, transfers: &[Transfer]) -> Tally {
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
