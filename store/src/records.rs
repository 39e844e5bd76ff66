//! What is kept of the transfers that clients submit under a key of their own: so that the same key never pays twice, and
//! that whoever asks learns what became of it.
//!
//! A transfer that is pushed without a record costs nothing here. A record has two parts, kept for two windows that count
//! from its acceptance: what makes a replay safe (identity, digest, state, times, last transaction; at most 100 bytes),
//! and the details (receiver, amount, memo, events). What is not in a final state is kept whatever its age.

use crate::{Depth, Store, StoreError, state::CONFLICT};
use nearbench_core::{Account, Amount, Hash, Memo, Transfer, TransferId, TransferState};
use std::{future::Future, sync::Arc, time::Duration};

/// What a body said, so that the same key with another body is told from a replay: the head of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

/// What a client may have accepted in one day (UTC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whose.
    pub client: Arc<str>,
    /// Token units.
    pub daily_cap: Amount,
}

/// A transfer that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What to carry out; its id comes of the client's key.
    pub transfer: Transfer,
    /// Of what the client wrote.
    pub digest: Digest,
    /// What it counts against, if anything.
    pub budget: Option<Budget>,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is in the queue.
    New {
        /// When, in Unix milliseconds.
        at: u64,
    },
    /// It was accepted before; nothing was changed.
    Replayed(Box<Record>),
    /// Another body was accepted under this id.
    Conflict,
    /// The queue holds as many as it may.
    Full,
    /// The client's budget does not suffice today.
    OverCap,
}

/// A transfer that was accepted, as it stands. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its identity.
    pub id: TransferId,
    /// Where it stands.
    pub state: TransferState,
    /// The transaction that carries it, or carried it last.
    pub tx_hash: Option<Hash>,
    /// How many were signed with it.
    pub attempts: u32,
    /// What it failed of: a label of [`nearbench_core::outcome::FailureKind`], or `no_proof`; in a spool `conflict` (another
    /// body was accepted under its key) or `cap_exceeded`.
    pub error: Option<&'static str>,
    /// When it was accepted.
    pub created: u64,
    /// When its state last changed.
    pub updated: u64,
    /// When it came into its final state.
    pub finalized: Option<u64>,
    /// `None` once their window is over.
    pub details: Option<Box<Details>>,
}

impl Record {
    /// Whether it failed because another body was accepted under its key.
    pub fn is_conflict(&self) -> bool {
        self.error == Some(CONFLICT)
    }
}

/// What a client wrote, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// Who gets the tokens.
    pub receiver: Account,
    /// How many smallest units.
    pub amount: Amount,
    /// What the client wrote to it.
    pub memo: Option<Memo>,
    /// Oldest first; of a transfer that is put back again and again, the first and the last.
    pub events: Vec<Event>,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Into which.
    pub state: TransferState,
    /// When, in Unix milliseconds.
    pub at: u64,
    /// By which transaction.
    pub tx_hash: Option<Hash>,
}

/// Events of one transfer, at most.
pub(crate) const MAX_EVENTS: usize = 32;

/// Whether nothing more happens to a transfer by itself.
pub fn is_final(state: TransferState) -> bool {
    use TransferState::{Cancelled, Failed, Finalized, NeedsReview, Queued, Signed, Submitted};
    match state {
        Queued | Signed | Submitted => false,
        Finalized | Failed | Cancelled | NeedsReview => true,
    }
}

/// How long records are kept, from their acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// What makes a replay safe.
    pub idempotency: Duration,
    /// The rest.
    pub details: Duration,
}

impl Default for Windows {
    /// 7 days, and 24 hours.
    fn default() -> Self {
        Self { idempotency: Duration::from_secs(7 * 86_400), details: Duration::from_secs(86_400) }
    }
}

impl Windows {
    /// Whether the part that is kept for `window` is over.
    pub(crate) fn is_over(window: Duration, created: u64, now: u64) -> bool {
        u128::from(now.saturating_sub(created)) >= window.as_millis()
    }
}

/// Which records are asked for; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who gets the tokens.
    pub receiver: Option<Account>,
    /// Where it stands.
    pub state: Option<TransferState>,
    /// The transaction that carries it, or carried it last.
    pub tx_hash: Option<Hash>,
}

impl Filter {
    /// Whether it takes `record`.
    pub fn takes(&self, record: &Record) -> bool {
        self.receiver
            .as_ref()
            .is_none_or(|receiver| record.details.as_ref().is_some_and(|details| details.receiver == *receiver))
            && self.state.is_none_or(|state| record.state == state)
            && self.tx_hash.is_none_or(|hash| record.tx_hash == Some(hash))
    }
}

/// A place among all records: those before it are older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// Some of the records, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// They may be fewer than were asked for, or none, although there are more.
    pub records: Vec<Record>,
    /// Where to go on, if there may be more.
    pub next: Option<Cursor>,
}

/// What became of a wish to change a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done; so it stands now.
    Done(Box<Record>),
    /// Not in this state; it stands as before.
    Refused(Box<Record>),
    /// There is no such record.
    Unknown,
}

/// How many records came into each state: of the final ones ever, of the others those that are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub(crate) [u64; 7]);

/// Every state, in the order of their numbers.
pub(crate) const STATES: [TransferState; 7] = [
    TransferState::Queued,
    TransferState::Signed,
    TransferState::Submitted,
    TransferState::Finalized,
    TransferState::Failed,
    TransferState::Cancelled,
    TransferState::NeedsReview,
];

impl Counts {
    /// How many are, or came to be, in `state`.
    pub fn of(&self, state: TransferState) -> u64 {
        self.0[state as usize]
    }

    /// Every state and its count.
    pub fn iter(&self) -> impl Iterator<Item = (TransferState, u64)> {
        STATES.into_iter().zip(self.0)
    }
}

/// How the records stand, and what the last minute brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// By state.
    pub counts: Counts,
    /// How many transfers stand where, those without a record too.
    pub depth: Depth,
    /// When the oldest of the queue was accepted, if it has a record; Unix milliseconds.
    pub oldest_queued: Option<u64>,
    /// The store's time, in Unix milliseconds.
    pub now: u64,
    /// The last minute's.
    pub recent: crate::Recent,
}

impl Census {
    /// The same with those that wait in a spool, and are to come into the queue.
    #[must_use]
    pub fn with_spooled(mut self, spool: &Census) -> Self {
        let waiting = spool.depth.queued;
        self.counts.0[TransferState::Queued as usize] += waiting;
        self.depth.queued += waiting;
        self.oldest_queued = self.oldest_queued.into_iter().chain(spool.oldest_queued).min();
        self
    }
}

/// A store that keeps records. Every method is one atomic step.
pub trait Records: Store {
    /// Takes those that are new into the queue, as long as it stays within `max_depth`, and tells what became of each, in
    /// their order. An id that comes twice is a replay, or a conflict, of itself.
    fn accept(
        &self,
        submissions: Vec<Submission>,
        max_depth: u64,
    ) -> impl Future<Output = Result<Vec<Accepted>, StoreError>> + Send;

    /// The records of `ids`, in their order.
    fn find(&self, ids: &[TransferId]) -> impl Future<Output = Result<Vec<Option<Record>>, StoreError>> + Send;

    /// Records whose details are kept, newest first: up to `limit` of those that are older than `before`. A step looks at
    /// a bounded number, so that a page may hold fewer.
    fn list(
        &self,
        filter: &Filter,
        before: Option<Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The transfers of a transaction in their order, as long as details of it are kept; none where it is unknown.
    fn transaction(&self, hash: Hash) -> impl Future<Output = Result<Vec<TransferId>, StoreError>> + Send;

    /// Withdraws a transfer that is queued.
    fn cancel(&self, id: TransferId) -> impl Future<Output = Result<Changed, StoreError>> + Send;

    /// Puts a transfer that is proven to have failed, and whose details are kept, at the end of the queue again, as one
    /// that arrives at `now_ns` (nanoseconds since the load's start) and is no part of its schedule.
    fn retry(&self, id: TransferId, now_ns: u64) -> impl Future<Output = Result<Changed, StoreError>> + Send;

    /// How the records stand.
    fn census(&self) -> impl Future<Output = Result<Census, StoreError>> + Send;
}
