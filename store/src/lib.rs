//! What the workers share: the queue, the lanes and their leases, the attempts and the results.
//!
//! One trait, whose steps are each atomic, and its backends. Every step that changes something names what it
//! believes to hold (a lease, a claim, an attempt) and is refused when that is no longer so: a worker that wakes
//! late changes nothing. This room knows no chain and decides no transfer's fate.

mod book;
mod codec;
mod file;
mod memory;
mod recent;
mod records;
mod redis;
mod staged;
mod state;

pub use codec::{ResultRow, TransferRecord};
pub use file::{FileStore, Moved, OpenError, SpoolError, SpoolFile};
pub use memory::MemoryStore;
pub use recent::Recent;
pub use records::{
    Accepted, Budget, Census, Changed, Counts, Cursor, Details, Digest, Event, Filter, Page, Record, Records,
    Submission, Windows, is_final,
};
/// What a [`FileStore`] is tested on: any storage that takes writes and syncs.
#[doc(hidden)]
pub use redb::{BackendError, StorageBackend, backends::FileBackend};
pub use redis::{
    Activity, Durability, Found, Imported, LaneStanding, RECOVERY_TTL, Recovery, RedisError, RedisOptions, RedisStore,
    RedisUrl,
};

use bytes::Bytes;
use nearbench_core::{Account, Hash, Height, Nonce, Transfer, plan::Batch, settle::Settled};
use std::{future::Future, sync::Arc, time::Duration};

/// One nonce sequence: an account's access key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// Whose key.
    pub account: Account,
    /// The public key, as `ed25519:…`.
    pub public_key: Arc<str>,
}

/// A worker's hold on a lane: random, compared for equality only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub [u8; 16]);

/// A taking of transfers out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimId(pub u64);

/// A stored attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

/// Transfers taken out of the queue, not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What `commit` and `release` must name.
    pub id: ClaimId,
    /// What its transaction is signed with: reserved, as [`Store::reserve`] does.
    pub nonce: Nonce,
    /// How many were in the queue, these among them.
    pub depth: u64,
    /// Oldest first.
    pub transfers: Arc<[Transfer]>,
}

/// A signed transaction and what is needed to judge it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The transaction's hash.
    pub hash: Hash,
    /// The signed transaction in borsh: resending means these bytes.
    pub bytes: Bytes,
    /// Its nonce.
    pub nonce: Nonce,
    /// The height of its base block: it is in none at or below it.
    pub base_height: Height,
    /// Past this height of a final block it can no longer be included.
    pub expiry_height: Height,
}

/// A lane as its new holder finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The highest nonce that was reserved in this lane; the next one lies above.
    pub high_water: Nonce,
    /// Attempts that were stored and not settled, lowest nonce first: resend these before signing anything.
    pub open: Vec<(AttemptId, Attempt, Arc<[Transfer]>)>,
}

/// How many stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// In the queue.
    pub queued: u64,
    /// Claimed, not signed yet.
    pub claimed: u64,
    /// In stored attempts that are not settled.
    pub open: u64,
}

impl Depth {
    /// Accepted and not in a final state.
    pub fn unsettled(&self) -> u64 {
        self.queued + self.claimed + self.open
    }
}

/// Why a step was refused. Nothing was changed, [`StoreError::File`] and [`StoreError::Unreachable`] aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another holds the lane.
    #[error("lane {lane} is held by another worker; it is free {free_in:?} from now unless that worker renews")]
    Held {
        /// The public key.
        lane: Arc<str>,
        /// What is left of the other's lease.
        free_in: Duration,
    },
    /// The lease ran out or was given to another.
    #[error("the lease of lane {0} is no longer ours: claim nothing and sign nothing with it")]
    LeaseLost(Arc<str>),
    /// The claim was released or taken back.
    #[error("claim {0:?} is no longer ours: its transfers went back to the queue")]
    ClaimLost(ClaimId),
    /// The attempt is settled or was never stored.
    #[error("attempt {0:?} is not open: it was settled already")]
    NotOpen(AttemptId),
    /// A nonce at or below one that an attempt used.
    #[error("nonce {nonce} is not above {high_water}, which lane {lane} used already")]
    NonceReused {
        /// The public key.
        lane: Arc<str>,
        /// What was to be used.
        nonce: Nonce,
        /// What was used.
        high_water: Nonce,
    },
    /// The store's file cannot be written or read. This step and all later ones fail; this one may be found done when
    /// the file is opened again, and every confirmed one will be.
    #[error(
        "{file}: {cause}; nothing more is taken. All that was confirmed is in the file: free space or mend the disk, \
         then resume the run"
    )]
    File {
        /// The file's path.
        file: Arc<str>,
        /// What the system said.
        cause: Arc<str>,
    },
    /// The store gave no answer for as long as the caller is patient. The step may be done or not.
    #[error("{store} does not answer: {cause}; the step may be done or not. Mend the store; it is asked again")]
    Unreachable {
        /// Which store.
        store: Arc<str>,
        /// What stood in the way last.
        cause: Arc<str>,
    },
    /// The store is another than it was: restarted, failed over or restored, it may lack what it had confirmed. Until
    /// what the chain knows was brought into it, nothing is taken or signed.
    #[error(
        "{store} was restarted, failed over or restored from a copy, and may lack what it had confirmed: nothing is \
         signed until a worker has compared it with the chain"
    )]
    Restored {
        /// Which store.
        store: Arc<str>,
    },
    /// The store holds what nearbench did not write.
    #[error("{store}: {cause}; something else writes to its keys. Give the run a Redis, or a name, of its own")]
    Damaged {
        /// Which store.
        store: Arc<str>,
        /// What is wrong.
        cause: Arc<str>,
    },
}

/// The shared memory of a run. Every method is one atomic step.
///
/// A backend that keeps its promises across a crash returns from `push`, `commit`, `settle` and `cancel_queued` once the
/// step is on disk, and from `acquire` once what it tells of is. Dropping the future does not undo the step: like a
/// crash, it leaves the caller not knowing.
pub trait Store: Send + Sync + 'static {
    /// Appends `transfers` to the queue, as long as the queue stays within `max_depth`; returns how many of them,
    /// from the first, were taken.
    fn push(&self, transfers: Vec<Transfer>, max_depth: u64) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Takes the lane for `ttl`, counted by the store from now; the caller counts it from before its call.
    fn acquire(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        ttl: Duration,
    ) -> impl Future<Output = Result<Lane, StoreError>> + Send;

    /// Prolongs a lease that is still ours.
    fn renew(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        ttl: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the lane up; an adopter need not wait.
    fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes some of the oldest transfers and a nonce for them; `None` when there are none. How many, the queue's depth
    /// says: [`nearbench_core::batch::size`] of it, `batch` and `at_most`.
    fn claim(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send;

    /// Reserves `count` nonces that follow each other and that nobody reserved before; the first of them. What is
    /// reserved and not used leaves a gap, which is harmless.
    fn reserve(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        count: u32,
    ) -> impl Future<Output = Result<Nonce, StoreError>> + Send;

    /// Lets the lane's nonces go on above `floor`, if they do not already: what the chain has seen of the key.
    fn raise(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        floor: Nonce,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Puts a claim's transfers back at the head of the queue: nothing was signed.
    fn release(&self, claim: ClaimId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores the attempt together with the claim's transfers; without a claim, one that carries none (a fence). Only
    /// then may it be sent.
    fn commit(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
    ) -> impl Future<Output = Result<AttemptId, StoreError>> + Send;

    /// Says that attempts were handed to an endpoint, for those who follow their transfers. It is a hint, needs no
    /// durability, and is told for many at once; of attempts that are not open it means nothing.
    fn sent(&self, attempts: &[AttemptId]) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = attempts;
        async { Ok(()) }
    }

    /// Ends an attempt: gives every transfer of it its fate, and keeps what proves it. What is put back keeps its place
    /// before newer ones.
    fn settle(&self, attempt: AttemptId, settled: &Settled) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Withdraws what waits in the queue; returns it.
    fn cancel_queued(&self) -> impl Future<Output = Result<Vec<Transfer>, StoreError>> + Send;

    /// How many stand where.
    fn depth(&self) -> impl Future<Output = Result<Depth, StoreError>> + Send;

    /// Returns once the queue holds something.
    fn wait_for_work(&self) -> impl Future<Output = ()> + Send;
}

/// A store that keeps what it was told, for whoever comes after a crash or counts the results.
pub trait Recall: Store {
    /// Shows `visit` every final state that is stored, in the order in which they came about.
    fn results(&self, visit: &mut (dyn FnMut(ResultRow) + Send))
    -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Every transfer that is accepted and not in a final state: those in the queue in its order, the claimed ones at
    /// their places among them or before them, then those in attempts.
    fn unsettled(&self) -> impl Future<Output = Result<Vec<Transfer>, StoreError>> + Send;
}

/// One worker of a fleet: random, chosen when its process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub [u8; 16]);

/// What all workers of a fleet are to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Carry transfers to the chain.
    #[default]
    Work,
    /// Carry what was accepted, and take nothing more from clients.
    Drain,
    /// Sign nothing more, and leave to a person what has no proof.
    Abandon,
}

/// How a fleet stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What is to be done.
    pub order: Order,
    /// The workers whose last word still holds.
    pub workers: Vec<WorkerId>,
    /// The lanes that somebody holds, and what is left of each lease.
    pub leases: Vec<(LaneKey, Duration)>,
}

/// A store that the workers of a fleet share, each a process of its own.
pub trait Fleet: Recall {
    /// Says that a worker lives, for `ttl` from now, and leaves what it measured so far, in place of what it left
    /// before; how the fleet stands.
    fn beat(
        &self,
        worker: WorkerId,
        ttl: Duration,
        measured: Bytes,
    ) -> impl Future<Output = Result<Standing, StoreError>> + Send;

    /// Takes a worker that ends in order off the list. What it measured stays.
    fn leave(&self, worker: WorkerId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Tells all workers what to do; each hears of it at its next beat.
    fn order(&self, order: Order) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What every worker left, those too that are gone.
    fn measured(&self) -> impl Future<Output = Result<Vec<(WorkerId, Bytes)>, StoreError>> + Send;

    /// Lets the nonces of lanes that nobody holds yet go on above what the chain has seen of their keys; none is lowered.
    fn seed(&self, lanes: &[(LaneKey, Nonce)]) -> impl Future<Output = Result<(), StoreError>> + Send;
}
