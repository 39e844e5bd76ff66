//! One lane: the only place that signs with its key. Claims, signs, stores, sends, in the order of its nonces.

use crate::{
    clock::{Clock, Doing},
    confirm::{self, BACKOFF},
    engine::Shared,
    ids,
};
use nearbench_core::{
    Height, Nonce, Transfer,
    evidence::LaneTime,
    lane::{OpenNonces, first_nonce},
    outcome::FailureKind,
};
use nearbench_near::{
    SignedTx, Signer,
    chain::SendError,
    transaction::{sign_fence, sign_transfers},
};
use nearbench_store::{Attempt, AttemptId, ClaimId, Lane as StoredLane, LaneKey, LeaseId, Store, StoreError};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Before work is asked for again of a store that somebody has to make whole first.
const RESTORED_LOOK: Duration = Duration::from_millis(200);

/// What a lane's task and the tasks that confirm its attempts share.
pub(crate) struct Lane {
    pub(crate) key: LaneKey,
    pub(crate) signer: Signer,
    pub(crate) lease: LeaseId,
    open: Mutex<OpenNonces>,
    /// Places for attempts under way.
    pub(crate) in_flight: Arc<Semaphore>,
    /// The highest nonce seen in a final block.
    pub(crate) passed: watch::Sender<Nonce>,
    /// Asked for by an attempt that nothing else will move the key past.
    pub(crate) fence: Notify,
    /// Set once, when a fault that is everybody's shows: nothing more is signed here.
    pub(crate) fault: OnceLock<FailureKind>,
    /// Cancelled to stop claiming.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the lane is not ours any more: nothing is sent for it, and its attempts are the next holder's.
    pub(crate) gone: CancellationToken,
    /// Set where the lane stopped for no fault and by nobody's order: it can be taken anew.
    broken: AtomicBool,
    /// The lane's own task, and those that confirm its attempts.
    pub(crate) tasks: TaskTracker,
    taken: Instant,
    clock: Mutex<Clock>,
}

/// What a lane's task does for as long as this lives.
struct Busy<'a>(&'a Lane);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.turn(Doing::Other);
    }
}

/// A place among the attempts under way, in this lane and in all; given back when dropped.
pub(crate) struct Place {
    _lane: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Lane {
    pub(crate) fn new(
        key: LaneKey,
        signer: Signer,
        lease: LeaseId,
        max_in_flight: u32,
        stop: CancellationToken,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(max_in_flight as usize));
        Self {
            key,
            signer,
            lease,
            open: Mutex::default(),
            in_flight,
            passed: watch::Sender::new(0),
            fence: Notify::new(),
            fault: OnceLock::new(),
            stop,
            gone: CancellationToken::new(),
            broken: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            taken: Instant::now(),
            clock: Mutex::default(),
        }
    }

    /// What it did with its time so far.
    pub(crate) fn time(&self) -> LaneTime {
        self.clock().read(self.age_ns())
    }

    fn turn(&self, doing: Doing) {
        self.clock().turn(doing, self.age_ns());
    }

    fn busy(&self, doing: Doing) -> Busy<'_> {
        self.turn(doing);
        Busy(self)
    }

    fn age_ns(&self) -> u64 {
        u64::try_from(self.taken.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it stopped for no fault and by nobody's order.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn breaks(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, OpenNonces> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs no more: what failed would fail every transfer.
    pub(crate) fn halt<S: Store>(&self, shared: &Shared<S>, fault: FailureKind) {
        shared.tally.mishap(fault.label());
        tracing::error!(lane = %self.key.public_key, ?fault, "a fault that is no transfer's own; the lane stops");
        // Whoever set it first said it all.
        let _ = self.fault.set(fault);
        self.stop.cancel();
    }
}

/// Works the lane until it is told to stop or is not ours any more. What is dropped then may be stored and not sent, which
/// its next holder makes up for.
pub(crate) async fn hold<S: Store>(shared: Arc<Shared<S>>, lane: Arc<Lane>, stored: StoredLane, key_nonce: Nonce) {
    let gone = lane.gone.clone();
    gone.run_until_cancelled_owned(work(shared, lane.clone(), stored, key_nonce)).await;
    lane.turn(Doing::Ended);
}

async fn work<S: Store>(shared: Arc<Shared<S>>, lane: Arc<Lane>, stored: StoredLane, key_nonce: Nonce) {
    let floor = first_nonce(key_nonce, stored.high_water, shared.finality.head().height) - 1;
    if adopt(&shared, &lane, stored).await.is_none() {
        return;
    }
    if let Err(error) = shared.store.raise(&lane.key, lane.lease, floor).await {
        stopped(&lane, &error);
    }
    loop {
        let done = tokio::select! {
            biased;
            () = lane.stop.cancelled() => return,
            () = lane.fence.notified() => fence(&shared, &lane).await,
            place = free_place(&shared, &lane) => match place {
                Some(place) => attempt(&shared, &lane, place).await,
                None => return,
            },
        };
        if let Err(error) = done {
            stopped(&lane, &error);
        }
    }
}

/// A store that refuses, or cannot go on, ends the lane.
fn stopped(lane: &Lane, error: &StoreError) {
    match error {
        // The whole run hears of it, and says so once.
        StoreError::File { .. } => tracing::debug!(lane = %lane.key.public_key, %error, "the lane stops"),
        _ => tracing::error!(lane = %lane.key.public_key, %error, "the lane stops"),
    }
    lane.breaks();
}

/// Hands over again what an earlier holder left open, lowest nonce first, before anything is signed: each of them may
/// be on its way, and a higher nonce that lands first kills it.
async fn adopt<S: Store>(shared: &Arc<Shared<S>>, lane: &Arc<Lane>, stored: StoredLane) -> Option<()> {
    for (_, attempt, _) in &stored.open {
        lane.open().insert(attempt.nonce);
    }
    for (id, attempt, transfers) in stored.open {
        let place = place(shared, &lane.in_flight).await?;
        tracing::debug!(
            tx_hash = %attempt.hash,
            lane = %lane.key.public_key,
            nonce = attempt.nonce,
            transfers = transfers.len(),
            transfer_ids = %ids::all(&transfers),
            "adopted from an earlier holder, and sent again"
        );
        let resend_first = !send(shared, id, &SignedTx { hash: attempt.hash, bytes: attempt.bytes.clone() }).await;
        confirm::spawn(
            shared.clone(),
            lane.clone(),
            confirm::Open { id, attempt, transfers, resend_first },
            Some(place),
        );
    }
    Some(())
}

/// A place, once there is work for it.
async fn free_place<S: Store>(shared: &Shared<S>, lane: &Lane) -> Option<Place> {
    let place = place(shared, &lane.in_flight).await?;
    let _idle = lane.busy(Doing::Idle);
    shared.store.wait_for_work().await;
    Some(place)
}

async fn place<S: Store>(shared: &Shared<S>, lane: &Arc<Semaphore>) -> Option<Place> {
    let lane = lane.clone().acquire_owned().await.ok()?;
    let all = shared.concurrency.clone().acquire_owned().await.ok()?;
    Some(Place { _lane: lane, _all: all })
}

/// One attempt, from the claim to the hand-over to its confirmation.
async fn attempt<S: Store>(shared: &Arc<Shared<S>>, lane: &Arc<Lane>, place: Place) -> Result<(), StoreError> {
    let most = shared.engine.batch.max.min(shared.batch_cap);
    let granted = shared.pacer().take(most, shared.tally.now_ns());
    let granted = match granted {
        Ok(granted) => granted,
        Err(at_ns) => {
            let pause = Duration::from_nanos(at_ns.saturating_sub(shared.tally.now_ns()));
            tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
            return Ok(());
        }
    };
    let claimed = {
        let _waits = lane.busy(Doing::Store);
        shared.step(shared.store.claim(&lane.key, lane.lease, &shared.engine.batch, granted)).await
    };
    let claim = match claimed {
        Err(StoreError::Restored { .. }) => {
            shared.pacer().give_back(granted);
            tokio::time::sleep(RESTORED_LOOK).await;
            return Ok(());
        }
        claim => claim?,
    };
    let depth = claim.as_ref().map_or(0, |claim| claim.depth);
    shared.tally.recorder().queue_depth(shared.tally.now_ns(), depth);
    let Some(claim) = claim else {
        shared.pacer().give_back(granted);
        return Ok(());
    };
    shared.pacer().give_back(granted.saturating_sub(claim.transfers.len() as u32));

    let base = shared.finality.head();
    let nonce = claim.nonce;
    let signed =
        sign_transfers(&lane.signer, &shared.token, &claim.transfers, shared.engine.gas_per_transfer, nonce, &base);
    let open = (Some(claim.id), claim.transfers);
    store_and_send(shared, lane, signed, nonce, base.height, open, Some(place)).await
}

/// A transaction that moves the key's nonce past all that are open, and nothing else. It takes no place: those whose end
/// it brings about may hold them all.
async fn fence<S: Store>(shared: &Arc<Shared<S>>, lane: &Arc<Lane>) -> Result<(), StoreError> {
    let nonce = shared.store.reserve(&lane.key, lane.lease, 1).await?;
    let base = shared.finality.head();
    let signed = sign_fence(&lane.signer, nonce, &base);
    let (lane_key, hash) = (&lane.key.public_key, signed.hash);
    tracing::info!(lane = %lane_key, nonce, tx_hash = %hash, "a fence, past an attempt that nobody knows");
    store_and_send(shared, lane, signed, nonce, base.height, (None, Arc::default()), None).await
}

/// Stores an attempt with its transfers, sends it, and leaves it to its confirmation.
async fn store_and_send<S: Store>(
    shared: &Arc<Shared<S>>,
    lane: &Arc<Lane>,
    signed: SignedTx,
    nonce: Nonce,
    base_height: Height,
    (claim, transfers): (Option<ClaimId>, Arc<[Transfer]>),
    place: Option<Place>,
) -> Result<(), StoreError> {
    let attempt = Attempt {
        hash: signed.hash,
        bytes: signed.bytes.clone(),
        nonce,
        base_height,
        expiry_height: expiry(base_height, shared.validity_period),
    };
    lane.open().insert(nonce);
    let stored = {
        let _waits = lane.busy(Doing::Store);
        shared.step(shared.store.commit(&lane.key, lane.lease, claim, attempt.clone())).await
    };
    let id = match stored {
        Ok(id) => id,
        Err(error) => {
            lane.open().remove(nonce);
            return Err(error);
        }
    };
    tracing::debug!(
        tx_hash = %attempt.hash,
        lane = %lane.key.public_key,
        nonce,
        transfers = transfers.len(),
        transfer_ids = %ids::all(&transfers),
        "stored, and sent from now on"
    );
    let resend_first = !send(shared, id, &signed).await;
    confirm::spawn(shared.clone(), lane.clone(), confirm::Open { id, attempt, transfers, resend_first }, place);
    Ok(())
}

/// Hands the bytes over until the endpoint has them: the next nonce goes out only after this one, since a higher one
/// that lands first kills it. False when the run ended before that.
async fn send<S: Store>(shared: &Shared<S>, id: AttemptId, signed: &SignedTx) -> bool {
    let mut backoff = BACKOFF;
    loop {
        let Err(error) = shared.client.send(signed).await else {
            shared.sent.note(id);
            return true;
        };
        // What the endpoint is to blame for is counted where it is asked.
        if !error.is_endpoints() {
            shared.tally.mishap(error.label());
        }
        if matches!(error, SendError::Refused(_)) {
            // A hint. What it means is found out by the confirmation.
            return false;
        }
        tracing::debug!(tx_hash = %signed.hash, %error, "not taken; trying again");
        let pause = tokio::time::sleep(backoff.step(shared.jitter()));
        if shared.abandon.run_until_cancelled(pause).await.is_none() {
            return false;
        }
    }
}

/// The last height at which a transaction with this base can be included (nearcore, `check_transaction_validity_period`).
pub(crate) fn expiry(base: Height, validity_period: u64) -> Height {
    base.saturating_add(validity_period)
}

/// Prolongs the lease for as long as it is asked to. A lease that cannot be renewed in time stops the lane: signing on
/// would race the next holder. `asked` is from before the lease was asked for: the store counts from later, so ours ends
/// first.
pub(crate) async fn keep_lease<S: Store>(shared: Arc<Shared<S>>, lane: Arc<Lane>, asked: Instant, ttl: Duration) {
    let mut valid_until = asked + ttl;
    loop {
        tokio::time::sleep(ttl / 3).await;
        let asked = Instant::now();
        let renewed = tokio::time::timeout_at(valid_until, shared.store.renew(&lane.key, lane.lease, ttl)).await;
        match renewed {
            Ok(Ok(())) => valid_until = asked + ttl,
            Ok(Err(error)) if !matches!(error, StoreError::LeaseLost(_)) && Instant::now() + ttl / 3 < valid_until => {
                tracing::warn!(lane = %lane.key.public_key, %error, "the lease was not renewed; trying again")
            }
            Ok(Err(StoreError::File { .. })) => return lane.breaks(),
            Ok(Err(error)) => {
                tracing::error!(lane = %lane.key.public_key, %error, "the lease ends; the lane stops");
                return lane.breaks();
            }
            Err(_) => {
                tracing::error!(lane = %lane.key.public_key, "the lease ends without a word from the store; the lane stops");
                return lane.breaks();
            }
        }
    }
}
