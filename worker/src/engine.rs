//! The engine: one task a lane, and one an attempt under way.

use crate::{
    api::Keys,
    finality::Finality,
    lane::{self, Lane},
    pacer::Pacer,
    sent::{self, Sent},
    tally::Tally,
};
use nearbench_core::{
    Account, Height, Nonce, batch,
    evidence::{Evidence, LaneTime},
    histogram::Coarse,
    outcome::FailureKind,
    plan::{self, ChainLimits},
};
use nearbench_near::{
    Client, Signer,
    transaction::{MAX_ENVELOPE_BYTES, MAX_TRANSFER_ACTION_BYTES},
};
use nearbench_store::{Lane as StoredLane, LaneKey, LeaseId, Store, StoreError};
use rand::Rng;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::AbortHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How long a lane is ours without a word from us, where nobody waits for it.
pub const LEASE: Duration = Duration::from_secs(30);

/// How long a store that does not answer is waited for when a lane is given back.
const FAREWELL: Duration = Duration::from_secs(2);

/// Between two looks at what a drain still waits for.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// What an engine works with.
pub struct Setup<S> {
    /// Where transfers come from and attempts are kept.
    pub store: Arc<S>,
    /// The chain.
    pub client: Client,
    /// The final chain.
    pub finality: Finality,
    /// Where results are counted.
    pub tally: Arc<Tally>,
    /// The lanes to begin with, with their keys' nonces on chain.
    pub lanes: Vec<(Signer, Nonce)>,
    /// How long a lane is ours without a word from us.
    pub lease: Duration,
    /// The token whose `ft_transfer` is called.
    pub token: Account,
    /// How to work.
    pub engine: plan::Engine,
    /// What a transaction may hold.
    pub limits: ChainLimits,
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A lane cannot be taken.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) struct Shared<S> {
    pub(crate) store: Arc<S>,
    pub(crate) client: Client,
    pub(crate) finality: Finality,
    pub(crate) tally: Arc<Tally>,
    pub(crate) token: Account,
    pub(crate) engine: plan::Engine,
    pub(crate) batch_cap: u32,
    pub(crate) validity_period: u64,
    pub(crate) concurrency: Arc<Semaphore>,
    pacer: Mutex<Pacer>,
    pub(crate) sent: Sent,
    /// How long the store's steps took.
    steps: Mutex<Coarse>,
    lease: Duration,
    /// Cancelled to stop all lanes, and those that are still to come.
    stop: CancellationToken,
    /// Cancelled when waiting for proof is to end.
    pub(crate) abandon: CancellationToken,
    /// Notified whenever an attempt was settled or a lane stopped.
    pub(crate) progress: Notify,
}

impl<S> Shared<S> {
    pub(crate) fn pacer(&self) -> MutexGuard<'_, Pacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a step of the store, and notes how long it took.
    pub(crate) async fn step<T>(&self, step: impl Future<Output = T>) -> T {
        let asked = Instant::now();
        let done = step.await;
        let took_ns = nanos(asked);
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).record_ns(took_ns);
        done
    }

    /// Full jitter: a factor in 0..1.
    pub(crate) fn jitter(&self) -> f64 {
        rand::rng().random()
    }
}

/// A running engine.
pub struct Engine<S> {
    shared: Arc<Shared<S>>,
    lanes: Arc<Lanes>,
    began: Instant,
    /// What lanes did that were given back.
    past: Mutex<LaneTime>,
    looks: Mutex<Looks>,
}

/// How often it was looked at, and how often it could send nothing more though something waited.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    all: u64,
    full: u64,
}

type Lanes = Mutex<BTreeMap<LaneKey, Held>>;

/// A lane that is ours, or was and is not given back yet.
struct Held {
    lane: Arc<Lane>,
    keeper: AbortHandle,
}

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Everything that was accepted reached a final state by proof.
    pub complete: bool,
    /// Withdrawn before they were signed.
    pub cancelled: u64,
    /// Put back too late to be signed anew: proven never to execute.
    pub expired: u64,
    /// Left without proof either way.
    pub unknown: u64,
    /// What stopped every lane, if something did.
    pub fault: Option<FailureKind>,
}

impl<S: Store> Engine<S> {
    /// Takes the lanes and starts to work.
    ///
    /// # Errors
    /// When a lane is held by another worker; no lane is kept then.
    pub async fn start(setup: Setup<S>) -> Result<Self, EngineError> {
        let Setup { store, client, finality, tally, lanes, lease, token, engine, limits } = setup;
        let weight = batch::Weight {
            gas_per_transfer: engine.gas_per_transfer,
            bytes_per_action: MAX_TRANSFER_ACTION_BYTES as u64,
            bytes_overhead: MAX_ENVELOPE_BYTES as u64,
        };
        let shared = Arc::new(Shared {
            batch_cap: batch::cap(&limits, &weight),
            validity_period: limits.transaction_validity_period,
            concurrency: Arc::new(Semaphore::new(engine.concurrency as usize)),
            pacer: Mutex::new(Pacer::new(engine.max_tps, engine.batch.max)),
            sent: Sent::default(),
            steps: Mutex::default(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            progress: Notify::new(),
            lease,
            store,
            client,
            finality,
            tally,
            token,
            engine,
        });
        let started = Self {
            shared,
            lanes: Arc::default(),
            began: Instant::now(),
            past: Mutex::default(),
            looks: Mutex::default(),
        };
        let mut acquired = Vec::with_capacity(lanes.len());
        for (signer, key_nonce) in lanes {
            match started.acquire(signer).await {
                Ok((lane, stored, asked)) => acquired.push((lane, stored, asked, key_nonce)),
                Err(error) => {
                    for (lane, ..) in acquired {
                        started.shared.store.release_lane(&lane.key, lane.lease).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        tokio::spawn(sent::tell(started.shared.clone()));
        for (lane, stored, asked, key_nonce) in acquired {
            started.hold(lane, stored, asked, key_nonce);
        }
        Ok(started)
    }

    /// Takes one lane more, and works it. What an earlier holder left open is adopted. A lane that is ours already stays as
    /// it is.
    ///
    /// # Errors
    /// When another holds it.
    pub async fn take(&self, signer: Signer, key_nonce: Nonce) -> Result<(), StoreError> {
        let key = key_of(&signer);
        if self.held().contains_key(&key) {
            return Ok(());
        }
        let (lane, stored, asked) = self.acquire(signer).await?;
        self.hold(lane, stored, asked, key_nonce);
        Ok(())
    }

    /// Gives a lane back: nothing more is claimed for it, its attempts under way have until `patience` is over to end, and
    /// then another may have it. What is still open is the next holder's.
    pub async fn give_back(&self, key: &LaneKey, patience: Duration) {
        let Some(lane) = self.held().get(key).map(|held| held.lane.clone()) else { return };
        let deadline = Instant::now() + patience;
        lane.stop.cancel();
        lane.tasks.close();
        if tokio::time::timeout_at(deadline, lane.tasks.wait()).await.is_err() {
            lane.gone.cancel();
            // What settles just now comes to its end, unless the store does not answer.
            let _ = tokio::time::timeout(FAREWELL, lane.tasks.wait()).await;
        }
        self.release(&lane).await;
        let mut held = self.held();
        held.remove(key);
        *self.past.lock().unwrap_or_else(PoisonError::into_inner) += lane.time();
    }

    /// The lanes that are ours.
    pub fn lanes(&self) -> Vec<LaneKey> {
        self.held().iter().filter(|(_, held)| !held.lane.is_broken()).map(|(key, _)| key.clone()).collect()
    }

    /// The lanes that stopped for no fault and by nobody's order, such as when a lease was lost. Given back, they can be
    /// taken anew.
    pub fn broken(&self) -> Vec<LaneKey> {
        self.held().iter().filter(|(_, held)| held.lane.is_broken()).map(|(key, _)| key.clone()).collect()
    }

    /// What stopped a lane for good, where something did.
    pub fn faults(&self) -> Vec<(LaneKey, FailureKind)> {
        let held = self.held();
        held.iter().filter_map(|(key, held)| Some((key.clone(), held.lane.fault.get()?.clone()))).collect()
    }

    /// How the lanes stand, for as long as anybody asks: those that it has, all of them.
    pub fn keys(&self) -> Arc<dyn Fn() -> Keys + Send + Sync> {
        let (lanes, at_most) = (self.lanes.clone(), self.shared.engine.max_in_flight_per_key as usize);
        Arc::new(move || {
            let lanes = locked(&lanes);
            let count = |which: &dyn Fn(&Lane) -> bool| lanes.values().filter(|held| which(&held.lane)).count() as u64;
            let quarantined = count(&|lane| lane.fault.get().is_some());
            Keys {
                total: lanes.len() as u64,
                ready: count(&|lane| !lane.is_broken()).saturating_sub(quarantined),
                in_flight: count(&|lane| lane.in_flight.available_permits() < at_most),
                quarantined,
            }
        })
    }

    /// Signs nothing more, and leaves what has no proof to a person: the attempts that are open, and those of lanes that are
    /// still to come.
    pub fn abandon(&self) {
        self.shared.stop.cancel();
        self.shared.abandon.cancel();
    }

    /// The highest block seen final.
    pub fn head(&self) -> Height {
        self.shared.finality.head().height
    }

    /// Why nothing more will be signed, once every lane has stopped for a fault.
    pub fn halted(&self) -> Option<FailureKind> {
        let lanes = self.held();
        if lanes.values().all(|held| held.lane.stop.is_cancelled()) {
            lanes.values().find_map(|held| held.lane.fault.get().cloned())
        } else {
            None
        }
    }

    /// Looks whether transfers wait though nothing more can be sent; every so often, while anybody asks for
    /// [`Self::evidence`].
    pub fn look(&self) {
        let waits = self.shared.tally.recorder().queued() > 0;
        let full = waits && self.lanes_full();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        (looks.all, looks.full) = (looks.all + 1, looks.full + u64::from(full));
    }

    /// Where the time went since it started, and what its client's endpoints did since that was made.
    pub fn evidence(&self) -> Evidence {
        let Shared { client, steps, .. } = &*self.shared;
        let looks = *self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut evidence = Evidence {
            elapsed_ns: nanos(self.began),
            looks: looks.all,
            full: looks.full,
            store: steps.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            open_ns: client.open_ns(),
            ..Evidence::default()
        };
        let held = self.held();
        evidence.lanes = *self.past.lock().unwrap_or_else(PoisonError::into_inner);
        held.values().for_each(|held| evidence.lanes += held.lane.time());
        drop(held);
        for reading in client.readings() {
            evidence.endpoints.entry(reading.name.to_string()).or_default().merge(&reading.served());
        }
        evidence
    }

    /// Whether nothing more can be sent now: every lane, or the whole engine, has as many attempts under way as it may.
    fn lanes_full(&self) -> bool {
        let lanes = self.held();
        self.shared.concurrency.available_permits() == 0
            || (!lanes.is_empty() && lanes.values().all(|held| held.lane.in_flight.available_permits() == 0))
    }

    /// Works off what was accepted, for `patience` at most or until every lane has stopped; then withdraws what was
    /// not signed, leaves what has no proof to a person, and gives the lanes back.
    ///
    /// # Errors
    /// The store's.
    pub async fn drain(self, patience: Duration) -> Result<Drained, StoreError> {
        let Shared { store, progress, tally, .. } = &*self.shared;
        let deadline = Instant::now() + patience;
        loop {
            let depth = store.depth().await?;
            if depth.unsettled() == 0 || (self.halted().is_some() && depth.claimed + depth.open == 0) {
                break;
            }
            tokio::select! {
                () = progress.notified() => {}
                () = tokio::time::sleep_until(deadline) => break,
            }
            // Attempts end by the thousand: one look serves all that ended meanwhile.
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        let fault = self.halted();
        self.shared.stop.cancel();
        let cancelled = store.cancel_queued().await?;
        tally.cancelled(&cancelled);
        let unknown = store.depth().await?;
        self.abandon();
        let lanes: Vec<_> = self.held().values().map(|held| held.lane.clone()).collect();
        for lane in lanes {
            lane.tasks.close();
            lane.tasks.wait().await;
            self.release(&lane).await;
        }
        let expired = store.cancel_queued().await?;
        tally.expired(&expired);
        let (cancelled, expired) = (cancelled.len() as u64, expired.len() as u64);
        let unknown = (unknown.claimed + unknown.open).saturating_sub(expired);
        Ok(Drained { complete: cancelled + expired + unknown == 0, cancelled, expired, unknown, fault })
    }

    async fn acquire(&self, signer: Signer) -> Result<(Arc<Lane>, StoredLane, Instant), StoreError> {
        let Shared { store, engine, stop, lease: ttl, .. } = &*self.shared;
        let (key, lease) = (key_of(&signer), LeaseId(rand::rng().random()));
        let asked = Instant::now();
        let stored = store.acquire(&key, lease, *ttl).await?;
        let lane = Lane::new(key, signer, lease, engine.max_in_flight_per_key, stop.child_token());
        Ok((Arc::new(lane), stored, asked))
    }

    fn hold(&self, lane: Arc<Lane>, stored: StoredLane, asked: Instant, key_nonce: Nonce) {
        let keeper = tokio::spawn(lane::keep_lease(self.shared.clone(), lane.clone(), asked, self.shared.lease));
        lane.tasks.spawn(lane::hold(self.shared.clone(), lane.clone(), stored, key_nonce));
        self.held().insert(lane.key.clone(), Held { lane, keeper: keeper.abort_handle() });
    }

    async fn release(&self, lane: &Lane) {
        if let Some(held) = self.held().get(&lane.key) {
            held.keeper.abort();
        }
        // A lease that ran out meanwhile needs no release, and one that cannot be given back runs out.
        let _ = tokio::time::timeout(FAREWELL, self.shared.store.release_lane(&lane.key, lane.lease)).await;
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<LaneKey, Held>> {
        locked(&self.lanes)
    }
}

/// Since then.
fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn locked(lanes: &Lanes) -> MutexGuard<'_, BTreeMap<LaneKey, Held>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn key_of(signer: &Signer) -> LaneKey {
    LaneKey { account: signer.account().clone(), public_key: signer.public_key().into() }
}
