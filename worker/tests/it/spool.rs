//! The API while its store is away: nothing that was acknowledged is lost, nothing is paid twice, whatever fails when.

use crate::api::{BOB, FINALIZED, JSON, PATIENCE, Service, settings, settle, sign, token};
use nearbench_core::{
    Amount, Hash, Nonce, Transfer, TransferId, TransferState,
    plan::Batch,
    settle::{Settled, Settlement},
};
use nearbench_store::{
    Accepted, Attempt, AttemptId, Budget, Census, Changed, Claim, ClaimId, Cursor, Depth, Digest, Filter, Lane,
    LaneKey, LeaseId, MemoryStore, OpenError, Page, Record, Records, SpoolError, Store, StoreError, Submission,
};
use nearbench_worker::{Carried, Scope, Settings, Spool, SpoolBounds, Tokens};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How a store that is elsewhere is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing gets there.
    Cut,
    /// Everything gets there, and no answer back.
    Deaf,
    /// Nothing gets there, and nobody is told.
    Silent,
    /// It takes nothing, since it may lack what it had confirmed.
    Restored,
}

/// A store that is elsewhere.
struct Remote {
    store: MemoryStore,
    way: Mutex<Way>,
    asked: AtomicU64,
}

impl Remote {
    fn new() -> Arc<Self> {
        Arc::new(Self { store: MemoryStore::default(), way: Mutex::new(Way::Open), asked: AtomicU64::new(0) })
    }

    fn is(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    async fn reach<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Relaxed);
        let unreachable = || StoreError::Unreachable { store: "there".into(), cause: "cut off".into() };
        let way = *self.way.lock().unwrap();
        match way {
            Way::Open | Way::Restored => step.await,
            Way::Cut => Err(unreachable()),
            Way::Deaf => step.await.and_then(|_| Err(unreachable())),
            Way::Silent => std::future::pending().await,
        }
    }
}

impl Records for Remote {
    async fn accept(&self, submissions: Vec<Submission>, max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        if *self.way.lock().unwrap() == Way::Restored {
            return Err(StoreError::Restored { store: "there".into() });
        }
        self.reach(self.store.accept(submissions, max_depth)).await
    }

    async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        self.reach(self.store.find(ids)).await
    }

    async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.reach(self.store.list(filter, before, limit)).await
    }

    async fn transaction(&self, hash: Hash) -> Result<Vec<TransferId>, StoreError> {
        self.reach(self.store.transaction(hash)).await
    }

    async fn cancel(&self, id: TransferId) -> Result<Changed, StoreError> {
        self.reach(self.store.cancel(id)).await
    }

    async fn retry(&self, id: TransferId, now_ns: u64) -> Result<Changed, StoreError> {
        self.reach(self.store.retry(id, now_ns)).await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.reach(self.store.census()).await
    }
}

impl Store for Remote {
    async fn push(&self, transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
        self.reach(self.store.push(transfers, max_depth)).await
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        self.reach(self.store.acquire(lane, lease, ttl)).await
    }

    async fn renew(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        self.reach(self.store.renew(lane, lease, ttl)).await
    }

    async fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> Result<(), StoreError> {
        self.reach(self.store.release_lane(lane, lease)).await
    }

    async fn claim(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
    ) -> Result<Option<Claim>, StoreError> {
        self.reach(self.store.claim(lane, lease, batch, at_most)).await
    }

    async fn reserve(&self, lane: &LaneKey, lease: LeaseId, count: u32) -> Result<Nonce, StoreError> {
        self.reach(self.store.reserve(lane, lease, count)).await
    }

    async fn raise(&self, lane: &LaneKey, lease: LeaseId, floor: Nonce) -> Result<(), StoreError> {
        self.reach(self.store.raise(lane, lease, floor)).await
    }

    async fn release(&self, claim: ClaimId) -> Result<(), StoreError> {
        self.reach(self.store.release(claim)).await
    }

    async fn commit(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
    ) -> Result<AttemptId, StoreError> {
        self.reach(self.store.commit(lane, lease, claim, attempt)).await
    }

    async fn sent(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        self.reach(self.store.sent(attempts)).await
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        self.reach(self.store.settle(attempt, settled)).await
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        self.reach(self.store.cancel_queued()).await
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        self.reach(self.store.depth()).await
    }

    async fn wait_for_work(&self) {
        self.store.wait_for_work().await;
    }
}

const BOUNDS: SpoolBounds = SpoolBounds {
    entries: 100,
    patience: Duration::from_millis(500),
    max_age: Duration::from_secs(3600),
    pause: Duration::from_millis(5),
};
/// Transfers that the store's queue takes.
const DEPTH: u64 = 1000;

async fn open(remote: &Arc<Remote>, folder: &Path) -> Spool<Remote> {
    Spool::open(remote.clone(), folder, "run", &[7; 32], BOUNDS).await.unwrap()
}

fn id(key: u8) -> TransferId {
    TransferId([key; 16])
}

/// What a client asks for under `key`: another amount is another body.
fn submission(key: u8, body: u8) -> Submission {
    let transfer = Transfer {
        id: id(key),
        receiver: "bob.near".parse().unwrap(),
        amount: Amount(body.into()),
        memo: None,
        sequence: key.into(),
        phase: 0,
        intended_ns: 1,
        sent_ns: 2,
    };
    Submission { transfer, digest: Digest([body; 16]), budget: None }
}

fn amount(record: &Record) -> u128 {
    record.details.as_ref().unwrap().amount.0
}

fn is_new(answer: &Accepted) -> bool {
    matches!(answer, Accepted::New { .. })
}

fn is_replay(answer: &Accepted) -> bool {
    matches!(answer, Accepted::Replayed(_))
}

async fn one(store: &impl Records, key: u8, body: u8) -> Accepted {
    store.accept(vec![submission(key, body)], DEPTH).await.unwrap().remove(0)
}

async fn found(store: &impl Records, key: u8) -> Option<Record> {
    store.find(&[id(key)]).await.unwrap().remove(0)
}

/// Carries over until nothing is left.
async fn carry(spool: &Spool<Remote>) {
    while spool.carry_over(DEPTH).await.unwrap() != Carried::Nothing {}
}

/// What one worker has on disk.
struct Worker {
    folder: TempDir,
    spool: Spool<Remote>,
}

impl Worker {
    async fn start(remote: &Arc<Remote>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(remote, folder.path()).await;
        Self { folder, spool }
    }

    /// What a `kill -9` leaves at this moment.
    fn disk(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(self.folder.path().join("spool.store"), copy.path().join("spool.store")).unwrap();
        copy
    }

    async fn restart(&mut self, remote: &Arc<Remote>, disk: TempDir) {
        self.spool = open(remote, disk.path()).await;
        self.folder = disk;
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Also while what is spooled is being carried over.
    Submit {
        worker: usize,
        asked: Vec<(u8, u8)>,
        carrying: bool,
    },
    Way(Way),
    /// A kill; of one that carries over, after the store has confirmed it and before the spool knows.
    Crash {
        worker: usize,
        carrying: bool,
    },
    Carry(usize),
    Cancel {
        worker: usize,
        key: u8,
    },
    Pay,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let worker = || 0..2usize;
    let way = prop_oneof![3 => Just(Way::Open), 2 => Just(Way::Cut), 2 => Just(Way::Deaf), 1 => Just(Way::Restored)];
    let act = prop_oneof![
        6 => (worker(), prop::collection::vec((0..6u8, 1..3u8), 1..4), any::<bool>())
            .prop_map(|(worker, asked, carrying)| Act::Submit { worker, asked, carrying }),
        4 => way.prop_map(Act::Way),
        2 => (worker(), any::<bool>()).prop_map(|(worker, carrying)| Act::Crash { worker, carrying }),
        3 => worker().prop_map(Act::Carry),
        1 => (worker(), 0..6u8).prop_map(|(worker, key)| Act::Cancel { worker, key }),
        1 => Just(Act::Pay),
    ];
    prop::collection::vec(act, 1..30)
}

/// What was paid: keys and amounts.
#[derive(Default)]
struct Paid {
    transfers: Vec<(TransferId, u128)>,
    attempts: u8,
}

impl Paid {
    async fn pay(&mut self, store: &MemoryStore) {
        if store.depth().await.unwrap().queued == 0 {
            return;
        }
        self.attempts += 1;
        let attempt = sign(store, self.attempts).await;
        let ids = store.transaction(Hash([self.attempts; 32])).await.unwrap();
        let records = store.find(&ids).await.unwrap();
        self.transfers.extend(records.iter().flatten().map(|record| (record.id, amount(record))));
        settle(store, attempt, FINALIZED, None).await;
    }
}

async fn history(acts: Vec<Act>) {
    let remote = Remote::new();
    let mut workers = [Worker::start(&remote).await, Worker::start(&remote).await];
    // Which worker acknowledged which body under which key, and which keys were withdrawn.
    let mut acknowledged: BTreeSet<(u8, usize, u8)> = BTreeSet::new();
    let mut withdrawn: BTreeSet<u8> = BTreeSet::new();
    let mut paid = Paid::default();
    for act in acts {
        match act {
            Act::Submit { worker, asked, carrying } => {
                let submissions = asked.iter().map(|(key, body)| submission(*key, *body)).collect();
                let spool = &workers[worker].spool;
                let carry = async {
                    if carrying {
                        spool.carry_over(DEPTH).await.unwrap();
                    }
                };
                let (answers, ()) = tokio::join!(spool.accept(submissions, DEPTH), carry);
                let answers = answers.unwrap();
                assert_eq!(answers.len(), asked.len());
                for ((key, body), answer) in asked.into_iter().zip(answers) {
                    match answer {
                        Accepted::New { .. } => {
                            acknowledged.insert((key, worker, body));
                        }
                        Accepted::Replayed(record) => {
                            assert_eq!(amount(&record), u128::from(body), "a replay is of the same body");
                            assert_ne!(record.state, TransferState::Failed);
                            acknowledged.insert((key, worker, body));
                        }
                        Accepted::Conflict => {}
                        Accepted::Full => {
                            let lost = acknowledged.iter().any(|(lost, at, _)| (*lost, *at) == (key, worker));
                            assert!(lost, "there is room: only who may have won must wait for the store");
                        }
                        Accepted::OverCap => panic!("there is no cap"),
                    }
                }
            }
            Act::Way(way) => remote.is(way),
            Act::Crash { worker, carrying } => {
                let worker = &mut workers[worker];
                let disk = worker.disk();
                if carrying {
                    worker.spool.carry_over(DEPTH).await.unwrap();
                }
                worker.restart(&remote, disk).await;
            }
            Act::Carry(worker) => drop(workers[worker].spool.carry_over(DEPTH).await.unwrap()),
            Act::Cancel { worker, key } => {
                if let Ok(Changed::Done(record)) = workers[worker].spool.cancel(id(key)).await {
                    assert_eq!(record.state, TransferState::Cancelled);
                    withdrawn.insert(key);
                }
            }
            Act::Pay => paid.pay(&remote.store).await,
        }
        for (key, worker, _) in &acknowledged {
            match workers[*worker].spool.find(&[id(*key)]).await {
                Ok(found) => assert!(found[0].is_some(), "what was acknowledged is not there"),
                Err(error) => assert!(matches!(error, StoreError::Unreachable { .. } | StoreError::Restored { .. })),
            }
        }
    }
    remote.is(Way::Open);
    for worker in &mut workers {
        let disk = worker.disk();
        worker.restart(&remote, disk).await;
        carry(&worker.spool).await;
        assert_eq!(worker.spool.note().waiting, 0);
    }
    paid.pay(&remote.store).await;
    let amounts: BTreeMap<_, _> = paid.transfers.iter().copied().collect();
    assert_eq!(amounts.len(), paid.transfers.len(), "a key pays once");
    let there: BTreeMap<u8, Option<Record>> = {
        let keys: BTreeSet<_> = acknowledged.iter().map(|(key, ..)| *key).collect();
        let mut there = BTreeMap::new();
        for key in keys {
            there.insert(key, found(&remote.store, key).await);
        }
        there
    };
    remote.is(Way::Cut);
    for (key, worker, body) in acknowledged {
        let body = u128::from(body);
        let record = there[&key].as_ref().expect("what was acknowledged came into the store");
        match amounts.get(&id(key)) {
            Some(amount) => assert!(!withdrawn.contains(&key) && *amount == self::amount(record)),
            None => assert_eq!(record.state, TransferState::Cancelled, "what was acknowledged is paid, or withdrawn"),
        }
        if amount(record) != body {
            let ended = found(&workers[worker].spool, key).await.expect("it ended where it was acknowledged");
            assert_eq!((ended.state, ended.error), (TransferState::Failed, Some("conflict")));
            assert_eq!(amount(&ended), body);
        }
    }
}

#[test]
fn whatever_fails_when_a_key_that_was_acknowledged_pays_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(cases)
        .run(&acts(), |acts| {
            runtime.block_on(history(acts));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn two_workers_spool_a_key_and_the_store_takes_the_first() {
    let remote = Remote::new();
    let workers = [Worker::start(&remote).await, Worker::start(&remote).await];
    remote.is(Way::Cut);
    for (worker, (key, body)) in [(0, (1, 1)), (1, (1, 1)), (0, (2, 1)), (1, (2, 2))] {
        assert!(is_new(&one(&workers[worker].spool, key, body).await));
    }
    assert!(is_replay(&one(&workers[1].spool, 2, 2).await));
    assert_eq!(one(&workers[1].spool, 2, 1).await, Accepted::Conflict);

    remote.is(Way::Open);
    for worker in &workers {
        carry(&worker.spool).await;
    }
    assert_eq!(remote.store.depth().await.unwrap().queued, 2);
    let record = found(&workers[1].spool, 2).await.unwrap();
    assert_eq!((record.state, amount(&record)), (TransferState::Queued, 1), "the store answers for what it holds");
    assert_eq!(one(&workers[1].spool, 2, 2).await, Accepted::Conflict);

    // While the store is away, the loser is known for one; the other may have won, and must ask again.
    remote.is(Way::Cut);
    workers[1].spool.find(&[id(9)]).await.unwrap_err();
    let record = found(&workers[1].spool, 2).await.unwrap();
    assert_eq!((record.state, record.error, amount(&record)), (TransferState::Failed, Some("conflict"), 2));
    assert_eq!(one(&workers[1].spool, 2, 2).await, Accepted::Conflict);
    assert_eq!(one(&workers[1].spool, 2, 1).await, Accepted::Full);
}

#[tokio::test]
async fn what_is_spooled_goes_before_what_comes_under_its_key() {
    let remote = Remote::new();
    let Worker { spool, folder: _folder } = Worker::start(&remote).await;
    remote.is(Way::Cut);
    assert!(is_new(&one(&spool, 1, 1).await) && is_new(&one(&spool, 2, 1).await));
    // The store is back, and the spool knows; nothing was carried over.
    remote.is(Way::Open);
    let none = spool.carry_over(0).await.unwrap();
    assert_eq!((none, spool.note().waiting, spool.note().since), (Carried::Stuck, 2, None), "the store is full");
    let answers = spool.accept(vec![submission(1, 2), submission(3, 1), submission(2, 1)], DEPTH).await.unwrap();
    assert_eq!(answers[0], Accepted::Conflict);
    assert!(is_new(&answers[1]) && is_replay(&answers[2]), "{answers:?}");
    assert_eq!((spool.note().waiting, remote.store.depth().await.unwrap().queued), (0, 3));
}

#[tokio::test]
async fn a_store_that_is_away_is_not_waited_for_twice() {
    let remote = Remote::new();
    let Worker { spool, folder: _folder } = Worker::start(&remote).await;
    remote.is(Way::Silent);
    assert!(is_new(&one(&spool, 1, 1).await), "the patience is over");
    let asked = remote.asked.load(Relaxed);
    assert!(is_new(&one(&spool, 2, 1).await));
    assert!(found(&spool, 2).await.is_some());
    assert!(matches!(spool.find(&[id(3)]).await, Err(StoreError::Unreachable { .. })));
    assert!(matches!(spool.cancel(id(2)).await, Err(StoreError::Unreachable { .. })), "who knows who else has it");
    assert!(spool.list(&Filter::default(), None, 1).await.is_err() && spool.census().await.is_err());
    assert_eq!(spool.depth().await.unwrap().queued, 2);
    assert_eq!(remote.asked.load(Relaxed), asked);
    assert!(spool.note().since.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_carries_over_once_the_store_is_back_and_ends_when_told() {
    let remote = Remote::new();
    let folder = tempfile::tempdir().unwrap();
    let bounds = SpoolBounds { entries: 2500, ..BOUNDS };
    let spool = Spool::open(remote.clone(), folder.path(), "run", &[7; 32], bounds).await.unwrap();
    let (spool, stop) = (Arc::new(spool), CancellationToken::new());
    let drain = tokio::spawn({
        let (spool, stop) = (spool.clone(), stop.clone());
        async move { spool.drain(2400, stop).await }
    });
    let many = |from: u32, to: u32| -> Vec<_> {
        let numbered = |n: u32| {
            let mut one = submission(0, 1);
            one.transfer.id.0[..4].copy_from_slice(&n.to_be_bytes());
            one.transfer.sequence = n.into();
            one
        };
        (from..to).map(numbered).collect()
    };
    for way in [Way::Cut, Way::Restored] {
        remote.is(way);
        let from = spool.note().waiting as u32;
        assert!(spool.accept(many(from, from + 1250), DEPTH).await.unwrap().iter().all(is_new));
    }
    assert_eq!(one(&*spool, 9, 9).await, Accepted::Full, "its bounds");
    remote.is(Way::Open);
    // It stays within the store's depth, and goes on as there is room.
    let carried = async {
        while spool.note().waiting != 100 || spool.note().since.is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(remote.store.depth().await.unwrap().queued, 2400);
        sign(&remote.store, 1).await;
        while spool.note().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, carried).await.unwrap();
    let sequences: Vec<_> = remote.store.cancel_queued().await.unwrap().iter().map(|one| one.sequence).collect();
    assert_eq!(sequences, (100..2500).collect::<Vec<_>>(), "oldest first");
    stop.cancel();
    timeout(PATIENCE, drain).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn budgets_come_along_through_a_crash() {
    let remote = Remote::new();
    let mut worker = Worker::start(&remote).await;
    let asked = |key: u8| {
        let budget = Some(Budget { client: "shop".into(), daily_cap: Amount(10) });
        Submission { budget, ..submission(key, 6) }
    };
    assert!(is_new(&worker.spool.accept(vec![asked(1)], DEPTH).await.unwrap()[0]));
    remote.is(Way::Cut);
    // The spool knows what was spooled, not what the store has seen.
    let answers = worker.spool.accept(vec![asked(2), asked(3)], DEPTH).await.unwrap();
    assert!(is_new(&answers[0]));
    assert_eq!(answers[1], Accepted::OverCap);
    let disk = worker.disk();
    worker.restart(&remote, disk).await;
    remote.is(Way::Open);
    carry(&worker.spool).await;
    let record = found(&worker.spool, 2).await.unwrap();
    assert_eq!((record.state, record.error), (TransferState::Failed, Some("cap_exceeded")));
    assert!(matches!(worker.spool.retry(id(2), 0).await.unwrap(), Changed::Refused(_)));
    assert_eq!(remote.store.depth().await.unwrap().queued, 1);
}

#[tokio::test]
async fn what_waited_for_too_long_is_not_paid_on_a_guess() {
    let remote = Remote::new();
    let folder = tempfile::tempdir().unwrap();
    let bounds = SpoolBounds { max_age: Duration::ZERO, ..BOUNDS };
    let spool = Spool::open(remote.clone(), folder.path(), "run", &[7; 32], bounds).await.unwrap();
    remote.is(Way::Cut);
    one(&spool, 1, 1).await;
    assert_eq!(spool.carry_over(DEPTH).await.unwrap(), Carried::Stuck, "the store is away");
    let record = found(&spool, 1).await.unwrap();
    assert_eq!((record.state, record.error), (TransferState::NeedsReview, Some("no_proof")));
    remote.is(Way::Open);
    carry(&spool).await;
    assert_eq!((found(&spool, 1).await, remote.store.depth().await.unwrap().queued), (Some(record), 0));
    assert!(is_new(&one(&spool, 1, 2).await), "whoever has looked may ask again");
}

#[tokio::test]
async fn a_spool_is_one_runs_and_one_process_at_a_time() {
    let remote = Remote::new();
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("a/b");
    let spool = open(&remote, &folder).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("spool.store"))), (0o700, 0o600));
    let again = async |run: &str, namespace: u8| {
        Spool::open(remote.clone(), &folder, run, &[namespace; 32], BOUNDS).await.err().unwrap()
    };
    assert!(matches!(again("run", 7).await, SpoolError::Open(OpenError::Locked { .. })));
    drop(spool);
    let error = again("other", 7).await;
    assert!(matches!(&error, SpoolError::Foreign { .. }));
    let text = error.to_string();
    assert!(text.contains("\"run\"") && text.contains("\"other\"") && text.contains("spool.store"), "{text}");
    let text = again("run", 8).await.to_string();
    assert!(text.contains("namespace"), "{text}");
    open(&remote, &folder).await;
    fs::write(above.path().join("file"), "").unwrap();
    let error = Spool::open(remote.clone(), &above.path().join("file"), "run", &[7; 32], BOUNDS).await.err().unwrap();
    assert!(matches!(error, SpoolError::Folder { .. }), "{error}");
}

#[tokio::test]
async fn lists_and_counts_hold_both_once() {
    let remote = Remote::new();
    let Worker { spool, folder: _folder } = Worker::start(&remote).await;
    for key in 0..4 {
        one(&spool, key, 1).await;
    }
    // One is in both: its answer was lost.
    remote.is(Way::Deaf);
    one(&spool, 4, 1).await;
    for key in 5..9 {
        one(&spool, key, 1).await;
    }
    remote.is(Way::Open);
    assert_eq!(spool.carry_over(0).await.unwrap(), Carried::Some, "the one that is there");
    remote.is(Way::Deaf);
    one(&spool, 9, 1).await;
    remote.is(Way::Open);
    // Away for a moment only: what is spooled stays for as long as the store is full.
    spool.carry_over(0).await.unwrap();
    for limit in 1..12 {
        let (mut listed, mut next, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = spool.list(&Filter::default(), next, limit).await.unwrap();
            assert!(page.records.len() <= limit);
            listed.extend(page.records.iter().map(|record| record.id.0[0]));
            (next, pages) = (page.next, pages + 1);
            if next.is_none() {
                break;
            }
            assert!(pages < 30, "it does not end");
        }
        assert_eq!(listed, [8, 7, 6, 5, 9, 4, 3, 2, 1, 0], "by pages of {limit}");
    }
    let census = spool.census().await.unwrap();
    assert_eq!((census.counts.of(TransferState::Queued), census.depth.queued), (10, 10));
    assert_eq!(spool.note().waiting, 4);
    // Another worker brings one of them.
    one(&remote.store, 6, 1).await;
    let page = spool.list(&Filter::default(), None, 20).await.unwrap();
    let listed: Vec<_> = page.records.iter().map(|record| record.id.0[0]).collect();
    assert_eq!((listed, page.next), (vec![8, 7, 5, 6, 9, 4, 3, 2, 1, 0], None));

    // Withdrawn is what the store has, so that no other worker brings it there.
    let Changed::Done(record) = spool.cancel(id(7)).await.unwrap() else { panic!("it was spooled") };
    assert_eq!((record.state, spool.note().waiting), (TransferState::Cancelled, 3));
    assert_eq!(found(&remote.store, 7).await.unwrap().state, TransferState::Cancelled);
}

#[tokio::test]
async fn without_a_spool_clients_are_asked_to_come_again() {
    let remote = Remote::new();
    let service = Service::over(remote.clone(), settings()).await;
    remote.is(Way::Cut);
    let batch = json!({"transfers": [{"receiver_id": "a.near", "amount": "1", "idempotency_key": "b"}]}).to_string();
    for answer in [
        service.post("/v1/transfers", "k", BOB).await,
        service.post("/send-ft", "k", BOB).await,
        service.ask("post", "/v1/transfers/batch", &[JSON], &batch).await,
        service.get("/v1/transfers").await,
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let ready = service.get("/ready").await;
    assert_eq!((ready.status, ready.json().get("spooled")), (503, None));
    remote.is(Way::Open);
    assert_eq!(service.post("/v1/transfers", "k", BOB).await.status, 202, "nothing was taken by halves");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_notice_that_the_store_is_away() {
    let remote = Remote::new();
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(open(&remote, folder.path()).await);
    let note = spool.clone();
    let (authorization, line) = token("shop", &[Scope::Transfer, Scope::Read], None, Some(100));
    let settings = Settings {
        tokens: Some(Tokens::parse(&line).unwrap()),
        spooled: Some(Arc::new(move || note.note())),
        ..settings()
    };
    let service = Service::over(spool.clone(), settings).await;
    let auth = ("authorization", authorization.as_str());
    let submit = async |key: &str, body: &str| {
        service.ask("post", "/v1/transfers", &[JSON, auth, ("idempotency-key", key)], body).await
    };
    let get = async |path: &str| service.ask("get", path, &[auth], "").await;
    assert_eq!(service.get("/metrics/jobs").await.json()["spooled"], json!({"waiting": 0, "since": null}));

    remote.is(Way::Cut);
    let accepted = submit("k", BOB).await;
    assert_eq!((accepted.status, &accepted.json()["status"]), (202, &json!("queued")));
    let location = accepted.header("location").unwrap().to_owned();
    let replay = submit("k", BOB).await;
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(replay.json(), accepted.json());
    let other = submit("k", &BOB.replace("\"5\"", "\"6\"")).await;
    assert_eq!((other.status, other.code().as_str()), (409, "idempotency_conflict"));
    let dear = submit("dear", &BOB.replace("\"5\"", "\"96\"")).await;
    assert_eq!((dear.status, dear.code().as_str()), (403, "daily_cap_exceeded"));
    let view = get(&location).await;
    assert_eq!((view.status, &view.json()["status"]), (200, &json!("queued")));
    let by_key = get("/v1/transfers?idempotency_key=k").await.json();
    assert_eq!(by_key["transfers"][0]["transfer_id"], accepted.json()["transfer_id"]);
    assert_eq!(get("/v1/transfers").await.code(), "store_unavailable");
    assert_eq!(get(&format!("/v1/transfers/{}", "0".repeat(32))).await.code(), "store_unavailable", "not: unknown");
    let cancel = service.ask("post", &format!("{location}/cancel"), &[auth], "").await;
    assert_eq!(cancel.code(), "store_unavailable");
    let ready = service.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["spooled"]["waiting"]), (200, &json!(1)), "it takes transfers");
    assert!(ready.json()["spooled"]["since"].is_string());

    remote.is(Way::Open);
    let stop = CancellationToken::new();
    let drain = tokio::spawn({
        let (spool, stop) = (spool.clone(), stop.clone());
        async move { spool.drain(DEPTH, stop).await }
    });
    let carried = async {
        while remote.store.depth().await.unwrap().queued == 0 || spool.note().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, carried).await.unwrap();
    assert_eq!(get(&location).await.json()["status"], "queued");
    let attempt = sign(&remote.store, 3).await;
    assert_eq!(get(&location).await.json()["status"], "signed");
    settle(&remote.store, attempt, Settlement::Poisoned { index: 0 }, None).await;
    assert_eq!(get(&location).await.json()["status"], "failed");
    let replay = submit("k", BOB).await;
    assert_eq!((replay.status, &replay.json()["status"]), (200, &json!("failed")));
    assert_eq!(service.get("/ready").await.json()["spooled"], json!({"waiting": 0, "since": null}));
    stop.cancel();
    timeout(PATIENCE, drain).await.unwrap().unwrap().unwrap();
    service.end().await;
}
