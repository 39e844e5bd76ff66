//! What every backend does at each step: a state machine in memory. No I/O; time is an argument.
//!
//! A step either changes nothing and says why, or is done when it returns. It tells a [`Journal`] which rows it
//! changed, so that a backend that keeps them elsewhere writes those alone.
//!
//! The queue is packed into rows. A claimed transfer stays in its row until it is in an attempt, so that what is kept of
//! the queue says where a claim's transfers belong when the claim is lost with its holder.

use crate::{
    Accepted, Attempt, AttemptId, Census, Changed, Claim, ClaimId, Depth, Digest, Lane, LaneKey, LeaseId, Record,
    StoreError, Submission,
    book::{Book, Entry, Moment},
};
use nearbench_core::{
    Hash, Nonce, Transfer, TransferId, TransferState, batch,
    outcome::FailureKind,
    plan::Batch,
    settle::{Fate, Settled, Settlement},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Transfers in a row of the queue, at most: the bits of [`Row::gone`].
pub(crate) const ROW: usize = 128;

/// Labels beside those of failures.
pub(crate) const FAILED: &str = "failed";
pub(crate) const NO_PROOF: &str = "no_proof";
pub(crate) const CONFLICT: &str = "conflict";
pub(crate) const CAP_EXCEEDED: &str = "cap_exceeded";

/// Hears which rows a step changed. What [`State`] holds of a row after the step is the row's new value; a row that it
/// no longer holds is gone. `stored`: whether the backend had written the row.
pub(crate) trait Journal {
    /// A row of the queue is new or changed.
    fn row_changed(&mut self, _key: i64) {}
    /// A row of the queue is gone.
    fn row_gone(&mut self, _key: i64, _stored: bool) {}
    /// A lane's high-water mark rose.
    fn lane_rose(&mut self, _lane: &LaneKey) {}
    /// An attempt is new.
    fn attempt_opened(&mut self, _id: AttemptId) {}
    /// An attempt was settled.
    fn attempt_settled(&mut self, _id: AttemptId, _open: Open, _settled: &Settled) {}
    /// Transfers were withdrawn.
    fn cancelled(&mut self, _transfers: &[Transfer]) {}
    /// A record is new, and has the next number.
    fn record_born(&mut self, _id: TransferId, _unix_ms: u64) {}
    /// A record changed, or is gone. What an attempt says of its transfers (that they are signed, or sent) is none.
    fn record_changed(&mut self, _id: TransferId) {}
    /// A transaction was settled that carried transfers with records.
    fn recorded(&mut self, _hash: Hash, _transfers: &[Transfer]) {}
    /// A client spent.
    fn spent(&mut self, _client: &Arc<str>) {}
}

/// Nothing is kept elsewhere.
impl Journal for () {}

/// A run of neighbours in the queue.
#[derive(Default)]
pub(crate) struct Row {
    transfers: Vec<Transfer>,
    /// From here on they are queued; before it they are claimed or gone.
    queued_from: usize,
    /// One bit each: those that are somewhere else now.
    gone: u128,
    /// Whether the backend wrote it.
    pub(crate) stored: bool,
}

impl Row {
    fn is_empty(&self) -> bool {
        self.gone.count_ones() as usize == self.transfers.len()
    }

    /// What belongs here, oldest first: queued or claimed.
    pub(crate) fn transfers(&self) -> impl Iterator<Item = &Transfer> + Clone {
        self.transfers
            .iter()
            .enumerate()
            .filter(|(index, _)| self.gone & (1 << index) == 0)
            .map(|(_, transfer)| transfer)
    }
}

/// Claimed transfers' places in a row.
struct Place {
    row: i64,
    from: usize,
    to: usize,
}

struct Claimed {
    lane: LaneKey,
    transfers: Arc<[Transfer]>,
    places: Vec<Place>,
}

#[derive(Default)]
struct Held {
    lease: Option<(LeaseId, Instant)>,
    /// The highest nonce that an attempt used, and the highest that was reserved.
    used: Nonce,
    reserved: Nonce,
}

impl Held {
    /// The first of `count` nonces, reserved.
    fn reserve(&mut self, count: u32) -> Nonce {
        let first = self.reserved + 1;
        self.reserved += Nonce::from(count);
        first
    }
}

/// An attempt that is not settled.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) lane: LaneKey,
    pub(crate) attempt: Attempt,
    pub(crate) transfers: Arc<[Transfer]>,
    /// When it was stored.
    pub(crate) unix_ms: u64,
    /// Whether the backend wrote it.
    pub(crate) stored: bool,
}

pub(crate) struct State<J> {
    pub(crate) journal: J,
    /// The queue's rows by position, and those whose transfers are all claimed.
    rows: BTreeMap<i64, Row>,
    /// The rows that hold queued transfers, in their order.
    ready: VecDeque<i64>,
    /// The lowest and one above the highest key that was ever given to a row: none is given twice.
    head: i64,
    tail: i64,
    claims: HashMap<ClaimId, Claimed>,
    lanes: HashMap<LaneKey, Held>,
    attempts: BTreeMap<AttemptId, Open>,
    /// How many transfers are queued, claimed and in `attempts`.
    queued: u64,
    claimed: u64,
    open: u64,
    next_id: u64,
    /// The records of what is here; a backend may keep others elsewhere.
    pub(crate) book: Book,
}

impl<J: Journal + Default> Default for State<J> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<J: Journal + Default> State<J> {
    /// Nothing yet; the first id lies above `last_id`.
    pub(crate) fn new(last_id: u64) -> Self {
        Self {
            journal: J::default(),
            rows: BTreeMap::new(),
            ready: VecDeque::new(),
            head: 0,
            tail: 0,
            claims: HashMap::new(),
            lanes: HashMap::new(),
            attempts: BTreeMap::new(),
            queued: 0,
            claimed: 0,
            open: 0,
            next_id: last_id,
            book: Book::default(),
        }
    }
}

/// What a backend reads back; nothing of it is journalled.
impl<J: Journal> State<J> {
    /// A row of the queue; rows come in the order of their keys.
    pub(crate) fn restore_row(&mut self, key: i64, transfers: Vec<Transfer>) {
        if self.rows.is_empty() {
            self.head = key;
        }
        self.tail = key + 1;
        self.queued += transfers.len() as u64;
        self.ready.push_back(key);
        self.rows.insert(key, Row { transfers, stored: true, ..Row::default() });
    }

    pub(crate) fn restore_lane(&mut self, lane: LaneKey, high_water: Nonce) {
        self.lanes.insert(lane, Held { lease: None, used: high_water, reserved: high_water });
    }

    pub(crate) fn restore_attempt(&mut self, id: AttemptId, open: Open) {
        self.open += open.transfers.len() as u64;
        self.attempts.insert(id, open);
    }

    /// The record of a transfer that is in the queue or in an attempt: after all of these.
    pub(crate) fn restore_record(&mut self, id: TransferId, entry: Entry) {
        self.book.entries.insert(id, entry);
    }

    /// Where the restored records' transfers are: what was not written to the records themselves.
    pub(crate) fn place_records(&mut self) {
        let entries = &mut self.book.entries;
        for (key, row) in &self.rows {
            for transfer in row.transfers() {
                if let Some(entry) = entries.get_mut(&transfer.id) {
                    entry.row = *key;
                }
            }
        }
        for Open { attempt, transfers, unix_ms, .. } in self.attempts.values() {
            for transfer in transfers.iter() {
                if let Some(entry) = entries.get_mut(&transfer.id)
                    && (entry.state == TransferState::Queued || entry.tx_hash != Some(attempt.hash))
                {
                    entry.sign(attempt.hash, *unix_ms);
                }
            }
        }
        for entry in entries.values() {
            self.book.counts.0[entry.state as usize] += 1;
        }
    }

    pub(crate) fn row(&mut self, key: i64) -> Option<&mut Row> {
        self.rows.get_mut(&key)
    }

    pub(crate) fn attempt(&mut self, id: AttemptId) -> Option<&mut Open> {
        self.attempts.get_mut(&id)
    }

    pub(crate) fn high_water(&self, lane: &LaneKey) -> Nonce {
        self.lanes.get(lane).map_or(0, |held| held.used)
    }

    /// Every transfer that is accepted and not in a final state: the queue in its order with the claimed ones at their
    /// places, then the attempts.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &Transfer> {
        let attempts = self.attempts.values().flat_map(|open| open.transfers.iter());
        self.rows.values().flat_map(Row::transfers).chain(attempts)
    }
}

/// The steps.
impl<J: Journal> State<J> {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn held(&mut self, lane: &LaneKey, lease: LeaseId, now: Instant) -> Result<&mut Held, StoreError> {
        self.lanes
            .get_mut(lane)
            .filter(|held| held.lease.is_some_and(|(id, until)| id == lease && now < until))
            .ok_or_else(|| StoreError::LeaseLost(lane.public_key.clone()))
    }

    /// Lets the records of `transfers` know their row.
    fn note_row(&mut self, key: i64, transfers: &[Transfer]) {
        if self.book.is_empty() {
            return;
        }
        for transfer in transfers {
            if let Some(entry) = self.book.entries.get_mut(&transfer.id) {
                entry.row = key;
            }
        }
    }

    fn put_back(&mut self, transfers: Vec<Transfer>) {
        self.queued += transfers.len() as u64;
        for chunk in transfers.chunks(ROW).rev() {
            self.head -= 1;
            self.note_row(self.head, chunk);
            self.rows.insert(self.head, Row { transfers: chunk.to_vec(), ..Row::default() });
            self.ready.push_front(self.head);
            self.journal.row_changed(self.head);
        }
    }

    /// Takes claimed transfers out of their rows.
    fn leave(&mut self, places: &[Place]) {
        for place in places {
            let Some(row) = self.rows.get_mut(&place.row) else { continue };
            let (below_to, below_from) = (u128::MAX >> (ROW - place.to), (1u128 << place.from) - 1);
            row.gone |= below_to & !below_from;
            self.tell(place.row);
        }
    }

    /// Journals a change of the row, and drops the row when nothing is left in it.
    fn tell(&mut self, key: i64) {
        match self.rows.get(&key) {
            Some(row) if row.is_empty() => {
                self.journal.row_gone(key, row.stored);
                self.rows.remove(&key);
            }
            _ => self.journal.row_changed(key),
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.queued > 0
    }

    fn room(&self, max_depth: u64) -> usize {
        usize::try_from(max_depth.saturating_sub(self.queued)).unwrap_or(usize::MAX)
    }

    pub(crate) fn push(&mut self, mut transfers: Vec<Transfer>, max_depth: u64, now: Moment) -> usize {
        transfers.truncate(self.room(max_depth));
        let taken = transfers.len();
        self.book.minute.accepted(now.unix_ms, taken as u64);
        self.append(transfers, false);
        taken
    }

    /// Puts transfers at the end of the queue; `recorded`: whether they have records.
    fn append(&mut self, transfers: Vec<Transfer>, recorded: bool) {
        self.queued += transfers.len() as u64;
        let mut transfers = transfers.into_iter();
        while transfers.len() > 0 {
            // The last row is added to while it has room and something of it is queued.
            let last = self.rows.last_key_value().map(|(key, row)| (*key, row.transfers.len()));
            let key = match last {
                Some((key, len)) if len < ROW && self.ready.back() == Some(&key) => key,
                _ => {
                    let key = self.tail;
                    self.tail += 1;
                    self.ready.push_back(key);
                    key
                }
            };
            let row = self.rows.entry(key).or_default();
            let from = row.transfers.len();
            row.transfers.extend(transfers.by_ref().take(ROW - from));
            if recorded {
                for transfer in &row.transfers[from..] {
                    if let Some(entry) = self.book.entries.get_mut(&transfer.id) {
                        entry.row = key;
                    }
                }
            }
            self.journal.row_changed(key);
        }
    }

    pub(crate) fn acquire(
        &mut self,
        lane: &LaneKey,
        lease: LeaseId,
        ttl: Duration,
        now: Instant,
    ) -> Result<Lane, StoreError> {
        let held = self.lanes.entry(lane.clone()).or_default();
        if let Some((holder, until)) = held.lease
            && holder != lease
            && now < until
        {
            return Err(StoreError::Held { lane: lane.public_key.clone(), free_in: until - now });
        }
        held.lease = Some((lease, now + ttl));
        let high_water = held.reserved;
        let mut open: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, open)| open.lane == *lane)
            .map(|(id, open)| (*id, open.attempt.clone(), open.transfers.clone()))
            .collect();
        open.sort_by_key(|(_, attempt, _)| attempt.nonce);
        Ok(Lane { high_water, open })
    }

    pub(crate) fn renew(
        &mut self,
        lane: &LaneKey,
        lease: LeaseId,
        ttl: Duration,
        now: Instant,
    ) -> Result<(), StoreError> {
        self.held(lane, lease, now)?.lease = Some((lease, now + ttl));
        Ok(())
    }

    pub(crate) fn release_lane(&mut self, lane: &LaneKey, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        self.held(lane, lease, now)?.lease = None;
        Ok(())
    }

    /// Every lease that was given, run out or not.
    pub(crate) fn leases(&self) -> impl Iterator<Item = (&LaneKey, LeaseId, Instant)> {
        self.lanes.iter().filter_map(|(lane, held)| held.lease.map(|(lease, until)| (lane, lease, until)))
    }

    /// Lets the nonces of a lane that nobody holds go on above `floor`.
    pub(crate) fn seed(&mut self, lane: &LaneKey, floor: Nonce, now: Instant) {
        let held = self.lanes.entry(lane.clone()).or_default();
        if held.lease.is_none_or(|(_, until)| until <= now) {
            held.reserved = held.reserved.max(floor);
        }
    }

    /// Puts back what an earlier holder of the lane claimed and did not sign: its claims are refused from now on.
    pub(crate) fn take_back(&mut self, lane: &LaneKey) {
        let left: Vec<_> = self.claims.iter().filter(|(_, claimed)| claimed.lane == *lane).map(|(id, _)| *id).collect();
        for claim in left {
            // It was there a moment ago.
            let _ = self.release(claim);
        }
    }

    pub(crate) fn claim(
        &mut self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
        now: Instant,
    ) -> Result<Option<Claim>, StoreError> {
        let depth = self.queued;
        let max = batch::size(depth, batch, at_most) as usize;
        let held = self.held(lane, lease, now)?;
        if max == 0 {
            return Ok(None);
        }
        let nonce = held.reserve(1);
        let mut transfers = Vec::with_capacity(max);
        let mut places = Vec::new();
        while transfers.len() < max
            && let Some(&key) = self.ready.front()
            && let Some(row) = self.rows.get_mut(&key)
        {
            let from = row.queued_from;
            let to = row.transfers.len().min(from.saturating_add(max - transfers.len()));
            transfers.extend_from_slice(&row.transfers[from..to]);
            places.push(Place { row: key, from, to });
            row.queued_from = to;
            if to == row.transfers.len() {
                self.ready.pop_front();
            }
        }
        self.queued -= transfers.len() as u64;
        self.claimed += transfers.len() as u64;
        let id = ClaimId(self.id());
        let transfers: Arc<[Transfer]> = transfers.into();
        self.claims.insert(id, Claimed { lane: lane.clone(), transfers: transfers.clone(), places });
        Ok(Some(Claim { id, nonce, depth, transfers }))
    }

    pub(crate) fn reserve(
        &mut self,
        lane: &LaneKey,
        lease: LeaseId,
        count: u32,
        now: Instant,
    ) -> Result<Nonce, StoreError> {
        Ok(self.held(lane, lease, now)?.reserve(count))
    }

    pub(crate) fn raise(
        &mut self,
        lane: &LaneKey,
        lease: LeaseId,
        floor: Nonce,
        now: Instant,
    ) -> Result<(), StoreError> {
        let held = self.held(lane, lease, now)?;
        held.reserved = held.reserved.max(floor);
        Ok(())
    }

    pub(crate) fn release(&mut self, claim: ClaimId) -> Result<(), StoreError> {
        let claimed = self.claims.remove(&claim).ok_or(StoreError::ClaimLost(claim))?;
        self.claimed -= claimed.transfers.len() as u64;
        self.leave(&claimed.places);
        self.put_back(claimed.transfers.to_vec());
        Ok(())
    }

    pub(crate) fn commit(
        &mut self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
        now: Moment,
    ) -> Result<AttemptId, StoreError> {
        let high_water = self.held(lane, lease, now.at)?.used;
        if attempt.nonce <= high_water {
            return Err(StoreError::NonceReused { lane: lane.public_key.clone(), nonce: attempt.nonce, high_water });
        }
        let transfers = match claim {
            Some(claim) => {
                let claimed = self.claims.remove(&claim).ok_or(StoreError::ClaimLost(claim))?;
                self.leave(&claimed.places);
                claimed.transfers
            }
            None => Arc::default(),
        };
        let held = self.held(lane, lease, now.at)?;
        held.used = attempt.nonce;
        held.reserved = held.reserved.max(attempt.nonce);
        self.journal.lane_rose(lane);
        self.claimed -= transfers.len() as u64;
        self.open += transfers.len() as u64;
        if !self.book.is_empty() {
            for transfer in transfers.iter() {
                self.book.change(transfer.id, now.unix_ms, |entry| entry.sign(attempt.hash, now.unix_ms));
            }
        }
        let id = AttemptId(self.id());
        let unix_ms = now.unix_ms;
        self.attempts.insert(id, Open { lane: lane.clone(), attempt, transfers, unix_ms, stored: false });
        self.journal.attempt_opened(id);
        Ok(id)
    }

    pub(crate) fn sent(&mut self, attempts: &[AttemptId], now: Moment) {
        if self.book.is_empty() {
            return;
        }
        for Open { attempt, transfers, .. } in attempts.iter().filter_map(|id| self.attempts.get(id)) {
            for transfer in transfers.iter() {
                self.book.change(transfer.id, now.unix_ms, |entry| match entry.state {
                    TransferState::Signed => entry.move_to(TransferState::Submitted, Some(attempt.hash), now.unix_ms),
                    other => other,
                });
            }
        }
    }

    /// Returns whether something went back to the queue.
    pub(crate) fn settle(&mut self, attempt: AttemptId, settled: &Settled, now: Moment) -> Result<bool, StoreError> {
        let open = self.attempts.remove(&attempt).ok_or(StoreError::NotOpen(attempt))?;
        self.open -= open.transfers.len() as u64;
        self.count_ends(&open, settled, now);
        if !self.book.is_empty() {
            self.settle_records(&open, settled, now);
        }
        let back: Vec<_> = open
            .transfers
            .iter()
            .enumerate()
            .filter(|(index, _)| settled.settlement.fate(*index) == Fate::Requeue)
            .map(|(_, transfer)| transfer.clone())
            .collect();
        self.journal.attempt_settled(attempt, open, settled);
        let woken = !back.is_empty();
        self.put_back(back);
        Ok(woken)
    }

    fn count_ends(&mut self, open: &Open, settled: &Settled, now: Moment) {
        let count = open.transfers.len() as u64;
        let (finalized, failed) = match settled.settlement {
            Settlement::All(Fate::Finalized) => (count, 0),
            Settlement::All(Fate::Failed) => (0, count),
            Settlement::Poisoned { index } => (0, u64::from((index as u64) < count)),
            Settlement::All(Fate::Requeue | Fate::NeedsReview) => return,
        };
        self.book.minute.ended(now.unix_ms, finalized, failed);
    }

    fn settle_records(&mut self, open: &Open, settled: &Settled, now: Moment) {
        let hash = open.attempt.hash;
        let mut recorded = false;
        for (index, transfer) in open.transfers.iter().enumerate() {
            let (state, error) = match settled.settlement.fate(index) {
                Fate::Finalized => (TransferState::Finalized, None),
                Fate::Failed => {
                    (TransferState::Failed, Some(settled.failure.as_ref().map_or(FAILED, FailureKind::label)))
                }
                Fate::Requeue => (TransferState::Queued, None),
                Fate::NeedsReview => (TransferState::NeedsReview, Some(NO_PROOF)),
            };
            let changed = self.book.change(transfer.id, now.unix_ms, |entry| {
                entry.error = error;
                entry.move_to(state, Some(hash), now.unix_ms)
            });
            if changed {
                self.journal.record_changed(transfer.id);
            }
            recorded |= changed;
        }
        if recorded {
            self.journal.recorded(hash, &open.transfers);
        }
    }

    /// The records of withdrawn transfers.
    fn cancel_records(&mut self, transfers: &[Transfer], now: Moment) {
        if self.book.is_empty() {
            return;
        }
        for transfer in transfers {
            let to = |entry: &mut Entry| entry.move_to(TransferState::Cancelled, None, now.unix_ms);
            if self.book.change(transfer.id, now.unix_ms, to) {
                self.journal.record_changed(transfer.id);
            }
        }
    }

    pub(crate) fn accept(&mut self, submissions: Vec<Submission>, max_depth: u64, now: Moment) -> Vec<Accepted> {
        let mut room = self.room(max_depth);
        let mut new = Vec::with_capacity(submissions.len());
        let accepted = submissions
            .into_iter()
            .map(|submission| {
                let answer = self.book.enter(&submission, room > 0, now.unix_ms);
                if let Accepted::New { .. } = answer {
                    room -= 1;
                    self.journal.record_born(submission.transfer.id, now.unix_ms);
                    self.journal.record_changed(submission.transfer.id);
                    if let Some(budget) = &submission.budget {
                        self.journal.spent(&budget.client);
                    }
                    new.push(submission.transfer);
                }
                answer
            })
            .collect();
        self.book.minute.accepted(now.unix_ms, new.len() as u64);
        self.append(new, true);
        accepted
    }

    pub(crate) fn cancel(&mut self, id: TransferId, now: Moment) -> Changed {
        let Some(before) = self.book.record(id) else { return Changed::Unknown };
        let Some(transfer) = self.take_queued(id) else { return Changed::Refused(Box::new(before)) };
        let transfers = [transfer];
        self.cancel_records(&transfers, now);
        self.journal.cancelled(&transfers);
        // One whose windows are over is gone with its end.
        let gone = Record { state: TransferState::Cancelled, ..before };
        Changed::Done(Box::new(self.book.record(id).unwrap_or(gone)))
    }

    /// A transfer with a record, if it is in the queue.
    pub(crate) fn queued(&self, id: TransferId) -> Option<&Transfer> {
        let entry = self.book.entries.get(&id).filter(|entry| entry.state == TransferState::Queued)?;
        let row = self.rows.get(&entry.row)?;
        row.transfers[row.queued_from..].iter().find(|transfer| transfer.id == id)
    }

    /// Takes a transfer with a record out of the queue, if it is in it.
    fn take_queued(&mut self, id: TransferId) -> Option<Transfer> {
        let entry = self.book.entries.get(&id).filter(|entry| entry.state == TransferState::Queued)?;
        let key = entry.row;
        // What is claimed is not queued, though its record says nothing of it.
        let row = self.rows.get_mut(&key)?;
        let at = row.transfers[row.queued_from..].iter().position(|transfer| transfer.id == id)?;
        let transfer = row.transfers.remove(row.queued_from + at);
        if row.queued_from == row.transfers.len()
            && let Ok(at) = self.ready.binary_search(&key)
        {
            self.ready.remove(at);
        }
        self.queued -= 1;
        self.tell(key);
        Some(transfer)
    }

    /// Ends what is queued under `id` with this digest: another store took it over and answers for it from now on, or it
    /// comes into the state of `end`, with its error. Whether there was such a one.
    pub(crate) fn hand_over(
        &mut self,
        id: TransferId,
        digest: Digest,
        end: Option<(TransferState, &'static str)>,
        now: Moment,
    ) -> bool {
        if self.book.entries.get(&id).is_none_or(|entry| entry.digest != digest) || self.take_queued(id).is_none() {
            return false;
        }
        match end {
            None => self.book.forget(id),
            Some((state, error)) => drop(self.book.change(id, now.unix_ms, |entry| {
                entry.error = Some(error);
                entry.move_to(state, None, now.unix_ms)
            })),
        }
        self.journal.record_changed(id);
        true
    }

    /// `now_ns` is on the load's clock.
    pub(crate) fn retry(&mut self, id: TransferId, now_ns: u64, now: Moment) -> Changed {
        let Some(entry) = self.book.entries.get_mut(&id) else { return Changed::Unknown };
        let Some(details) = entry.details.as_ref().filter(|_| entry.state == TransferState::Failed) else {
            return Changed::Refused(Box::new(entry.record(id)));
        };
        let transfer = Transfer {
            id,
            receiver: details.receiver.clone(),
            amount: details.amount,
            memo: details.memo.clone(),
            sequence: u64::MAX,
            phase: 0,
            intended_ns: now_ns,
            sent_ns: now_ns,
        };
        self.book.change(id, now.unix_ms, |entry| {
            entry.error = None;
            entry.move_to(TransferState::Queued, None, now.unix_ms)
        });
        self.journal.record_changed(id);
        self.append(vec![transfer], true);
        self.book.record(id).map_or(Changed::Unknown, |record| Changed::Done(Box::new(record)))
    }

    /// The open attempt with this hash, if its transfers have records.
    pub(crate) fn transaction(&self, hash: Hash) -> Option<Vec<TransferId>> {
        let open = self.attempts.values().find(|open| open.attempt.hash == hash)?;
        let ids: Vec<_> = open.transfers.iter().map(|transfer| transfer.id).collect();
        ids.iter().any(|id| self.book.entries.contains_key(id)).then_some(ids)
    }

    pub(crate) fn census(&self, now: Moment) -> Census {
        let oldest = self.ready.front().and_then(|key| self.rows.get(key));
        let oldest = oldest.and_then(|row| row.transfers.get(row.queued_from));
        let oldest = oldest.and_then(|transfer| self.book.entries.get(&transfer.id));
        Census {
            counts: self.book.counts,
            depth: self.depth(),
            oldest_queued: oldest.map(|entry| entry.created),
            now: now.unix_ms,
            recent: self.book.minute.look(now.unix_ms),
        }
    }

    pub(crate) fn cancel_queued(&mut self, now: Moment) -> Vec<Transfer> {
        let mut cancelled = Vec::with_capacity(usize::try_from(self.queued).unwrap_or_default());
        for key in std::mem::take(&mut self.ready) {
            if let Some(row) = self.rows.get_mut(&key) {
                cancelled.extend(row.transfers.drain(row.queued_from..));
                self.tell(key);
            }
        }
        self.queued = 0;
        self.cancel_records(&cancelled, now);
        self.journal.cancelled(&cancelled);
        cancelled
    }

    pub(crate) fn depth(&self) -> Depth {
        Depth { queued: self.queued, claimed: self.claimed, open: self.open }
    }
}
