//! Random steps of several workers and clients, checked against a model that knows where every transfer is; and, where
//! the backend outlives its process, crashes between any two steps and, of a file, within any of them.

use crate::disk::{Disk, Keep};
use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use nearbench_core::{
    Account, Amount, Hash, Memo, Nonce, Transfer, TransferId, TransferState,
    plan::Batch,
    settle::{DeathCertificate, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{
    Accepted, Attempt, AttemptId, Changed, ClaimId, Details, Digest, FileStore, Filter, LaneKey, LeaseId, MemoryStore,
    Recall, Record, Records, ResultRow, Store, StoreError, Submission,
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};

const LANES: u8 = 2;
const WORKERS: u8 = 3;
pub(crate) const TTL: Duration = Duration::from_secs(10);
/// More than fit a row of a file's queue.
const MAX_DEPTH: u64 = 150;

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    /// Several clients at once, and the settlement of an attempt among them.
    Together {
        pushes: Vec<u8>,
        nth: u8,
        settlement: Settlement,
    },
    Acquire {
        worker: u8,
        lane: u8,
    },
    Renew {
        worker: u8,
        lane: u8,
    },
    Leave {
        worker: u8,
        lane: u8,
    },
    Claim {
        worker: u8,
        lane: u8,
        batch: Batch,
        at_most: u8,
    },
    Release {
        nth: u8,
    },
    Commit {
        worker: u8,
        lane: u8,
        nth: u8,
        nonce_up: u8,
    },
    Fence {
        worker: u8,
        lane: u8,
    },
    Reserve {
        worker: u8,
        lane: u8,
        count: u8,
    },
    Raise {
        worker: u8,
        lane: u8,
        floor: u8,
    },
    Settle {
        nth: u8,
        settlement: Settlement,
    },
    /// Ids of claims and attempts that are over, in this life of the store or an earlier one.
    Stale {
        worker: u8,
        lane: u8,
        nth: u8,
    },
    Cancel,
    /// New ones, and some that were submitted before, with the same body or another.
    Accept {
        new: u8,
        again: Vec<(u8, bool)>,
    },
    Sent {
        nth: u8,
    },
    CancelOne {
        nth: u8,
    },
    Retry {
        nth: u8,
    },
    Wait(u8),
    /// Now, or within the step that makes the disk's nth write from here.
    Crash {
        within: Option<u8>,
        keep: Keep,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || (0..WORKERS, 0..LANES);
    let settlement = || {
        prop_oneof![
            Just(Settlement::All(Fate::Finalized)),
            Just(Settlement::All(Fate::Requeue)),
            Just(Settlement::All(Fate::NeedsReview)),
            (0usize..4).prop_map(|index| Settlement::Poisoned { index }),
        ]
    };
    let count = || prop_oneof![8 => 0u8..8, 1 => 100u8..160];
    let keep = prop_oneof![
        Just(Keep::Nothing),
        Just(Keep::Everything),
        any::<u8>().prop_map(|count| Keep::First(count % 16)),
        any::<u64>().prop_map(Keep::Some),
    ];
    let step = prop_oneof![
        3 => count().prop_map(Step::Push),
        1 => (prop::collection::vec(0u8..5, 1..4), any::<u8>(), settlement())
            .prop_map(|(pushes, nth, settlement)| Step::Together { pushes, nth, settlement }),
        3 => who().prop_map(|(worker, lane)| Step::Acquire { worker, lane }),
        1 => who().prop_map(|(worker, lane)| Step::Renew { worker, lane }),
        1 => who().prop_map(|(worker, lane)| Step::Leave { worker, lane }),
        4 => (who(), (0u32..20, count(), 0u32..4), count()).prop_map(|((worker, lane), (min, max, depth_divisor), at_most)| {
            Step::Claim { worker, lane, batch: Batch { min, max: max.into(), depth_divisor }, at_most }
        }),
        1 => any::<u8>().prop_map(|nth| Step::Release { nth }),
        4 => (who(), any::<u8>(), 0u8..3)
            .prop_map(|((worker, lane), nth, nonce_up)| Step::Commit { worker, lane, nth, nonce_up }),
        1 => who().prop_map(|(worker, lane)| Step::Fence { worker, lane }),
        1 => (who(), 0u8..5).prop_map(|((worker, lane), count)| Step::Reserve { worker, lane, count }),
        1 => (who(), any::<u8>()).prop_map(|((worker, lane), floor)| Step::Raise { worker, lane, floor }),
        4 => (any::<u8>(), settlement()).prop_map(|(nth, settlement)| Step::Settle { nth, settlement }),
        1 => (who(), any::<u8>()).prop_map(|((worker, lane), nth)| Step::Stale { worker, lane, nth }),
        1 => Just(Step::Cancel),
        3 => (count(), prop::collection::vec(any::<(u8, bool)>(), 0..3)).prop_map(|(new, again)| Step::Accept { new, again }),
        2 => any::<u8>().prop_map(|nth| Step::Sent { nth }),
        1 => any::<u8>().prop_map(|nth| Step::CancelOne { nth }),
        2 => any::<u8>().prop_map(|nth| Step::Retry { nth }),
        1 => (1u8..8).prop_map(Step::Wait),
        2 => (prop::option::of(0u8..40), keep).prop_map(|(within, keep)| Step::Crash { within, keep }),
    ];
    prop::collection::vec(step, 0..80)
}

#[derive(Clone, Debug, PartialEq)]
struct Open {
    /// `None` until the store said it.
    id: Option<AttemptId>,
    lane: u8,
    nonce: u64,
    transfers: Vec<u64>,
}

/// What is known of a transfer that was submitted under a key.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    state: TransferState,
    /// Of the last attempt.
    nonce: Option<u64>,
    attempts: u32,
    error: Option<&'static str>,
    /// States, and the attempts that brought them.
    events: Vec<(TransferState, Option<u64>)>,
}

impl Known {
    fn new() -> Self {
        let state = TransferState::Queued;
        Self { state, nonce: None, attempts: 0, error: None, events: vec![(state, None)] }
    }

    fn move_to(&mut self, state: TransferState, nonce: Option<u64>, error: Option<&'static str>) {
        self.state = state;
        self.error = error;
        self.events.push((state, nonce));
    }

    fn is(&self, record: &Record, n: u64) -> bool {
        let Details { receiver, amount, memo, events } = &**record.details.as_ref().unwrap();
        let hash = |nonce: Option<u64>| nonce.map(|nonce| attempt(nonce).hash);
        let Transfer { id, receiver: to, amount: much, memo: about, .. } = transfer(n);
        let times: Vec<_> = events.iter().map(|event| event.at).collect();
        (record.id, receiver, amount, memo) == (id, &to, &much, &about)
            && (record.state, record.attempts, record.error) == (self.state, self.attempts, self.error)
            && record.tx_hash == hash(self.nonce)
            && events
                .iter()
                .map(|event| (event.state, event.tx_hash))
                .eq(self.events.iter().map(|(s, n)| (*s, hash(*n))))
            && times.first() == Some(&record.created)
            && record.created <= record.updated
            && record.finalized == nearbench_store::is_final(self.state).then_some(record.updated)
    }

    /// That it was sent is a hint: a crash may lose it.
    fn without_hints(&self) -> Self {
        let mut known = self.clone();
        if known.state == TransferState::Submitted {
            known.state = TransferState::Signed;
        }
        // What was sent before it was put back is written with that.
        if known.events.last().is_some_and(|(state, _)| *state == TransferState::Submitted) {
            known.events.pop();
        }
        known
    }
}

/// Where every transfer is, and who holds which lane.
#[derive(Clone, Debug, Default)]
struct Model {
    accepted: Vec<u64>,
    /// Those that have records.
    records: BTreeMap<u64, Known>,
    retried: BTreeSet<u64>,
    queue: VecDeque<u64>,
    /// The queue with the claimed ones at their places: what it is after a crash.
    places: VecDeque<u64>,
    /// With the time at which each is taken back, where the backend does that.
    claims: Vec<(ClaimId, Vec<u64>, u64)>,
    open: Vec<Open>,
    results: Vec<ResultRow>,
    /// Holder and the time at which the lease ends.
    leases: [Option<(u8, u64)>; LANES as usize],
    /// The highest nonce that an attempt used, and the highest that was reserved.
    used: [Nonce; LANES as usize],
    reserved: [Nonce; LANES as usize],
}

impl Model {
    fn push(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.accepted.push(id);
            self.queue.push_back(id);
            self.places.push_back(id);
        }
    }

    fn leave(&mut self, ids: &[u64]) {
        self.places.retain(|id| !ids.contains(id));
    }

    fn put_back(&mut self, ids: impl DoubleEndedIterator<Item = u64>) {
        for id in ids.rev() {
            self.queue.push_front(id);
            self.places.push_front(id);
        }
    }

    fn release(&mut self, nth: usize) -> ClaimId {
        let (id, transfers, _) = self.claims.remove(nth);
        self.leave(&transfers);
        self.put_back(transfers.into_iter());
        id
    }

    fn transfer(&self, n: u64) -> Transfer {
        if self.retried.contains(&n) { again(n) } else { transfer(n) }
    }

    fn known(&mut self, ids: &[u64], change: impl Fn(usize, &mut Known)) {
        for (index, id) in ids.iter().enumerate() {
            if let Some(known) = self.records.get_mut(id) {
                change(index, known);
            }
        }
    }

    fn commit(&mut self, lane: u8, nonce: u64, claim: Option<usize>) {
        let transfers = claim.map(|nth| self.claims.remove(nth).1).unwrap_or_default();
        self.leave(&transfers);
        self.known(&transfers, |_, known| {
            known.nonce = Some(nonce);
            known.attempts += 1;
            known.move_to(TransferState::Signed, Some(nonce), known.error);
        });
        self.open.push(Open { id: None, lane, nonce, transfers });
        self.used[lane as usize] = nonce;
        self.reserved[lane as usize] = self.reserved[lane as usize].max(nonce);
    }

    fn reserve(&mut self, lane: u8, count: u8) -> Nonce {
        let reserved = &mut self.reserved[lane as usize];
        *reserved += Nonce::from(count);
        *reserved + 1 - Nonce::from(count)
    }

    fn settle(&mut self, nth: usize, settlement: Settlement) {
        let open = self.open.remove(nth);
        let back = open.transfers.iter().enumerate().filter(|(index, _)| settlement.fate(*index) == Fate::Requeue);
        self.put_back(back.map(|(_, id)| *id).collect::<Vec<_>>().into_iter());
        self.known(&open.transfers, |index, known| {
            let (state, error) = match settlement.fate(index) {
                Fate::Finalized => (TransferState::Finalized, None),
                Fate::Failed => (TransferState::Failed, Some("failed")),
                Fate::Requeue => (TransferState::Queued, None),
                Fate::NeedsReview => (TransferState::NeedsReview, Some("no_proof")),
            };
            known.move_to(state, Some(open.nonce), error);
        });
        self.results.push(ResultRow::Settled {
            hash: attempt(open.nonce).hash,
            nonce: open.nonce,
            settled: settled(settlement),
            transfers: open.transfers.iter().map(|id| (&self.transfer(*id)).into()).collect(),
        });
    }

    fn cancel(&mut self) -> Vec<u64> {
        let cancelled = Vec::from(std::mem::take(&mut self.queue));
        self.cancelled(&cancelled);
        cancelled
    }

    fn cancelled(&mut self, cancelled: &[u64]) {
        self.leave(cancelled);
        self.queue.retain(|id| !cancelled.contains(id));
        self.known(cancelled, |_, known| known.move_to(TransferState::Cancelled, None, known.error));
        if !cancelled.is_empty() {
            let transfers = cancelled.iter().map(|id| (&self.transfer(*id)).into()).collect();
            self.results.push(ResultRow::Cancelled { transfers });
        }
    }

    /// What the store is to answer to each, in order.
    fn accept(&mut self, submissions: &[(u64, bool)]) -> Vec<Answer> {
        let mut new = Vec::new();
        let answers = submissions
            .iter()
            .map(|(n, same)| match self.records.get(n) {
                Some(_) if !same => Answer::Conflict,
                Some(known) => Answer::Replayed(known.clone()),
                None if (self.queue.len() + new.len()) as u64 >= MAX_DEPTH => Answer::Full,
                None => {
                    self.records.insert(*n, Known::new());
                    new.push(*n);
                    Answer::New
                }
            })
            .collect();
        self.push(new);
        answers
    }

    fn retry(&mut self, n: u64) {
        if let Some(known) = self.records.get_mut(&n) {
            known.move_to(TransferState::Queued, None, None);
        }
        self.retried.insert(n);
        self.push([n]);
    }

    /// Takes back the claims whose time is over, the oldest to the very head.
    fn expire(&mut self, now: u64) -> Vec<ClaimId> {
        let over: Vec<usize> = (0..self.claims.len()).filter(|nth| self.claims[*nth].2 <= now).collect();
        over.into_iter().rev().map(|nth| self.release(nth)).collect()
    }

    /// What the end of the process that has it all in memory leaves of it.
    fn after_crash(mut self) -> Self {
        self.queue = self.places.clone();
        self.claims.clear();
        self.leases = Default::default();
        self.reserved = self.used;
        self
    }

    fn unsettled(&self, shared: bool) -> Vec<Transfer> {
        let mut open: Vec<_> = self.open.iter().collect();
        let mut places: Vec<_> = self.places.iter().copied().collect();
        if shared {
            open.sort_by_key(|open| (open.nonce, open.lane));
            places = self.claims.iter().flat_map(|(_, ids, _)| ids).chain(&self.queue).copied().collect();
        }
        let open = open.into_iter().flat_map(|open| &open.transfers);
        places.iter().chain(open).map(|id| self.transfer(*id)).collect()
    }

    /// Everything accepted is in exactly one place.
    fn is_whole(&self) {
        let mut all: Vec<u64> = self.places.iter().copied().collect();
        all.extend(self.open.iter().flat_map(|open| &open.transfers));
        for result in &self.results {
            match result {
                ResultRow::Cancelled { transfers } => all.extend(transfers.iter().map(|transfer| number(transfer.id))),
                ResultRow::Settled { settled, transfers, .. } => all.extend(
                    transfers
                        .iter()
                        .enumerate()
                        .filter(|(index, _)| settled.settlement.fate(*index) != Fate::Requeue)
                        .map(|(_, transfer)| number(transfer.id)),
                ),
            }
        }
        all.sort_unstable();
        let mut accepted = self.accepted.clone();
        accepted.sort_unstable();
        assert_eq!(all, accepted);
    }
}

#[derive(Debug)]
enum Answer {
    New,
    Replayed(Known),
    Conflict,
    Full,
}

impl Answer {
    fn is(&self, accepted: &Accepted, n: u64) -> bool {
        match (self, accepted) {
            (Self::New, Accepted::New { .. }) | (Self::Conflict, Accepted::Conflict) | (Self::Full, Accepted::Full) => {
                true
            }
            (Self::Replayed(known), Accepted::Replayed(record)) => known.is(record, n),
            _ => false,
        }
    }
}

fn submission(n: u64, same: bool) -> Submission {
    Submission { transfer: transfer(n), digest: Digest([u8::from(same); 16]), budget: None }
}

/// The time at which transfers are tried again.
const AGAIN_NS: u64 = 77;

/// A transfer that failed and is tried again.
fn again(n: u64) -> Transfer {
    Transfer { sequence: u64::MAX, phase: 0, intended_ns: AGAIN_NS, sent_ns: AGAIN_NS, ..transfer(n) }
}

fn number(id: TransferId) -> u64 {
    u64::from_le_bytes(id.0[..8].try_into().unwrap())
}

/// What a crash was, and left.
pub(crate) enum Crash {
    /// That is not the backend's promise.
    None,
    /// What was confirmed, at least.
    Confirmed,
    /// Everything: those who used the store ended, and others use it now.
    Everything,
    /// Everything but the claims, which were taken back.
    AllButClaims,
}

/// A backend under test.
pub(crate) trait Backend {
    type Store: Store;
    type Records: Records;
    /// Whether the workers are processes, each with a client of its own.
    const SHARED: bool = false;
    /// When a claim is taken back, in seconds.
    const VISIBILITY: u64 = u64::MAX;
    /// The client of this worker.
    fn store(&self, worker: u8) -> &Self::Store;
    /// Where the backend keeps records.
    fn records(&self) -> Option<&Self::Records>;
    /// Results and unsettled transfers, where the backend keeps them.
    async fn kept(&self) -> Option<(Vec<ResultRow>, Vec<Transfer>)>;
    /// Makes the disk fail after so many writes.
    fn fail_after(&mut self, _writes: u8) {}
    /// Crashes, and opens what is left.
    async fn crash(&mut self, keep: Keep) -> Crash;
    /// Lets time pass.
    async fn advance(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

impl Backend for MemoryStore {
    type Store = Self;
    type Records = Self;

    fn store(&self, _: u8) -> &Self {
        self
    }

    fn records(&self) -> Option<&Self> {
        Some(self)
    }

    async fn kept(&self) -> Option<(Vec<ResultRow>, Vec<Transfer>)> {
        None
    }

    async fn crash(&mut self, _: Keep) -> Crash {
        Crash::None
    }
}

/// A [`FileStore`] and the disk below it.
pub(crate) struct OnDisk {
    disk: Disk,
    store: FileStore,
}

impl Default for OnDisk {
    fn default() -> Self {
        let disk = Disk::default();
        let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
        Self { disk, store }
    }
}

impl Backend for OnDisk {
    type Store = FileStore;
    type Records = FileStore;

    fn store(&self, _: u8) -> &FileStore {
        &self.store
    }

    fn records(&self) -> Option<&FileStore> {
        Some(&self.store)
    }

    async fn kept(&self) -> Option<(Vec<ResultRow>, Vec<Transfer>)> {
        let mut results = Vec::new();
        // A file is read at once.
        self.store.results(&mut |result| results.push(result)).now_or_never().unwrap().unwrap();
        Some((results, self.store.unsettled().now_or_never().unwrap().unwrap()))
    }

    fn fail_after(&mut self, writes: u8) {
        self.disk.fail_after(writes.into(), io::ErrorKind::StorageFull);
    }

    async fn crash(&mut self, keep: Keep) -> Crash {
        // The disk as it is now: what the old store still writes when it is dropped goes to the old one.
        self.disk = self.disk.after_crash(keep);
        self.store = FileStore::open_on(self.disk.clone(), "run.store").unwrap();
        Crash::Confirmed
    }
}

pub(crate) fn transfer(n: u64) -> Transfer {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    Transfer {
        id: TransferId(id),
        receiver: Account::new(if n.is_multiple_of(3) { "user.near" } else { "another.near" }).unwrap(),
        amount: Amount(u128::from(n) << 60),
        memo: n.is_multiple_of(5).then(|| Memo::new(&format!("for {n}")).unwrap()),
        sequence: n,
        phase: n as u16,
        intended_ns: n * 1_000,
        sent_ns: n * 1_001,
    }
}

pub(crate) fn key(lane: u8) -> LaneKey {
    LaneKey { account: Account::new("bench.near").unwrap(), public_key: format!("ed25519:{lane}").into() }
}

pub(crate) fn lease(worker: u8) -> LeaseId {
    LeaseId([worker; 16])
}

/// As many as there are, up to `count`.
pub(crate) fn whole(count: u32) -> Batch {
    Batch { min: count, max: count, depth_divisor: 1 }
}

pub(crate) fn attempt(nonce: u64) -> Attempt {
    Attempt {
        hash: Hash([nonce as u8; 32]),
        bytes: Bytes::from(vec![nonce as u8; nonce as usize * 100]),
        nonce,
        base_height: nonce * 3,
        expiry_height: nonce * 5,
    }
}

pub(crate) fn settled(settlement: Settlement) -> Settled {
    let proof = Proof::Dead(DeathCertificate::Expired { key_nonce: 0, height: 1 });
    Settled { settlement, proof, failure: None, at_ns: 7 }
}

pub(crate) fn numbers(transfers: &[Transfer]) -> Vec<u64> {
    transfers.iter().map(|transfer| number(transfer.id)).collect()
}

/// Runs random histories against backends that `make` makes. Time is paused where the backend lives in this process, and
/// moves only by `Step::Wait`. `PROPTEST_CASES` says how many; `share` is how many of them are run.
pub(crate) fn suite<B: Backend>(share: u32, make: impl AsyncFn() -> B) {
    let config = ProptestConfig::default();
    let cases = config.cases.div_ceil(share);
    let max_shrink_iters = if B::SHARED { 256 } else { config.max_shrink_iters };
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, cases, max_shrink_iters, ..config });
    runner
        .run(&steps(), |steps| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(!B::SHARED).build().unwrap();
            runtime.block_on(async { history(make().await, steps).await });
            Ok(())
        })
        .unwrap();
}

async fn history<B: Backend>(backend: B, steps: Vec<Step>) {
    let first = Model::default();
    let mut world = World {
        backend,
        since: vec![first.clone()],
        model: first,
        pushed: 0,
        now: 0,
        over: (Vec::new(), Vec::new()),
        keep: Keep::Nothing,
    };
    for step in steps {
        world.apply(step).await;
        world.check().await;
    }
    world.keep = Keep::Nothing;
    world.crash().await;
    world.check().await;
    world.check_list().await;
    assert_eq!(world.claim_all().await, Vec::from(world.model.queue));
}

struct World<B> {
    backend: B,
    model: Model,
    /// The model after each step from the last confirmed one on: a crash leaves one of them.
    since: Vec<Model>,
    pushed: u64,
    now: u64,
    /// Claims and attempts that are over.
    over: (Vec<ClaimId>, Vec<AttemptId>),
    /// What the next crash leaves.
    keep: Keep,
}

/// The answer, or the end of the step where the disk failed: it is done whole (as in `$after`) or not at all.
macro_rules! or_crash {
    ($world:ident, $after:expr, $answer:expr) => {
        match $answer {
            Err(StoreError::File { .. }) => {
                $world.since.push($after);
                return $world.crash().await;
            }
            answer => answer,
        }
    };
}

impl<B: Backend> World<B> {
    fn store(&self) -> &B::Store {
        self.backend.store(0)
    }

    fn of(&self, worker: u8) -> &B::Store {
        self.backend.store(worker)
    }

    fn holds(&self, worker: u8, lane: u8) -> bool {
        self.model.leases[lane as usize].is_some_and(|(holder, until)| holder == worker && self.now < until)
    }

    /// A step that is on disk.
    fn confirmed(&mut self, model: Model) {
        self.model = model;
        self.since = vec![self.model.clone()];
    }

    /// A step that a crash may undo.
    fn done(&mut self, model: Model) {
        self.model = model;
        self.since.push(self.model.clone());
    }

    async fn check(&mut self) {
        self.model.is_whole();
        // A write that nobody waited for may have failed meanwhile.
        let depth = or_crash!(self, self.model.clone(), self.store().depth().await).unwrap();
        assert_eq!(depth.queued, self.model.queue.len() as u64);
        assert_eq!(depth.claimed, self.model.claims.iter().map(|(_, ids, _)| ids.len() as u64).sum::<u64>());
        assert_eq!(depth.open, self.model.open.iter().map(|open| open.transfers.len() as u64).sum::<u64>());
        if let Some(records) = self.backend.records() {
            let ids: Vec<_> = self.model.records.keys().map(|n| transfer(*n).id).collect();
            let found = or_crash!(self, self.model.clone(), records.find(&ids).await).unwrap();
            for ((n, known), record) in self.model.records.iter().zip(found) {
                let record = record.unwrap_or_else(|| panic!("{n}: no record, and {known:?} is known"));
                assert!(known.is(&record, *n), "{n}: {record:?}, and {known:?} is known");
            }
            let census = or_crash!(self, self.model.clone(), records.census().await).unwrap();
            for (state, count) in census.counts.iter() {
                let known = self.model.records.values();
                let came = known.filter(|known| known.state == state).count() as u64;
                assert_eq!(count, came, "{state:?}");
            }
        }
        if let Some((results, unsettled)) = self.backend.kept().await {
            assert_eq!(results, self.model.results);
            assert_eq!(unsettled, self.model.unsettled(B::SHARED));
        }
    }

    /// Pages hold what the filter takes, newest first, and all of it.
    async fn check_list(&self) {
        let Some(records) = self.backend.records() else { return };
        let user: Account = "user.near".parse().unwrap();
        let filters = [
            Filter::default(),
            Filter { receiver: Some(user.clone()), ..Filter::default() },
            Filter { state: Some(TransferState::Finalized), ..Filter::default() },
        ];
        for filter in filters {
            let (mut listed, mut before) = (Vec::new(), None);
            loop {
                let page = records.list(&filter, before, 7).await.unwrap();
                assert!(page.records.len() <= 7);
                for record in &page.records {
                    let n = number(record.id);
                    assert!(self.model.records[&n].is(record, n));
                    listed.push(n);
                }
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            let takes = |(n, known): &(&u64, &Known)| {
                filter.receiver.as_ref().is_none_or(|receiver| transfer(**n).receiver == *receiver)
                    && filter.state.is_none_or(|state| known.state == state)
            };
            let expected: Vec<u64> = self.model.records.iter().filter(takes).map(|(n, _)| *n).rev().collect();
            assert_eq!(listed, expected, "{filter:?}");
        }
    }

    /// Takes the whole queue, by a lane that nobody else uses.
    async fn claim_all(&self) -> Vec<u64> {
        let lane = key(LANES);
        self.store().acquire(&lane, lease(0), TTL).await.unwrap();
        let claim = self.store().claim(&lane, lease(0), &whole(u32::MAX), u32::MAX).await.unwrap();
        claim.map(|claim| numbers(&claim.transfers)).unwrap_or_default()
    }

    /// Crashes, opens the store again, and finds out which of the steps since the last confirmed one it kept.
    async fn crash(&mut self) {
        match self.backend.crash(self.keep).await {
            Crash::None | Crash::Everything => return,
            Crash::AllButClaims => {
                let over = self.model.expire(u64::MAX);
                self.over.0.extend(over);
                return;
            }
            Crash::Confirmed => {}
        }
        self.over.0.extend(self.model.claims.iter().map(|(id, _, _)| *id));
        let (results, unsettled) = self.backend.kept().await.unwrap();
        let depth = self.store().depth().await.unwrap();
        let mut used = [0; LANES as usize];
        let mut open = Vec::new();
        for lane in 0..LANES {
            let found = self.store().acquire(&key(lane), lease(0), TTL).await.unwrap();
            self.store().release_lane(&key(lane), lease(0)).await.unwrap();
            used[lane as usize] = found.high_water;
            for (id, attempt, transfers) in found.open {
                assert_eq!(attempt, self::attempt(attempt.nonce));
                open.push(Open { id: Some(id), lane, nonce: attempt.nonce, transfers: numbers(&transfers) });
            }
        }
        open.sort_by_key(|open| open.id);
        assert_eq!(depth.claimed, 0);
        let numbers: BTreeSet<u64> = self.since.iter().flat_map(|model| model.records.keys().copied()).collect();
        let ids: Vec<_> = numbers.iter().map(|n| transfer(*n).id).collect();
        let records = match self.backend.records() {
            Some(records) => records.find(&ids).await.unwrap(),
            None => Vec::new(),
        };
        let records: BTreeMap<u64, Record> =
            numbers.into_iter().zip(records).filter_map(|(n, record)| record.map(|record| (n, record))).collect();
        let same = |(n, known): (&u64, &Known)| {
            records.get(n).is_some_and(|record| known.is(record, *n) || known.without_hints().is(record, *n))
        };
        let found = |model: &Model| {
            let opened = |a: &Open, b: &Open| {
                (a.lane, a.nonce, &a.transfers) == (b.lane, b.nonce, &b.transfers) && (a.id.is_none() || a.id == b.id)
            };
            model.records.len() == records.len()
                && model.records.iter().all(same)
                && model.results == results
                && model.unsettled(false) == unsettled
                && model.used == used
                && model.open.len() == open.len()
                && model.open.iter().zip(&open).all(|(a, b)| opened(a, b))
        };
        let at = self.since.iter().rposition(found);
        let Some(at) = at else {
            panic!("found {results:?} {unsettled:?} {used:?} {open:?}, and none of {:#?}", self.since)
        };
        let mut model = self.since.swap_remove(at).after_crash();
        model.open = open;
        for (n, known) in &mut model.records {
            if !known.is(&records[n], *n) {
                *known = known.without_hints();
            }
        }
        self.confirmed(model);
    }

    /// A record, more often one of those that failed.
    fn nth_record(&self, nth: u8) -> Option<u64> {
        let failed = self.model.records.iter().filter(|(_, known)| known.state == TransferState::Failed);
        let failed: Vec<_> = failed.map(|(n, _)| *n).collect();
        let all: Vec<_> = if nth.is_multiple_of(2) && !failed.is_empty() {
            failed
        } else {
            self.model.records.keys().copied().collect()
        };
        (nth as usize).checked_rem(all.len()).map(|nth| all[nth])
    }

    fn is_changed(&mut self, answer: Changed, done: bool, n: u64, after: Model) {
        let known = &after.records[&n];
        match answer {
            Changed::Done(record) if done => assert!(known.is(&record, n), "{record:?} for {known:?}"),
            Changed::Refused(record) if !done => assert!(known.is(&record, n), "{record:?} for {known:?}"),
            other => panic!("{other:?} for {known:?}"),
        }
        self.confirmed(after);
    }

    fn new_ids(&mut self, count: u8) -> Vec<u64> {
        self.pushed += u64::from(count);
        (self.pushed - u64::from(count)..self.pushed).collect()
    }

    async fn apply(&mut self, step: Step) {
        let mut after = self.model.clone();
        match step {
            Step::Push(count) => {
                let ids = self.new_ids(count);
                let taken = ids.len().min(MAX_DEPTH.saturating_sub(after.queue.len() as u64) as usize);
                after.push(ids[..taken].iter().copied());
                let transfers = ids.iter().map(|id| transfer(*id)).collect();
                assert_eq!(
                    or_crash!(self, after, self.of(count % WORKERS).push(transfers, MAX_DEPTH).await),
                    Ok(taken)
                );
                self.confirmed(after);
            }
            Step::Together { pushes, nth, settlement } if B::SHARED => {
                let pushes: Vec<Vec<u64>> = pushes.into_iter().map(|count| self.new_ids(count)).collect();
                let settle = (!after.open.is_empty()).then(|| nth as usize % after.open.len());
                let attempt = settle.and_then(|nth| after.open[nth].id);
                let pushing = join_all(pushes.iter().zip(0..).map(async |(ids, nth)| {
                    let transfers = ids.iter().map(|id| transfer(*id)).collect();
                    self.of(nth % WORKERS).push(transfers, u64::MAX).await
                }));
                let settling = async {
                    match attempt {
                        Some(attempt) => self.of(2).settle(attempt, &settled(settlement)).await,
                        None => Ok(()),
                    }
                };
                let (pushed, settling) = tokio::join!(pushing, settling);
                settling.unwrap();
                for (ids, taken) in pushes.iter().zip(pushed) {
                    assert_eq!(taken, Ok(ids.len()));
                }
                // Each in one piece; which came first, the store knows.
                let (_, unsettled) = self.backend.kept().await.unwrap();
                let unsettled = numbers(&unsettled);
                let mut pushes: Vec<_> = pushes.into_iter().filter(|ids| !ids.is_empty()).collect();
                pushes.sort_by_key(|ids| unsettled.iter().position(|id| *id == ids[0]));
                pushes.into_iter().for_each(|ids| after.push(ids));
                if let Some(nth) = settle {
                    after.settle(nth, settlement);
                }
                self.over.1.extend(attempt);
                self.confirmed(after);
            }
            Step::Together { pushes, nth, settlement } => {
                let pushes: Vec<Vec<u64>> = pushes.into_iter().map(|count| self.new_ids(count)).collect();
                let mut afters = Vec::new();
                for ids in &pushes {
                    after.push(ids.iter().copied());
                    afters.push(after.clone());
                }
                let settle = (!after.open.is_empty()).then(|| nth as usize % after.open.len());
                let attempt = settle.and_then(|nth| after.open[nth].id);
                if let Some(nth) = settle {
                    after.settle(nth, settlement);
                    afters.push(after.clone());
                }
                // Each is polled once, in this order, before any is answered.
                enum Act {
                    Push(Vec<Transfer>),
                    Settle(AttemptId),
                }
                let mut acts: Vec<_> =
                    pushes.iter().map(|ids| Act::Push(ids.iter().map(|id| transfer(*id)).collect())).collect();
                acts.extend(attempt.map(Act::Settle));
                let store = self.backend.store(0);
                let answers = join_all(acts.into_iter().map(|act| async move {
                    match act {
                        Act::Push(transfers) => store.push(transfers, u64::MAX).await.map(drop),
                        Act::Settle(attempt) => store.settle(attempt, &settled(settlement)).await,
                    }
                }))
                .await;
                assert_eq!(answers.len(), afters.len());
                let mut failed = false;
                for (answer, after) in answers.into_iter().zip(afters) {
                    match answer {
                        Ok(()) => self.confirmed(after),
                        Err(StoreError::File { .. }) => {
                            failed = true;
                            self.since.push(after);
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                if failed {
                    return self.crash().await;
                }
                self.over.1.extend(attempt);
            }
            Step::Acquire { worker, lane } => {
                let answer = or_crash!(self, after, self.of(worker).acquire(&key(lane), lease(worker), TTL).await);
                let other =
                    after.leases[lane as usize].filter(|(holder, until)| *holder != worker && self.now < *until);
                if other.is_some() {
                    assert!(matches!(answer, Err(StoreError::Held { .. })), "{answer:?}");
                    return;
                }
                let found = answer.unwrap();
                assert_eq!(found.high_water, after.reserved[lane as usize]);
                let mut open: Vec<_> = after.open.iter().filter(|open| open.lane == lane).cloned().collect();
                open.sort_by_key(|open| open.nonce);
                let found: Vec<_> = found
                    .open
                    .into_iter()
                    .map(|(id, attempt, ids)| Open {
                        id: Some(id),
                        lane,
                        nonce: attempt.nonce,
                        transfers: numbers(&ids),
                    })
                    .collect();
                assert_eq!(found, open);
                after.leases[lane as usize] = Some((worker, self.now + TTL.as_secs()));
                self.done(after);
            }
            Step::Renew { worker, lane } => {
                let answer = or_crash!(self, after, self.of(worker).renew(&key(lane), lease(worker), TTL).await);
                assert_eq!(answer.is_ok(), self.holds(worker, lane));
                if answer.is_ok() {
                    after.leases[lane as usize] = Some((worker, self.now + TTL.as_secs()));
                    self.done(after);
                }
            }
            Step::Leave { worker, lane } => {
                let answer = or_crash!(self, after, self.of(worker).release_lane(&key(lane), lease(worker)).await);
                assert_eq!(answer.is_ok(), self.holds(worker, lane));
                if answer.is_ok() {
                    after.leases[lane as usize] = None;
                    self.done(after);
                }
            }
            Step::Claim { worker, lane, batch, at_most } => {
                let answer = self.of(worker).claim(&key(lane), lease(worker), &batch, at_most.into()).await;
                let answer = or_crash!(self, after, answer);
                if !self.holds(worker, lane) {
                    assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
                    return;
                }
                let depth = after.queue.len() as u64;
                let take = nearbench_core::batch::size(depth, &batch, at_most.into());
                let expected: Vec<u64> = after.queue.drain(..take as usize).collect();
                match answer.unwrap() {
                    None => assert!(expected.is_empty()),
                    Some(claim) => {
                        assert_eq!(numbers(&claim.transfers), expected);
                        assert_eq!((claim.nonce, claim.depth), (after.reserve(lane, 1), depth));
                        after.claims.push((claim.id, expected, self.now.saturating_add(B::VISIBILITY)));
                    }
                }
                self.done(after);
            }
            Step::Release { nth } => {
                if after.claims.is_empty() {
                    return;
                }
                let claim = after.release(nth as usize % after.claims.len());
                or_crash!(self, after, self.of(nth % WORKERS).release(claim).await).unwrap();
                self.over.0.push(claim);
                self.done(after);
            }
            Step::Commit { worker, lane, nth, nonce_up } => {
                if after.claims.is_empty() {
                    return;
                }
                let nth = nth as usize % after.claims.len();
                let claim = after.claims[nth].0;
                let nonce = after.used[lane as usize] + u64::from(nonce_up);
                let may = self.holds(worker, lane);
                let committed = may && nonce_up > 0;
                if committed {
                    after.commit(lane, nonce, Some(nth));
                }
                let answer = self.of(worker).commit(&key(lane), lease(worker), Some(claim), attempt(nonce)).await;
                let answer = or_crash!(self, after, answer);
                if !may {
                    assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
                } else if !committed {
                    assert!(matches!(answer, Err(StoreError::NonceReused { .. })), "{answer:?}");
                } else {
                    after.open.last_mut().unwrap().id = Some(answer.unwrap());
                    self.over.0.push(claim);
                    self.confirmed(after);
                }
            }
            Step::Fence { worker, lane } => {
                let nonce = after.used[lane as usize] + 1;
                let may = self.holds(worker, lane);
                if may {
                    after.commit(lane, nonce, None);
                }
                let answer = self.of(worker).commit(&key(lane), lease(worker), None, attempt(nonce)).await;
                let answer = or_crash!(self, after, answer);
                if may {
                    after.open.last_mut().unwrap().id = Some(answer.unwrap());
                    self.confirmed(after);
                } else {
                    assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
                }
            }
            Step::Reserve { worker, lane, count } => {
                let answer = self.of(worker).reserve(&key(lane), lease(worker), count.into()).await;
                let answer = or_crash!(self, after, answer);
                if !self.holds(worker, lane) {
                    assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
                    return;
                }
                assert_eq!(answer.unwrap(), after.reserve(lane, count));
                self.done(after);
            }
            Step::Raise { worker, lane, floor } => {
                let answer = self.of(worker).raise(&key(lane), lease(worker), floor.into()).await;
                let answer = or_crash!(self, after, answer);
                if !self.holds(worker, lane) {
                    assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
                    return;
                }
                answer.unwrap();
                let reserved = &mut after.reserved[lane as usize];
                *reserved = (*reserved).max(floor.into());
                self.done(after);
            }
            Step::Settle { nth, settlement } => {
                if after.open.is_empty() {
                    return;
                }
                let nth = nth as usize % after.open.len();
                let id = after.open[nth].id.unwrap();
                after.settle(nth, settlement);
                or_crash!(self, after, self.of((nth % WORKERS as usize) as u8).settle(id, &settled(settlement)).await)
                    .unwrap();
                self.over.1.push(id);
                self.confirmed(after);
            }
            Step::Stale { worker, lane, nth } => {
                let (claims, attempts) = &self.over;
                if let Some(id) = claims.get(nth as usize % claims.len().max(1)).copied() {
                    let answer = or_crash!(self, after, self.store().release(id).await);
                    assert_eq!(answer, Err(StoreError::ClaimLost(id)));
                    if self.holds(worker, lane) {
                        let nonce = after.used[lane as usize] + 1;
                        let answer = self.of(worker).commit(&key(lane), lease(worker), Some(id), attempt(nonce)).await;
                        assert_eq!(or_crash!(self, after, answer), Err(StoreError::ClaimLost(id)));
                    }
                }
                let attempts = attempts.clone();
                if let Some(id) = attempts.get(nth as usize % attempts.len().max(1)).copied() {
                    let all = settled(Settlement::All(Fate::Finalized));
                    let answer = or_crash!(self, after, self.store().settle(id, &all).await);
                    assert_eq!(answer, Err(StoreError::NotOpen(id)));
                }
            }
            Step::Cancel => {
                let cancelled = after.cancel();
                let answer = or_crash!(self, after, self.store().cancel_queued().await).unwrap();
                assert_eq!(numbers(&answer), cancelled);
                self.confirmed(after);
            }
            Step::Accept { new, again } => {
                if self.backend.records().is_none() {
                    return;
                }
                let known: Vec<u64> = after.records.keys().copied().collect();
                let mut submissions: Vec<_> = self.new_ids(new).into_iter().map(|n| (n, true)).collect();
                // Some of the old ones come between the new ones, and may be new ones too.
                for (nth, same) in again {
                    let all = known.len() + submissions.len();
                    if let Some(at) = (nth as usize).checked_rem(all) {
                        let n = known.get(at).copied().unwrap_or_else(|| submissions[at - known.len()].0);
                        submissions.push((n, same));
                    }
                }
                let answers = after.accept(&submissions);
                let asked = submissions.iter().map(|(n, same)| submission(*n, *same)).collect();
                let accepted =
                    or_crash!(self, after, self.backend.records().unwrap().accept(asked, MAX_DEPTH).await).unwrap();
                assert_eq!(accepted.len(), answers.len());
                for ((answer, accepted), (n, _)) in answers.iter().zip(&accepted).zip(&submissions) {
                    assert!(answer.is(accepted, *n), "{n}: {accepted:?} for {answer:?}");
                }
                self.confirmed(after);
            }
            Step::Sent { nth } => {
                if self.backend.records().is_none() {
                    return;
                }
                let open = (nth as usize).checked_rem(after.open.len()).map(|nth| after.open[nth].clone());
                // Those that are over mean nothing.
                let mut ids = self.over.1.clone();
                if let Some(open) = open {
                    ids.extend(open.id);
                    after.known(&open.transfers, |_, known| {
                        if known.state == TransferState::Signed {
                            known.move_to(TransferState::Submitted, Some(open.nonce), known.error);
                        }
                    });
                }
                or_crash!(self, after, self.store().sent(&ids).await).unwrap();
                self.done(after);
            }
            Step::CancelOne { nth } => {
                if self.backend.records().is_none() {
                    return;
                }
                let Some(n) = self.nth_record(nth) else { return };
                let queued = after.queue.contains(&n);
                if queued {
                    after.cancelled(&[n]);
                }
                let answer =
                    or_crash!(self, after, self.backend.records().unwrap().cancel(transfer(n).id).await).unwrap();
                self.is_changed(answer, queued, n, after);
            }
            Step::Retry { nth } => {
                if self.backend.records().is_none() {
                    return;
                }
                let Some(n) = self.nth_record(nth) else { return };
                let failed = after.records[&n].state == TransferState::Failed;
                if failed {
                    after.retry(n);
                }
                let answer =
                    or_crash!(self, after, self.backend.records().unwrap().retry(transfer(n).id, AGAIN_NS).await)
                        .unwrap();
                self.is_changed(answer, failed, n, after);
            }
            Step::Wait(seconds) => {
                self.now += u64::from(seconds);
                self.backend.advance(Duration::from_secs(seconds.into())).await;
                let over = self.model.expire(self.now);
                self.over.0.extend(over);
            }
            Step::Crash { within, keep } => {
                self.keep = keep;
                match within {
                    Some(writes) => self.backend.fail_after(writes),
                    None => self.crash().await,
                }
            }
        }
    }
}
