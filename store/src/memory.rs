//! The backend that lives and dies with its process.

use crate::{Attempt, AttemptId, Claim, ClaimId, Depth, Lane, LaneKey, LeaseId, Store, StoreError};
use nearbench_core::{
    Nonce, Transfer,
    settle::{Fate, Settled},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A store in this process's memory. Nothing is kept of a transfer once it is settled.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
    /// Wakes one waiter for each batch of work; a waiter that leaves work behind wakes the next.
    work: Notify,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Transfer>,
    claims: HashMap<ClaimId, Arc<[Transfer]>>,
    lanes: HashMap<LaneKey, Held>,
    attempts: HashMap<AttemptId, Open>,
    /// How many transfers `claims` and `attempts` hold.
    claimed: u64,
    open: u64,
    next_id: u64,
}

struct Held {
    lease: Option<(LeaseId, Instant)>,
    high_water: Nonce,
}

struct Open {
    lane: LaneKey,
    attempt: Attempt,
    transfers: Arc<[Transfer]>,
}

impl Inner {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn held(&mut self, lane: &LaneKey, lease: LeaseId) -> Result<&mut Held, StoreError> {
        self.lanes
            .get_mut(lane)
            .filter(|held| held.lease.is_some_and(|(id, until)| id == lease && Instant::now() < until))
            .ok_or_else(|| StoreError::LeaseLost(lane.public_key.clone()))
    }

    fn put_back(&mut self, transfers: impl DoubleEndedIterator<Item = Transfer>) {
        for transfer in transfers.rev() {
            self.queue.push_front(transfer);
        }
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave a half-done step: every step checks first and then only moves values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn push(&self, mut transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
        let mut inner = self.lock();
        let room = usize::try_from(max_depth).unwrap_or(usize::MAX).saturating_sub(inner.queue.len());
        transfers.truncate(room);
        let taken = transfers.len();
        inner.queue.extend(transfers);
        drop(inner);
        if taken > 0 {
            self.work.notify_one();
        }
        Ok(taken)
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        let mut inner = self.lock();
        let now = Instant::now();
        let held = inner.lanes.entry(lane.clone()).or_insert(Held { lease: None, high_water: 0 });
        if let Some((holder, until)) = held.lease
            && holder != lease
            && now < until
        {
            return Err(StoreError::Held { lane: lane.public_key.clone(), free_in: until - now });
        }
        held.lease = Some((lease, now + ttl));
        let high_water = held.high_water;
        let mut open: Vec<_> = inner
            .attempts
            .iter()
            .filter(|(_, open)| open.lane == *lane)
            .map(|(id, open)| (*id, open.attempt.clone(), open.transfers.clone()))
            .collect();
        open.sort_by_key(|(_, attempt, _)| attempt.nonce);
        Ok(Lane { high_water, open })
    }

    async fn renew(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        self.lock().held(lane, lease)?.lease = Some((lease, Instant::now() + ttl));
        Ok(())
    }

    async fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> Result<(), StoreError> {
        self.lock().held(lane, lease)?.lease = None;
        Ok(())
    }

    async fn claim(&self, lane: &LaneKey, lease: LeaseId, max: usize) -> Result<Option<Claim>, StoreError> {
        let mut inner = self.lock();
        inner.held(lane, lease)?;
        let take = max.min(inner.queue.len());
        if take == 0 {
            return Ok(None);
        }
        let transfers: Arc<[Transfer]> = inner.queue.drain(..take).collect();
        let id = ClaimId(inner.id());
        inner.claims.insert(id, transfers.clone());
        inner.claimed += take as u64;
        let more = !inner.queue.is_empty();
        drop(inner);
        if more {
            self.work.notify_one();
        }
        Ok(Some(Claim { id, transfers }))
    }

    async fn release(&self, claim: ClaimId) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let transfers = inner.claims.remove(&claim).ok_or(StoreError::ClaimLost(claim))?;
        inner.claimed -= transfers.len() as u64;
        inner.put_back(transfers.iter().cloned());
        drop(inner);
        self.work.notify_one();
        Ok(())
    }

    async fn commit(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
    ) -> Result<AttemptId, StoreError> {
        let mut inner = self.lock();
        let high_water = inner.held(lane, lease)?.high_water;
        if attempt.nonce <= high_water {
            return Err(StoreError::NonceReused { lane: lane.public_key.clone(), nonce: attempt.nonce, high_water });
        }
        let transfers = match claim {
            Some(claim) => inner.claims.remove(&claim).ok_or(StoreError::ClaimLost(claim))?,
            None => Arc::default(),
        };
        inner.held(lane, lease)?.high_water = attempt.nonce;
        inner.claimed -= transfers.len() as u64;
        inner.open += transfers.len() as u64;
        let id = AttemptId(inner.id());
        inner.attempts.insert(id, Open { lane: lane.clone(), attempt, transfers });
        Ok(id)
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let open = inner.attempts.remove(&attempt).ok_or(StoreError::NotOpen(attempt))?;
        inner.open -= open.transfers.len() as u64;
        let back = open
            .transfers
            .iter()
            .enumerate()
            .filter(|(index, _)| settled.settlement.fate(*index) == Fate::Requeue)
            .map(|(_, transfer)| transfer.clone());
        let before = inner.queue.len();
        inner.put_back(back);
        let woken = inner.queue.len() > before;
        drop(inner);
        if woken {
            self.work.notify_one();
        }
        Ok(())
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        Ok(std::mem::take(&mut self.lock().queue).into())
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        let inner = self.lock();
        Ok(Depth { queued: inner.queue.len() as u64, claimed: inner.claimed, open: inner.open })
    }

    async fn wait_for_work(&self) {
        loop {
            let notified = self.work.notified();
            if !self.lock().queue.is_empty() {
                return;
            }
            notified.await;
        }
    }
}
