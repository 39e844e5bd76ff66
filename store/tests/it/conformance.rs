//! Random steps of several workers, checked against a model that knows where every transfer is.

use bytes::Bytes;
use nearbench_core::{
    Account, Amount, Hash, Transfer, TransferId,
    settle::{DeathCertificate, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{Attempt, AttemptId, Claim, LaneKey, LeaseId, Store, StoreError};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

const LANES: u8 = 2;
const WORKERS: u8 = 3;
const TTL: Duration = Duration::from_secs(10);
const MAX_DEPTH: u64 = 20;

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Acquire { worker: u8, lane: u8 },
    Renew { worker: u8, lane: u8 },
    Leave { worker: u8, lane: u8 },
    Claim { worker: u8, lane: u8, max: u8 },
    Release { nth: u8 },
    Commit { worker: u8, lane: u8, nth: u8, nonce_up: u8 },
    Settle { nth: u8, settlement: Settlement },
    Cancel,
    Wait(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || (0..WORKERS, 0..LANES);
    let settlement = prop_oneof![
        Just(Settlement::All(Fate::Finalized)),
        Just(Settlement::All(Fate::Requeue)),
        Just(Settlement::All(Fate::NeedsReview)),
        (0usize..4).prop_map(|index| Settlement::Poisoned { index }),
    ];
    let step = prop_oneof![
        3 => (0u8..8).prop_map(Step::Push),
        3 => who().prop_map(|(worker, lane)| Step::Acquire { worker, lane }),
        1 => who().prop_map(|(worker, lane)| Step::Renew { worker, lane }),
        1 => who().prop_map(|(worker, lane)| Step::Leave { worker, lane }),
        4 => (who(), 0u8..5).prop_map(|((worker, lane), max)| Step::Claim { worker, lane, max }),
        1 => any::<u8>().prop_map(|nth| Step::Release { nth }),
        4 => (who(), any::<u8>(), 0u8..3)
            .prop_map(|((worker, lane), nth, nonce_up)| Step::Commit { worker, lane, nth, nonce_up }),
        4 => (any::<u8>(), settlement).prop_map(|(nth, settlement)| Step::Settle { nth, settlement }),
        1 => Just(Step::Cancel),
        1 => (1u8..8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

/// Where every transfer is, and who holds which lane.
#[derive(Default)]
struct Model {
    pushed: u64,
    queue: VecDeque<u64>,
    claims: Vec<(Claim, Vec<u64>)>,
    open: Vec<(AttemptId, u8, u64, Vec<u64>)>,
    done: BTreeMap<u64, Fate>,
    /// Holder and the model's time at which the lease ends.
    leases: [Option<(u8, u64)>; LANES as usize],
    high_water: [u64; LANES as usize],
    now: u64,
}

impl Model {
    fn holds(&self, worker: u8, lane: u8) -> bool {
        self.leases[lane as usize].is_some_and(|(holder, until)| holder == worker && self.now < until)
    }

    fn settle(&mut self, transfers: &[u64], settlement: Settlement) {
        for (index, id) in transfers.iter().enumerate().rev() {
            match settlement.fate(index) {
                Fate::Requeue => self.queue.push_front(*id),
                fate => assert!(self.done.insert(*id, fate).is_none(), "{id} was settled twice"),
            }
        }
    }
}

fn transfer(n: u64) -> Transfer {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    Transfer {
        id: TransferId(id),
        receiver: Account::new("user.near").unwrap(),
        amount: Amount(1),
        sequence: n,
        phase: 0,
        intended_ns: n,
        sent_ns: n,
    }
}

fn key(lane: u8) -> LaneKey {
    LaneKey { account: Account::new("bench.near").unwrap(), public_key: format!("ed25519:{lane}").into() }
}

fn lease(worker: u8) -> LeaseId {
    LeaseId([worker; 16])
}

fn attempt(nonce: u64) -> Attempt {
    Attempt { hash: Hash([nonce as u8; 32]), bytes: Bytes::new(), nonce, base_height: 0, expiry_height: 0 }
}

fn settled(settlement: Settlement) -> Settled {
    let proof = Proof::Dead(DeathCertificate::Expired { key_nonce: 0, height: 1 });
    Settled { settlement, proof, failure: None, at_ns: 0 }
}

fn numbers(transfers: &[Transfer]) -> Vec<u64> {
    transfers.iter().map(|transfer| transfer.sequence).collect()
}

/// Runs random histories against stores that `make` makes. Time is paused and moves only by `Step::Wait`.
pub(crate) fn suite<S: Store>(make: impl Fn() -> S) {
    let mut runner = TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
    runner
        .run(&steps(), |steps| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(history(&make(), steps));
            Ok(())
        })
        .unwrap();
}

async fn history<S: Store>(store: &S, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        apply(store, &mut model, step).await;
        let depth = store.depth().await.unwrap();
        assert_eq!(depth.queued, model.queue.len() as u64);
        assert_eq!(depth.claimed, model.claims.iter().map(|(_, ids)| ids.len() as u64).sum::<u64>());
        assert_eq!(depth.open, model.open.iter().map(|(.., ids)| ids.len() as u64).sum::<u64>());
    }
    // Whatever was pushed is in exactly one place.
    let mut all: Vec<u64> = model.queue.iter().copied().collect();
    all.extend(model.claims.iter().flat_map(|(_, ids)| ids));
    all.extend(model.open.iter().flat_map(|(.., ids)| ids));
    all.extend(model.done.keys());
    all.sort_unstable();
    assert_eq!(all, (0..model.pushed).collect::<Vec<_>>());
    assert_eq!(numbers(&store.cancel_queued().await.unwrap()), Vec::from(model.queue));
}

async fn apply<S: Store>(store: &S, model: &mut Model, step: Step) {
    match step {
        Step::Push(count) => {
            let new: Vec<_> = (0..u64::from(count)).map(|i| transfer(model.pushed + i)).collect();
            let taken = store.push(new, MAX_DEPTH).await.unwrap() as u64;
            let room = MAX_DEPTH.saturating_sub(model.queue.len() as u64);
            assert_eq!(taken, u64::from(count).min(room));
            model.queue.extend(model.pushed..model.pushed + taken);
            model.pushed += taken;
        }
        Step::Acquire { worker, lane } => {
            let answer = store.acquire(&key(lane), lease(worker), TTL).await;
            let other = model.leases[lane as usize].filter(|(holder, until)| *holder != worker && model.now < *until);
            match other {
                Some(_) => assert!(matches!(answer, Err(StoreError::Held { .. })), "{answer:?}"),
                None => {
                    let found = answer.unwrap();
                    assert_eq!(found.high_water, model.high_water[lane as usize]);
                    let mut open: Vec<_> = model.open.iter().filter(|(_, on, ..)| *on == lane).collect();
                    open.sort_by_key(|(_, _, nonce, _)| *nonce);
                    let found: Vec<_> =
                        found.open.iter().map(|(id, attempt, ids)| (*id, attempt.nonce, numbers(ids))).collect();
                    let expected: Vec<_> = open.iter().map(|(id, _, nonce, ids)| (*id, *nonce, ids.clone())).collect();
                    assert_eq!(found, expected);
                    model.leases[lane as usize] = Some((worker, model.now + TTL.as_secs()));
                }
            }
        }
        Step::Renew { worker, lane } => {
            let answer = store.renew(&key(lane), lease(worker), TTL).await;
            assert_eq!(answer.is_ok(), model.holds(worker, lane));
            if answer.is_ok() {
                model.leases[lane as usize] = Some((worker, model.now + TTL.as_secs()));
            }
        }
        Step::Leave { worker, lane } => {
            let answer = store.release_lane(&key(lane), lease(worker)).await;
            assert_eq!(answer.is_ok(), model.holds(worker, lane));
            if answer.is_ok() {
                model.leases[lane as usize] = None;
            }
        }
        Step::Claim { worker, lane, max } => {
            let answer = store.claim(&key(lane), lease(worker), max as usize).await;
            if !model.holds(worker, lane) {
                assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
                return;
            }
            let take = (max as usize).min(model.queue.len());
            let expected: Vec<u64> = model.queue.drain(..take).collect();
            match answer.unwrap() {
                None => assert!(expected.is_empty()),
                Some(claim) => {
                    assert_eq!(numbers(&claim.transfers), expected);
                    model.claims.push((claim, expected));
                }
            }
        }
        Step::Release { nth } => {
            if model.claims.is_empty() {
                return;
            }
            let (claim, ids) = model.claims.remove(nth as usize % model.claims.len());
            store.release(claim.id).await.unwrap();
            assert_eq!(store.release(claim.id).await, Err(StoreError::ClaimLost(claim.id)));
            for id in ids.into_iter().rev() {
                model.queue.push_front(id);
            }
        }
        Step::Commit { worker, lane, nth, nonce_up } => {
            if model.claims.is_empty() {
                return;
            }
            let nth = nth as usize % model.claims.len();
            let nonce = model.high_water[lane as usize] + u64::from(nonce_up);
            let answer = store.commit(&key(lane), lease(worker), Some(model.claims[nth].0.id), attempt(nonce)).await;
            if !model.holds(worker, lane) {
                assert!(matches!(answer, Err(StoreError::LeaseLost(_))), "{answer:?}");
            } else if nonce_up == 0 {
                assert!(matches!(answer, Err(StoreError::NonceReused { .. })), "{answer:?}");
            } else {
                let (claim, ids) = model.claims.remove(nth);
                model.open.push((answer.unwrap(), lane, nonce, ids));
                model.high_water[lane as usize] = nonce;
                let again = store.commit(&key(lane), lease(worker), Some(claim.id), attempt(nonce + 1)).await;
                assert_eq!(again, Err(StoreError::ClaimLost(claim.id)));
            }
        }
        Step::Settle { nth, settlement } => {
            if model.open.is_empty() {
                return;
            }
            let (id, .., ids) = model.open.remove(nth as usize % model.open.len());
            store.settle(id, &settled(settlement)).await.unwrap();
            model.settle(&ids, settlement);
            assert_eq!(store.settle(id, &settled(settlement)).await, Err(StoreError::NotOpen(id)));
        }
        Step::Cancel => {
            let cancelled = numbers(&store.cancel_queued().await.unwrap());
            assert_eq!(cancelled, Vec::from(std::mem::take(&mut model.queue)));
            model.done.extend(cancelled.into_iter().map(|id| (id, Fate::Failed)));
        }
        Step::Wait(seconds) => {
            model.now += u64::from(seconds);
            tokio::time::advance(Duration::from_secs(seconds.into())).await;
        }
    }
}
