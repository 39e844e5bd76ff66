//! The backend that lives and dies with its process.

use crate::{Attempt, AttemptId, Claim, ClaimId, Depth, Lane, LaneKey, LeaseId, Store, StoreError, state::State};
use nearbench_core::{Nonce, Transfer, plan::Batch, settle::Settled};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A store in this process's memory. Nothing is kept of a transfer once it is settled.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State<()>>,
    /// Wakes one waiter for each batch of work; a waiter that leaves work behind wakes the next.
    work: Notify,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State<()>> {
        // A panic elsewhere cannot leave a half-done step: every step checks first and then only moves values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn push(&self, transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
        let taken = self.lock().push(transfers, max_depth);
        if taken > 0 {
            self.work.notify_one();
        }
        Ok(taken)
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        self.lock().acquire(lane, lease, ttl, Instant::now())
    }

    async fn renew(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        self.lock().renew(lane, lease, ttl, Instant::now())
    }

    async fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> Result<(), StoreError> {
        self.lock().release_lane(lane, lease, Instant::now())
    }

    async fn claim(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
    ) -> Result<Option<Claim>, StoreError> {
        let mut state = self.lock();
        let claim = state.claim(lane, lease, batch, at_most, Instant::now())?;
        if claim.is_some() && state.has_work() {
            self.work.notify_one();
        }
        Ok(claim)
    }

    async fn reserve(&self, lane: &LaneKey, lease: LeaseId, count: u32) -> Result<Nonce, StoreError> {
        self.lock().reserve(lane, lease, count, Instant::now())
    }

    async fn raise(&self, lane: &LaneKey, lease: LeaseId, floor: Nonce) -> Result<(), StoreError> {
        self.lock().raise(lane, lease, floor, Instant::now())
    }

    async fn release(&self, claim: ClaimId) -> Result<(), StoreError> {
        self.lock().release(claim)?;
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
        self.lock().commit(lane, lease, claim, attempt, Instant::now())
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        if self.lock().settle(attempt, settled)? {
            self.work.notify_one();
        }
        Ok(())
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        Ok(self.lock().cancel_queued())
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        Ok(self.lock().depth())
    }

    async fn wait_for_work(&self) {
        loop {
            let notified = self.work.notified();
            if self.lock().has_work() {
                return;
            }
            notified.await;
        }
    }
}
