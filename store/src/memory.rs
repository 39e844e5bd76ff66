//! The backend that lives and dies with its process.

use crate::{
    Attempt, AttemptId, Claim, ClaimId, Depth, Fleet, Lane, LaneKey, LeaseId, Order, Recall, ResultRow, Standing,
    Store, StoreError, TransferRecord, WorkerId,
    state::{Journal, Open, State},
};
use bytes::Bytes;
use nearbench_core::{Nonce, Transfer, plan::Batch, settle::Settled};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A store in this process's memory. Nothing is kept of a transfer once it is settled, unless it is for a fleet.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State<Results>>,
    /// Wakes one waiter for each batch of work; a waiter that leaves work behind wakes the next.
    work: Notify,
    roll: Mutex<Roll>,
}

/// The results, where somebody is to read them.
#[derive(Default)]
struct Results(Option<Vec<ResultRow>>);

impl Journal for Results {
    fn attempt_settled(&mut self, _: AttemptId, open: Open, settled: &Settled) {
        if let Some(rows) = &mut self.0 {
            let Attempt { hash, nonce, .. } = open.attempt;
            let transfers = open.transfers.iter().map(TransferRecord::from).collect();
            rows.push(ResultRow::Settled { hash, nonce, settled: settled.clone(), transfers });
        }
    }

    fn cancelled(&mut self, transfers: &[Transfer]) {
        if let Some(rows) = &mut self.0 {
            rows.push(ResultRow::Cancelled { transfers: transfers.iter().map(TransferRecord::from).collect() });
        }
    }
}

/// The workers of a fleet.
#[derive(Default)]
struct Roll {
    order: Order,
    /// Until when each one's last word holds, while it lives, and what it measured.
    workers: BTreeMap<[u8; 16], (Option<Instant>, Bytes)>,
}

impl MemoryStore {
    /// A store for the workers of a fleet, all in this process: it keeps the results, and a lane's new holder puts back what
    /// an earlier one claimed and did not sign.
    pub fn of_a_fleet() -> Self {
        let store = Self::default();
        store.lock().journal = Results(Some(Vec::new()));
        store
    }

    fn lock(&self) -> MutexGuard<'_, State<Results>> {
        // A panic elsewhere cannot leave a half-done step: every step checks first and then only moves values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recall for MemoryStore {
    async fn results(&self, visit: &mut (dyn FnMut(ResultRow) + Send)) -> Result<(), StoreError> {
        let rows = self.lock().journal.0.clone().unwrap_or_default();
        rows.into_iter().for_each(visit);
        Ok(())
    }

    async fn unsettled(&self) -> Result<Vec<Transfer>, StoreError> {
        Ok(self.lock().unsettled().cloned().collect())
    }
}

impl Fleet for MemoryStore {
    async fn beat(&self, worker: WorkerId, ttl: Duration, measured: Bytes) -> Result<Standing, StoreError> {
        let now = Instant::now();
        let mut roll = self.roll();
        roll.workers.insert(worker.0, (Some(now + ttl), measured));
        let lives = |until: &Option<Instant>| until.is_some_and(|until| now < until);
        let workers = roll.workers.iter().filter(|(_, (until, _))| lives(until)).map(|(id, _)| WorkerId(*id)).collect();
        let state = self.lock();
        let leases = state.leases().filter(|(.., until)| now < *until);
        let leases = leases.map(|(lane, _, until)| (lane.clone(), until - now)).collect();
        Ok(Standing { order: roll.order, workers, leases })
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        if let Some((until, _)) = self.roll().workers.get_mut(&worker.0) {
            *until = None;
        }
        Ok(())
    }

    async fn order(&self, order: Order) -> Result<(), StoreError> {
        self.roll().order = order;
        Ok(())
    }

    async fn measured(&self) -> Result<Vec<(WorkerId, Bytes)>, StoreError> {
        Ok(self.roll().workers.iter().map(|(id, (_, measured))| (WorkerId(*id), measured.clone())).collect())
    }

    async fn seed(&self, lanes: &[(LaneKey, Nonce)]) -> Result<(), StoreError> {
        let (mut state, now) = (self.lock(), Instant::now());
        lanes.iter().for_each(|(lane, floor)| state.seed(lane, *floor, now));
        Ok(())
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
        let mut state = self.lock();
        let before = state.leases().find(|(known, ..)| *known == lane).map(|(_, holder, _)| holder);
        let taken = state.acquire(lane, lease, ttl, Instant::now())?;
        if state.journal.0.is_some() && before != Some(lease) {
            state.take_back(lane);
            self.work.notify_one();
        }
        Ok(taken)
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
