//! The backend that lives and dies with its process.

use crate::{
    Accepted, Attempt, AttemptId, Census, Changed, Claim, ClaimId, Cursor, Depth, Filter, Fleet, Lane, LaneKey,
    LeaseId, Order, Page, Recall, Record, Records, ResultRow, Standing, Store, StoreError, Submission, TransferRecord,
    Windows, WorkerId,
    book::Clock,
    records::is_final,
    state::{Journal, Open, State},
};
use bytes::Bytes;
use nearbench_core::{Hash, Nonce, Transfer, TransferId, plan::Batch, settle::Settled};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Records that a step looks at, at most, to find those that are asked for.
pub(crate) const LOOKS: usize = 10_000;

/// A store in this process's memory. Of a transfer that is settled it keeps the record, if it has one, and for a fleet the
/// result.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State<Diary>>,
    clock: Clock,
    /// Wakes one waiter for each batch of work; a waiter that leaves work behind wakes the next.
    work: Notify,
    roll: Mutex<Roll>,
}

/// The workers of a fleet.
#[derive(Default)]
struct Roll {
    order: Order,
    /// Until when each one's last word holds, while it lives, and what it measured.
    workers: BTreeMap<[u8; 16], (Option<Instant>, Bytes)>,
}

/// The records in the order of their births, and the transactions that carried them.
#[derive(Default)]
struct Diary {
    births: VecDeque<(TransferId, u64)>,
    /// The number of the first of them, and of the first with details.
    first: u64,
    first_with_details: u64,
    transactions: HashMap<Hash, Vec<TransferId>>,
    /// What became of all that was settled, where somebody is to read it.
    results: Option<Vec<ResultRow>>,
}

impl Journal for Diary {
    fn record_born(&mut self, id: TransferId, unix_ms: u64) {
        self.births.push_back((id, unix_ms));
    }

    fn recorded(&mut self, hash: Hash, transfers: &[Transfer]) {
        self.transactions.insert(hash, transfers.iter().map(|transfer| transfer.id).collect());
    }

    fn attempt_settled(&mut self, _: AttemptId, open: Open, settled: &Settled) {
        if let Some(rows) = &mut self.results {
            let Attempt { hash, nonce, .. } = open.attempt;
            let transfers = open.transfers.iter().map(TransferRecord::from).collect();
            rows.push(ResultRow::Settled { hash, nonce, settled: settled.clone(), transfers });
        }
    }

    fn cancelled(&mut self, transfers: &[Transfer]) {
        if let Some(rows) = &mut self.results {
            rows.push(ResultRow::Cancelled { transfers: transfers.iter().map(TransferRecord::from).collect() });
        }
    }
}

/// Forgets records whose windows are over, `most` at once. What is not in a final state then is forgotten with its end.
fn forget(state: &mut State<Diary>, now: u64, most: usize) {
    let State { journal: diary, book, .. } = state;
    let windows = book.windows;
    for _ in 0..most {
        let at = (diary.first_with_details - diary.first) as usize;
        let Some((id, born)) = diary.births.get(at) else { break };
        if !Windows::is_over(windows.details, *born, now) {
            break;
        }
        diary.first_with_details += 1;
        if let Some(entry) = book.entries.get_mut(id)
            && is_final(entry.state)
        {
            for event in entry.details.take().into_iter().flat_map(|details| details.events) {
                event.tx_hash.map(|hash| diary.transactions.remove(&hash));
            }
        }
    }
    for _ in 0..most {
        let Some((id, born)) = diary.births.front().copied() else { break };
        if diary.first == diary.first_with_details || !Windows::is_over(windows.idempotency, born, now) {
            break;
        }
        diary.births.pop_front();
        diary.first += 1;
        if book.entries.get(&id).is_some_and(|entry| is_final(entry.state)) {
            book.entries.remove(&id);
        }
    }
}

impl MemoryStore {
    /// A store for the workers of a fleet, all in this process: it keeps the results, and a lane's new holder puts back what
    /// an earlier one claimed and did not sign.
    pub fn of_a_fleet() -> Self {
        let store = Self::default();
        store.lock().journal.results = Some(Vec::new());
        store
    }

    /// Keeps records for these windows instead of the default ones.
    #[must_use]
    pub fn keeping(self, windows: Windows) -> Self {
        self.lock().book.windows = windows;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State<Diary>> {
        // A panic elsewhere cannot leave a half-done step: every step checks first and then only moves values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recall for MemoryStore {
    async fn results(&self, visit: &mut (dyn FnMut(ResultRow) + Send)) -> Result<(), StoreError> {
        let rows = self.lock().journal.results.clone().unwrap_or_default();
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
        let taken = self.lock().push(transfers, max_depth, self.clock.now());
        if taken > 0 {
            self.work.notify_one();
        }
        Ok(taken)
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        let mut state = self.lock();
        let before = state.leases().find(|(known, ..)| *known == lane).map(|(_, holder, _)| holder);
        let taken = state.acquire(lane, lease, ttl, Instant::now())?;
        if state.journal.results.is_some() && before != Some(lease) {
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
        self.lock().commit(lane, lease, claim, attempt, self.clock.now())
    }

    async fn sent(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        self.lock().sent(attempts, self.clock.now());
        Ok(())
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        if self.lock().settle(attempt, settled, self.clock.now())? {
            self.work.notify_one();
        }
        Ok(())
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        Ok(self.lock().cancel_queued(self.clock.now()))
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

impl Records for MemoryStore {
    async fn accept(&self, submissions: Vec<Submission>, max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        let mut state = self.lock();
        let now = self.clock.now();
        forget(&mut state, now.unix_ms, 16 + 2 * submissions.len());
        let accepted = state.accept(submissions, max_depth, now);
        drop(state);
        if accepted.iter().any(|answer| matches!(answer, Accepted::New { .. })) {
            self.work.notify_one();
        }
        Ok(accepted)
    }

    async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        let state = self.lock();
        Ok(ids.iter().map(|id| state.book.record(*id)).collect())
    }

    async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let state = self.lock();
        let diary = &state.journal;
        let end = before.map_or(u64::MAX, |cursor| cursor.0).min(diary.first + diary.births.len() as u64);
        let mut page = Page::default();
        let from = diary.first_with_details;
        for (looks, birth) in (from..end).rev().enumerate() {
            if page.records.len() == limit || looks == LOOKS {
                page.next = Some(Cursor(birth + 1));
                break;
            }
            let Some((id, _)) = diary.births.get((birth - diary.first) as usize) else { break };
            let record = state.book.entries.get(id).filter(|entry| entry.birth == birth);
            page.records.extend(record.map(|entry| entry.record(*id)).filter(|record| filter.takes(record)));
        }
        Ok(page)
    }

    async fn transaction(&self, hash: Hash) -> Result<Vec<TransferId>, StoreError> {
        let state = self.lock();
        let open = state.transaction(hash);
        Ok(open.or_else(|| state.journal.transactions.get(&hash).cloned()).unwrap_or_default())
    }

    async fn cancel(&self, id: TransferId) -> Result<Changed, StoreError> {
        Ok(self.lock().cancel(id, self.clock.now()))
    }

    async fn retry(&self, id: TransferId, now_ns: u64) -> Result<Changed, StoreError> {
        let changed = self.lock().retry(id, now_ns, self.clock.now());
        if matches!(changed, Changed::Done(_)) {
            self.work.notify_one();
        }
        Ok(changed)
    }

    async fn census(&self) -> Result<Census, StoreError> {
        Ok(self.lock().census(self.clock.now()))
    }
}
