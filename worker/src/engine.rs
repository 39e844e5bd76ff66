//! The engine: one task a lane, and one an attempt under way.

use crate::{
    finality::Finality,
    lane::{self, Lane},
    pacer::Pacer,
    sent::{self, Sent},
    tally::Tally,
};
use nearbench_core::{
    Account, Nonce, batch,
    outcome::FailureKind,
    plan::{self, ChainLimits},
};
use nearbench_near::{
    Client, Signer,
    transaction::{MAX_ENVELOPE_BYTES, MAX_TRANSFER_ACTION_BYTES},
};
use nearbench_store::{LaneKey, LeaseId, Store, StoreError};
use rand::Rng;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a lane is ours without a word from us.
const LEASE: Duration = Duration::from_secs(30);

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
    /// One lane each, with its key's nonce on chain.
    pub lanes: Vec<(Signer, Nonce)>,
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
    pub(crate) tasks: TaskTracker,
    /// Cancelled when waiting for proof is to end.
    pub(crate) abandon: CancellationToken,
    /// Notified whenever an attempt was settled or a lane stopped.
    pub(crate) progress: Notify,
}

impl<S> Shared<S> {
    pub(crate) fn pacer(&self) -> MutexGuard<'_, Pacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Full jitter: a factor in 0..1.
    pub(crate) fn jitter(&self) -> f64 {
        rand::rng().random()
    }
}

/// A running engine.
pub struct Engine<S> {
    shared: Arc<Shared<S>>,
    lanes: Vec<Arc<Lane>>,
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
        let Setup { store, client, finality, tally, lanes, token, engine, limits } = setup;
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
            tasks: TaskTracker::new(),
            abandon: CancellationToken::new(),
            progress: Notify::new(),
            store,
            client,
            finality,
            tally,
            token,
            engine,
        });
        let stop = CancellationToken::new();
        let mut held = Vec::with_capacity(lanes.len());
        for (signer, key_nonce) in lanes {
            let key = LaneKey { account: signer.account().clone(), public_key: signer.public_key().into() };
            let lease = LeaseId(rand::rng().random());
            match shared.store.acquire(&key, lease, LEASE).await {
                Ok(stored) => {
                    let lane = Lane::new(key, signer, lease, shared.engine.max_in_flight_per_key, stop.child_token());
                    held.push((Arc::new(lane), stored, key_nonce));
                }
                Err(error) => {
                    for (lane, ..) in held {
                        shared.store.release_lane(&lane.key, lane.lease).await?;
                    }
                    return Err(error.into());
                }
            }
        }
        let lanes = held.iter().map(|(lane, ..)| lane.clone()).collect();
        shared.tasks.spawn(sent::tell(shared.clone()));
        for (lane, stored, key_nonce) in held {
            shared.tasks.spawn(lane::keep_lease(shared.clone(), lane.clone(), LEASE));
            shared.tasks.spawn(lane::work(shared.clone(), lane, stored, key_nonce));
        }
        Ok(Self { shared, lanes })
    }

    /// Why nothing more will be signed, once every lane has stopped for a fault.
    pub fn halted(&self) -> Option<FailureKind> {
        if self.lanes.iter().all(|lane| lane.stop.is_cancelled()) {
            self.lanes.iter().find_map(|lane| lane.fault.get().cloned())
        } else {
            None
        }
    }

    /// Whether nothing more can be sent now: every lane, or the whole engine, has as many attempts under way as it may.
    pub fn lanes_full(&self) -> bool {
        self.shared.concurrency.available_permits() == 0
            || self.lanes.iter().all(|lane| lane.in_flight.available_permits() == 0)
    }

    /// Works off what was accepted, for `patience` at most or until every lane has stopped; then withdraws what was
    /// not signed, leaves what has no proof to a person, and gives the lanes back.
    ///
    /// # Errors
    /// The store's.
    pub async fn drain(self, patience: Duration) -> Result<Drained, StoreError> {
        let Shared { store, tasks, abandon, progress, tally, .. } = &*self.shared;
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
        for lane in &self.lanes {
            lane.stop.cancel();
        }
        let cancelled = store.cancel_queued().await?;
        tally.cancelled(&cancelled);
        let unknown = store.depth().await?;
        abandon.cancel();
        tasks.close();
        tasks.wait().await;
        for lane in &self.lanes {
            // A lease that ran out meanwhile needs no release.
            let _ = store.release_lane(&lane.key, lane.lease).await;
        }
        let expired = store.cancel_queued().await?;
        tally.expired(&expired);
        let (cancelled, expired) = (cancelled.len() as u64, expired.len() as u64);
        let unknown = (unknown.claimed + unknown.open).saturating_sub(expired);
        Ok(Drained { complete: cancelled + expired + unknown == 0, cancelled, expired, unknown, fault })
    }
}
