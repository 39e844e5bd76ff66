//! The records that the state machine holds, and how they change. No I/O; time is an argument.

use crate::{
    Accepted, Budget, Counts, Details, Digest, Event, Record, Submission, Windows,
    recent::Minute,
    records::{MAX_EVENTS, is_final},
};
use nearbench_core::{Amount, Hash, Transfer, TransferId, TransferState, quota::Spent};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;

/// A moment, by the clock that leases are counted on, and by the calendar.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) unix_ms: u64,
}

/// The calendar as the store has it: read once, then counted on.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_unix_ms: u64,
}

impl Default for Clock {
    fn default() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix_ms: unix.as_millis() as u64 }
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Moment {
        let at = Instant::now();
        let unix_ms = self.start_unix_ms + at.saturating_duration_since(self.start).as_millis() as u64;
        Moment { at, unix_ms }
    }
}

/// A record, without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) state: TransferState,
    pub(crate) tx_hash: Option<Hash>,
    pub(crate) attempts: u32,
    pub(crate) error: Option<&'static str>,
    pub(crate) created: u64,
    pub(crate) updated: u64,
    /// Its number among all records.
    pub(crate) birth: u64,
    pub(crate) details: Option<Box<Details>>,
    /// The row of the queue that it is in, if it is queued.
    pub(crate) row: i64,
}

impl Entry {
    pub(crate) fn record(&self, id: TransferId) -> Record {
        Record {
            id,
            state: self.state,
            tx_hash: self.tx_hash,
            attempts: self.attempts,
            error: self.error,
            created: self.created,
            updated: self.updated,
            finalized: is_final(self.state).then_some(self.updated),
            details: self.details.clone(),
        }
    }

    /// Into `state`; what it was in. Its times do not go back, though a clock may.
    pub(crate) fn move_to(&mut self, state: TransferState, tx_hash: Option<Hash>, at: u64) -> TransferState {
        let at = at.max(self.updated);
        if let Some(details) = &mut self.details {
            if details.events.len() >= MAX_EVENTS {
                details.events.remove(MAX_EVENTS / 2);
            }
            details.events.push(Event { state, at, tx_hash });
        }
        self.updated = at;
        std::mem::replace(&mut self.state, state)
    }

    /// Into an attempt.
    pub(crate) fn sign(&mut self, tx_hash: Hash, at: u64) -> TransferState {
        self.tx_hash = Some(tx_hash);
        self.attempts += 1;
        self.move_to(TransferState::Signed, Some(tx_hash), at)
    }
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) entries: HashMap<TransferId, Entry>,
    pub(crate) counts: Counts,
    pub(crate) next_birth: u64,
    pub(crate) spent: HashMap<Arc<str>, Spent>,
    pub(crate) windows: Windows,
    pub(crate) minute: Minute,
}

impl Book {
    /// Whether no transfer here has a record.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn record(&self, id: TransferId) -> Option<Record> {
        self.entries.get(&id).map(|entry| entry.record(id))
    }

    /// What becomes of a submission when there is room for it or not; it is in no row yet.
    pub(crate) fn enter(&mut self, submission: &Submission, room: bool, now: u64) -> Accepted {
        let Submission { transfer: Transfer { id, receiver, amount, memo, .. }, digest, budget } = submission;
        match self.entries.get(id) {
            Some(entry) if entry.digest == *digest => return Accepted::Replayed(Box::new(entry.record(*id))),
            Some(_) => return Accepted::Conflict,
            None if !room => return Accepted::Full,
            None => {}
        }
        if let Some(budget) = budget
            && !self.spend(budget, *amount, now)
        {
            return Accepted::OverCap;
        }
        let state = TransferState::Queued;
        let details = Details {
            receiver: receiver.clone(),
            amount: *amount,
            memo: memo.clone(),
            events: vec![Event { state, at: now, tx_hash: None }],
        };
        let entry = Entry {
            digest: *digest,
            state,
            tx_hash: None,
            attempts: 0,
            error: None,
            created: now,
            updated: now,
            birth: self.next_birth,
            details: Some(Box::new(details)),
            row: 0,
        };
        self.next_birth += 1;
        self.counts.0[state as usize] += 1;
        self.entries.insert(*id, entry);
        Accepted::New { at: now }
    }

    fn spend(&mut self, budget: &Budget, amount: Amount, now: u64) -> bool {
        let before = self.spent.get(&budget.client).copied().unwrap_or_default();
        let after = before.spend(now, amount, budget.daily_cap);
        if let Some(after) = after {
            self.spent.insert(budget.client.clone(), after);
        }
        after.is_some()
    }

    /// Removes a record, and what counts it.
    pub(crate) fn forget(&mut self, id: TransferId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.counts.0[entry.state as usize] -= 1;
        }
    }

    /// Takes a record from one state to the next by `step`, which returns the state before; whether there is one.
    pub(crate) fn change(&mut self, id: TransferId, now: u64, step: impl FnOnce(&mut Entry) -> TransferState) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let before = step(entry);
        self.counts.0[before as usize] -= 1;
        self.counts.0[entry.state as usize] += 1;
        if is_final(entry.state) {
            if entry.state == TransferState::Finalized {
                self.minute.latency(now, now.saturating_sub(entry.created));
            }
            // Its windows may be over: they count from its acceptance.
            if Windows::is_over(self.windows.details, entry.created, now) {
                entry.details = None;
            }
            if Windows::is_over(self.windows.idempotency, entry.created, now) {
                self.entries.remove(&id);
            }
        }
        true
    }
}
