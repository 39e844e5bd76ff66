//! The backend of a fleet: a run's queue, lanes, attempts and results in a Redis that all its workers share.
//!
//! One store is one run, and all its keys, `{nearbench:RUN}:…`, lie in one slot of a cluster. Each step is a function of
//! Lua in the server (`library.lua`), so it is atomic there; a transfer is an element of packed bytes that no function
//! parses. Whatever stands in a step's way (a lost connection, a server that loads, fails over or is full, functions that
//! were flushed), it is asked again for as long as the store's patience lasts, and asking twice does what asking once
//! does: ids of claims and attempts are the client's random numbers, and a push carries its client's count.
//!
//! `push`, `accept`, `commit`, `settle`, `cancel_queued`, `cancel`, `retry`, `seed` and `put_meta` return once they are as durable as
//! [`Durability`] says. A Redis that was restarted, failed over or restored may lack what it had confirmed: each step that
//! takes or signs transfers names the server process it believes to speak to, and each answer counts up a sequence.
//! Where either differs from what was seen, those steps end as [`StoreError::Restored`] until a worker has brought back
//! what the chain knows ([`recover`]).
//!
//! Transfers that clients submit have records ([`crate::Records`], `records.lua`), which any worker may be asked for. One bit of
//! a transfer's element says so, and those without that bit cost nothing. A record that has come to its end takes less than
//! 100 bytes, in hashes that expire when the window is over; its details expire earlier. What a recovery found on chain is
//! not queued when it is submitted again, but is a record of what was paid.
//!
//! Memory in the worker does not grow with the queue, nor does the time of a claim.

mod connect;
mod records;
mod recover;
mod step;
mod wake;
mod writer;

pub use connect::{RedisError, RedisUrl};
pub use recover::{Found, Imported, LaneStanding, RECOVERY_TTL, Recovery};
pub use step::Activity;

use crate::{
    Attempt, AttemptId, Claim, ClaimId, Depth, Fleet, Lane, LaneKey, LeaseId, Order, Recall, ResultRow, Standing,
    Store, StoreError, Windows, WorkerId,
    codec::{self, Names},
};
use bytes::Bytes;
use connect::{Fault, Link};
use nearbench_core::{
    Account, Nonce, Transfer,
    plan::Batch,
    settle::{Fate, Settled, Settlement},
};
use records::Kept;
use redis::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use step::{Answer, Core, Odd, Parts, Step};
use tokio::sync::{mpsc, oneshot};
use wake::Wake;
use writer::{Adding, Kind, Task, Writer};

/// The version of the keys and of [`crate::codec`].
const VERSION: u64 = 2;
/// How long a claim is its worker's before its transfers go back: from a claim to its commit it is milliseconds.
const VISIBILITY: Duration = Duration::from_secs(30);
/// How long a push or a settle waits for others to go with.
const LINGER: Duration = Duration::from_millis(10);
/// Opening tries for this long.
const OPENING: Duration = Duration::from_secs(10);
/// Rows, transfers and keys in one answer or step, at most.
const PAGE: usize = 1000;

/// What a confirmed step survives. docs/durability.md says what each setting of Redis adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What the primary survives by itself.
    Local,
    /// One failover: every replica that was connected when the run was made, and may be promoted, has it. Where there
    /// are none it is as `Local`.
    #[default]
    Replicated,
    /// A loss of power: it is in the primary's append-only file, and that on its disk (Redis 7.2).
    Fsync,
}

/// How a store is used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The run's name.
    pub run: String,
    /// What a confirmed step survives.
    pub durability: Durability,
    visibility: Duration,
    linger: Duration,
    windows: Option<Windows>,
    clock: Option<Arc<AtomicU64>>,
}

impl RedisOptions {
    /// The defaults, for the run called `run`.
    pub fn new(run: impl Into<String>) -> Self {
        let (durability, windows, clock) = (Durability::default(), None, None);
        Self { run: run.into(), durability, visibility: VISIBILITY, linger: LINGER, windows, clock }
    }

    /// Another durability than the default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long a claim is its worker's before its transfers go back to the queue.
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.visibility = visibility;
        self
    }

    /// Keeps records for these windows instead of those that the run was made with, which are the default ones if nothing
    /// else was said.
    pub fn keeping(mut self, windows: Windows) -> Self {
        self.windows = Some(windows);
        self
    }

    /// A store in which it is as late as `clock` says, in microseconds, and in which no step waits for others.
    #[doc(hidden)]
    pub fn clock(mut self, clock: Arc<AtomicU64>) -> Self {
        self.clock = Some(clock);
        self.linger = Duration::ZERO;
        self
    }
}

/// A run's store in a Redis. It needs a tokio runtime. Cloning it is cheap, and its connections are shared.
#[derive(Clone)]
pub struct RedisStore {
    core: Arc<Core>,
    tasks: mpsc::UnboundedSender<Task>,
    wake: Arc<Wake>,
    patience: Option<Duration>,
    visibility: Duration,
    durability: Durability,
    replicas: Arc<AtomicU32>,
    kept: Kept,
}

fn lane_id(lane: &LaneKey) -> Vec<u8> {
    // An account id has no such byte.
    [lane.account.as_bytes(), b"\0", lane.public_key.as_bytes()].concat()
}

fn read_lane(id: &[u8]) -> Result<LaneKey, Odd> {
    let (account, public_key) = std::str::from_utf8(id).map_err(|_| Odd)?.split_once('\0').ok_or(Odd)?;
    Ok(LaneKey { account: Account::new(account).map_err(|_| Odd)?, public_key: public_key.into() })
}

fn decimal(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn micros(time: Duration) -> Vec<u8> {
    decimal(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(1 << 50))
}

/// Of 63 bits.
fn random_id() -> u64 {
    rand::random::<u64>() >> 1
}

fn read_elements(list: impl Iterator<Item = Value>, names: &mut Names) -> Result<Vec<Transfer>, Odd> {
    list.map(|element| match element {
        Value::BulkString(bytes) => codec::read_element(&bytes, names).map_err(|_| Odd),
        _ => Err(Odd),
    })
    .collect()
}

type OpenAttempts = Vec<(AttemptId, Attempt, Arc<[Transfer]>)>;

/// Open attempts as the library lists them, lowest nonce first.
fn read_open(list: impl Iterator<Item = Value>, names: &mut Names) -> Result<OpenAttempts, Odd> {
    let mut open = list
        .map(|one| {
            let Value::Array(parts) = one else { return Err(Odd) };
            let mut parts = parts.into_iter();
            let id = AttemptId(u64::from_be_bytes(parts.bytes()?.try_into().map_err(|_| Odd)?));
            let (head, rest) = (parts.bytes()?, parts.bytes()?);
            let attempt = codec::read_attempt_parts(&head, &rest).map_err(|_| Odd)?;
            Ok((id, attempt, read_elements(parts.list()?, names)?.into()))
        })
        .collect::<Result<OpenAttempts, Odd>>()?;
    open.sort_by_key(|(_, attempt, _)| attempt.nonce);
    Ok(open)
}

/// Making, opening, and what the traits do not know.
impl RedisStore {
    /// Makes the store of a new run.
    ///
    /// # Errors
    /// There is one of this name, or the Redis cannot be reached, refuses us, or is not fit.
    pub async fn create(url: &RedisUrl, options: RedisOptions) -> Result<Self, RedisError> {
        let (store, replicas) = Self::connect(url, options).await?;
        let replicas = decimal(replicas.into());
        let args = [decimal(VERSION), replicas].into_iter().chain(store.kept.args()).collect();
        let step = Step { name: "create", args };
        let answer = store.opened(store.core.prompt(Some(OPENING), &step).await)?;
        // Asked again: the first time made it.
        if answer.status == b"EXISTS" && !answer.again {
            return Err(RedisError::Exists { store: store.core.name.clone() });
        }
        Ok(store)
    }

    /// Opens the store of a run that was made. It may have been restored since: see [`Self::recover`].
    ///
    /// # Errors
    /// There is none of this name, or the Redis cannot be reached, refuses us, or is not fit.
    pub async fn open(url: &RedisUrl, options: RedisOptions) -> Result<Self, RedisError> {
        let windows = options.windows;
        let (store, _) = Self::connect(url, options).await?;
        let mut answer = store.opened(store.core.prompt(Some(OPENING), &Step::new("open", [])).await)?;
        let name = store.core.name.clone();
        let odd = |_| RedisError::Refused { store: store.core.name.clone(), cause: "its keys are not ours".into() };
        let version = answer.rest.bytes().map_err(odd)?;
        if version.is_empty() {
            return Err(RedisError::Missing { store: name });
        }
        if version != decimal(VERSION) {
            let found = String::from_utf8_lossy(&version).into();
            return Err(RedisError::Version { store: name, found, expected: VERSION });
        }
        store.replicas.store(answer.rest.number().map_err(odd)? as u32, Ordering::SeqCst);
        if windows.is_some() {
            let step = Step { name: "keep_for", args: store.kept.args()[..2].to_vec() };
            store.opened(store.core.prompt(Some(OPENING), &step).await)?;
        }
        Ok(store)
    }

    fn opened(&self, answer: Result<Answer, StoreError>) -> Result<Answer, RedisError> {
        answer.map_err(|error| RedisError::Refused {
            store: self.core.name.clone(),
            cause: match error {
                StoreError::Unreachable { cause, .. } => cause,
                other => other.to_string().into(),
            },
        })
    }

    async fn connect(url: &RedisUrl, options: RedisOptions) -> Result<(Self, u32), RedisError> {
        let RedisOptions { run, durability, visibility, linger, windows, clock } = options;
        let name: Arc<str> = format!("{}, run {run}", url.shown()).into();
        // The tag ends at the first brace: a name with one would lie elsewhere.
        let prefix = format!("{{nearbench:{}}}:", run.replace('}', "%7d")).into_bytes();
        let core = Core::new(name.clone(), prefix, Link::new(url.clone()), Link::new(url.clone()), clock);
        let refused = |fault: Fault| match fault {
            Fault::Policy(found) => RedisError::Policy { store: name.clone(), found },
            Fault::TooOld(found) => RedisError::TooOld { store: name.clone(), found, needed: "7.0", why: "functions" },
            other => RedisError::Refused { store: name.clone(), cause: other.cause() },
        };
        let live = core.prompt.live();
        let first = match tokio::time::timeout(OPENING, live).await {
            Ok(Ok(live)) => Ok(live),
            Ok(Err(fault @ (Fault::Policy(_) | Fault::TooOld(_) | Fault::Refused(_)))) => return Err(refused(fault)),
            Ok(Err(_)) | Err(_) => core
                .insist(&core.prompt, Some(OPENING), |live, _| std::future::ready(Ok(live)))
                .await
                .map_err(|_| core.prompt.fault().unwrap_or_else(|| Fault::Gone("no answer".into()))),
        };
        let live = first.map_err(&refused)?;
        if durability == Durability::Fsync && !live.is_at_least(7, 2) {
            let (found, why) = (live.version, "durability fsync");
            return Err(RedisError::TooOld { store: name.clone(), found, needed: "7.2", why });
        }
        let replicas = match durability {
            Durability::Replicated => core.prompt.replicas(&live).await.map_err(&refused)?,
            Durability::Local | Durability::Fsync => 0,
        };
        let core = Arc::new(core);
        let shared = Arc::new(AtomicU32::new(replicas));
        let (tasks, receiver) = mpsc::unbounded_channel();
        let writer = Writer { core: core.clone(), tasks: receiver, durability, replicas: shared.clone(), linger };
        tokio::spawn(writer.run());
        let wake = Wake::start(core.clone());
        let kept = Kept::for_windows(windows.unwrap_or_default());
        let store = Self { core, tasks, wake, patience: None, visibility, durability, replicas: shared, kept };
        Ok((store, replicas))
    }

    /// The same store, whose steps end as [`StoreError::Unreachable`] once they had no answer for `patience`. A step
    /// without patience is asked again without end.
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// What stands in the way of the steps now; `None` while they are answered.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.core.trouble()
    }

    /// What was asked of it so far by this process.
    pub fn activity(&self) -> Activity {
        self.core.activity()
    }

    /// Where it is and of which run, without credentials.
    pub fn name(&self) -> &Arc<str> {
        &self.core.name
    }

    /// How many replicas have a step before it is confirmed.
    pub fn replicas(&self) -> u32 {
        self.replicas.load(Ordering::SeqCst)
    }

    /// Whether the store can be reached.
    ///
    /// # Errors
    /// It cannot, within the patience.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.prompt("depth", []).await.map(drop)
    }

    /// Stores small values of the caller's by name, all of them or none. What stood there before is replaced.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn put_meta(&self, values: &[(&str, &[u8])]) -> Result<(), StoreError> {
        if values.is_empty() {
            return Ok(());
        }
        let args = values.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]).collect();
        self.durable(Step { name: "put_meta", args }, true).await.map(drop)
    }

    /// What [`Self::put_meta`] stored under `name`.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn meta(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let mut answer = self.prompt("meta", [name.as_bytes()]).await?;
        match answer.rest.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes.into())),
            Some(Value::Nil) | None => Ok(None),
            Some(_) => Err(self.core.odd()),
        }
    }

    /// Lets the nonces of a lane go on above `floor`, which may be lower than what was used: for a person who knows that
    /// the chain never saw the higher ones. Only a lane that nobody holds and that has no open attempts; else `false`.
    ///
    /// # Errors
    /// Somebody holds the lane, or the store cannot be reached.
    pub async fn reset(&self, lane: &LaneKey, floor: Nonce) -> Result<bool, StoreError> {
        let mut answer = self.durable(Step::new("reset", [&lane_id(lane), &decimal(floor)]), true).await?;
        match &*answer.status {
            b"OK" => Ok(true),
            b"BUSY" => Ok(false),
            _ => Err(self.held(lane, &mut answer)),
        }
    }

    /// Removes all that there is of the run, in steps that each take little of the server's time.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn forget(&self) -> Result<(), StoreError> {
        let mut answer = self.prompt("lanes_of", []).await?;
        let lanes = answer.rest.list().map_err(|Odd| self.core.odd())?;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for lane in lanes {
            let Value::BulkString(lane) = lane else { return Err(self.core.odd()) };
            keys.extend([&b"lane:"[..], b"open:"].map(|kind| self.core.key(&[kind, &*lane].concat())));
        }
        // The lanes' names go after the lanes.
        let names = "settled:0 settled:1 queue claims due attempts results pushes workers measured meta imported imports \
                     withdrawn minute lanes about";
        keys.extend(names.split_whitespace().map(|name| self.core.key(name.as_bytes())));
        self.forget_records().await?;
        for some in keys.chunks(PAGE) {
            self.core.command_of_redis(self.patience, redis::cmd("UNLINK").arg(some)).await?;
        }
        Ok(())
    }

    async fn prompt<const N: usize>(&self, name: &'static str, args: [&[u8]; N]) -> Result<Answer, StoreError> {
        self.core.prompt(self.patience, &Step::new(name, args)).await
    }

    /// A step that returns once it is durable; not `urgent` where nothing waits for it.
    async fn durable(&self, step: Step, urgent: bool) -> Result<Answer, StoreError> {
        let (reply, outcome) = oneshot::channel();
        self.hand_over(Task::Step { step, urgent, reply }, outcome).await
    }

    /// Adds `count` transfers, and others' along with them.
    async fn add(
        &self,
        kind: Kind,
        count: usize,
        args: Vec<Vec<u8>>,
        max_depth: u64,
    ) -> Result<std::vec::IntoIter<Value>, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let answer = self.hand_over(Task::Add(Adding { kind, count, args, max_depth, reply }), outcome).await?;
        Ok(answer.into_iter())
    }

    async fn hand_over<T>(
        &self,
        task: Task,
        outcome: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // It ends with the runtime, and so does whoever asks.
        _ = self.tasks.send(task);
        let outcome = match self.patience {
            Some(patience) => tokio::time::timeout(patience, outcome).await.map_err(|_| self.core.unreachable())?,
            None => outcome.await,
        };
        outcome.unwrap_or_else(|_| Err(self.core.unreachable()))
    }

    fn held(&self, lane: &LaneKey, answer: &mut Answer) -> StoreError {
        match answer.rest.number() {
            Ok(left) => StoreError::Held { lane: lane.public_key.clone(), free_in: Duration::from_micros(left) },
            Err(Odd) => self.core.odd(),
        }
    }

    /// What an answer other than `OK` means, for a step in a lane.
    fn refusal(&self, lane: &LaneKey, answer: &Answer) -> StoreError {
        match &*answer.status {
            b"LEASE" => StoreError::LeaseLost(lane.public_key.clone()),
            b"RESTORED" => self.core.restored(),
            _ => self.core.odd(),
        }
    }
}

impl Store for RedisStore {
    async fn push(&self, transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
        // More than fit one step are several: each takes little of the server's time.
        let mut taken = 0;
        for some in transfers.chunks(Kind::Push.most()) {
            let elements = some.iter().map(|transfer| codec::element(transfer, false)).collect();
            let now = self.add(Kind::Push, some.len(), elements, max_depth).await?.number();
            let now = now.map_err(|Odd| self.core.odd())? as usize;
            taken += now;
            if now < some.len() {
                break;
            }
        }
        Ok(taken)
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        self.take_lane(lane, lease, ttl, b"").await
    }

    async fn renew(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        let answer = self.prompt("renew", [&lane_id(lane), &lease.0, &micros(ttl)]).await?;
        match &*answer.status {
            b"OK" => Ok(()),
            _ => Err(self.refusal(lane, &answer)),
        }
    }

    async fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> Result<(), StoreError> {
        let answer = self.prompt("release_lane", [&lane_id(lane), &lease.0]).await?;
        match &*answer.status {
            b"OK" => Ok(()),
            // It was, the first time.
            b"LEASE" if answer.again => Ok(()),
            _ => Err(self.refusal(lane, &answer)),
        }
    }

    async fn claim(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
    ) -> Result<Option<Claim>, StoreError> {
        let (id, heard) = (random_id(), self.wake.heard());
        let [min, max, divisor, at_most] =
            [batch.min, batch.max, batch.depth_divisor, at_most].map(|number| decimal(number.into()));
        let args: [&[u8]; 8] =
            [&lane_id(lane), &lease.0, &id.to_be_bytes(), &min, &max, &divisor, &at_most, &micros(self.visibility)];
        let mut answer = self.prompt("claim", args).await?;
        let claim = match &*answer.status {
            b"OK" => {
                let mut read = || {
                    let (nonce, depth) = (answer.rest.number()?, answer.rest.number()?);
                    let transfers = read_elements(answer.rest.list()?, &mut Names::default())?;
                    Ok(Claim { id: ClaimId(id), nonce, depth, transfers: transfers.into() })
                };
                Some(read().map_err(|Odd| self.core.odd())?)
            }
            b"NONE" => None,
            _ => return Err(self.refusal(lane, &answer)),
        };
        let left = match &claim {
            Some(claim) => claim.depth > claim.transfers.len() as u64,
            None => answer.rest.number().map_err(|Odd| self.core.odd())? > 0,
        };
        self.wake.left(left, heard);
        Ok(claim)
    }

    async fn reserve(&self, lane: &LaneKey, lease: LeaseId, count: u32) -> Result<Nonce, StoreError> {
        let mut answer = self.prompt("reserve", [&lane_id(lane), &lease.0, &decimal(count.into())]).await?;
        match &*answer.status {
            b"OK" => {
                let last = answer.rest.number().map_err(|Odd| self.core.odd())?;
                Ok((last + 1).saturating_sub(count.into()))
            }
            _ => Err(self.refusal(lane, &answer)),
        }
    }

    async fn raise(&self, lane: &LaneKey, lease: LeaseId, floor: Nonce) -> Result<(), StoreError> {
        let answer = self.prompt("raise", [&lane_id(lane), &lease.0, &decimal(floor)]).await?;
        match &*answer.status {
            b"OK" => Ok(()),
            _ => Err(self.refusal(lane, &answer)),
        }
    }

    async fn release(&self, claim: ClaimId) -> Result<(), StoreError> {
        let answer = self.prompt("release", [&claim.0.to_be_bytes()]).await?;
        match &*answer.status {
            b"OK" => Ok(()),
            b"CLAIM" if answer.again => Ok(()),
            b"CLAIM" => Err(StoreError::ClaimLost(claim)),
            _ => Err(self.core.odd()),
        }
    }

    async fn commit(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
    ) -> Result<AttemptId, StoreError> {
        let id = random_id() & !1;
        let claimed = claim.map(|claim| claim.0.to_be_bytes().to_vec()).unwrap_or_default();
        let args: [&[u8]; 7] = [
            &lane_id(lane),
            &lease.0,
            &claimed,
            &id.to_be_bytes(),
            &decimal(attempt.nonce),
            &codec::result_head(&attempt.hash, attempt.nonce),
            &codec::attempt_rest(&attempt),
        ];
        let mut answer = self.durable(Step::new("commit", args), true).await?;
        match (&*answer.status, claim) {
            // An odd one carries transfers with records.
            (b"OK", _) => Ok(AttemptId(id | answer.rest.number().map_err(|Odd| self.core.odd())?)),
            (b"CLAIM", Some(claim)) => Err(StoreError::ClaimLost(claim)),
            (b"NONCE", _) => {
                let high_water = answer.rest.number().map_err(|Odd| self.core.odd())?;
                Err(StoreError::NonceReused { lane: lane.public_key.clone(), nonce: attempt.nonce, high_water })
            }
            _ => Err(self.refusal(lane, &answer)),
        }
    }

    async fn sent(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        let recorded: Vec<_> =
            attempts.iter().filter(|id| id.0 % 2 == 1).map(|id| id.0.to_be_bytes().to_vec()).collect();
        for some in recorded.chunks(PAGE) {
            self.core.prompt(self.patience, &Step { name: "sent", args: some.to_vec() }).await?;
        }
        Ok(())
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        let back = match settled.settlement {
            Settlement::All(Fate::Requeue) => b"all".to_vec(),
            Settlement::All(_) => Vec::new(),
            Settlement::Poisoned { index } => decimal(index as u64),
        };
        let token = random_id().to_be_bytes();
        let fated = match settled.settlement {
            Settlement::All(fate) => fate,
            Settlement::Poisoned { .. } => Fate::Failed,
        };
        let (state, error) = records::end(fated, settled);
        let args: [&[u8]; 6] = [
            &attempt.0.to_be_bytes(),
            &token,
            &codec::settlement(settled),
            &back,
            &decimal(state as u64),
            &decimal(error.into()),
        ];
        let answer = self.durable(Step::new("settle", args), false).await?;
        match &*answer.status {
            b"OK" => Ok(()),
            b"OPEN" => Err(StoreError::NotOpen(attempt)),
            _ => Err(self.core.odd()),
        }
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        let mut cancelled = Vec::new();
        let mut names = Names::default();
        loop {
            let args: [&[u8]; 2] = [&random_id().to_be_bytes(), &decimal(PAGE as u64)];
            let mut answer = self.durable(Step::new("cancel_queued", args), true).await?;
            let some = answer.rest.list().and_then(|list| read_elements(list, &mut names));
            let some = some.map_err(|Odd| self.core.odd())?;
            let last = some.len() < PAGE;
            cancelled.extend(some);
            if last {
                return Ok(cancelled);
            }
        }
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        let mut answer = self.prompt("depth", []).await?;
        let mut number = || answer.rest.number().map_err(|Odd| self.core.odd());
        Ok(Depth { queued: number()?, claimed: number()?, open: number()? })
    }

    async fn wait_for_work(&self) {
        self.wake.wait().await;
    }
}

impl RedisStore {
    async fn take_lane(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        ttl: Duration,
        healer: &[u8],
    ) -> Result<Lane, StoreError> {
        // It does not wait for replicas: after a failover there may be none until a recovery, which takes lanes, has
        // counted them. An attempt that is sent and then lost with the primary is found on chain by that recovery.
        let mut answer = self.prompt("acquire", [&lane_id(lane), &lease.0, &micros(ttl), healer]).await?;
        match &*answer.status {
            b"OK" => {
                let mut read = || {
                    let high_water = answer.rest.number()?;
                    Ok(Lane { high_water, open: read_open(answer.rest.list()?, &mut Names::default())? })
                };
                read().map_err(|Odd| self.core.odd())
            }
            b"HELD" => Err(self.held(lane, &mut answer)),
            _ => Err(self.refusal(lane, &answer)),
        }
    }
}

/// Read in pages, so each is of its own moment where others go on meanwhile.
impl Recall for RedisStore {
    async fn results(&self, visit: &mut (dyn FnMut(ResultRow) + Send)) -> Result<(), StoreError> {
        let mut from = b"-".to_vec();
        loop {
            let mut cmd = redis::cmd("XRANGE");
            cmd.arg(self.core.key(b"results")).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let Value::Array(rows) = self.core.command_of_redis(self.patience, &cmd).await? else {
                return Err(self.core.odd());
            };
            let last = rows.len() < PAGE;
            for row in rows {
                let read = || {
                    let Value::Array(parts) = row else { return Err(Odd) };
                    let mut parts = parts.into_iter();
                    let (id, mut fields) = (parts.bytes()?, parts.list()?);
                    fields.bytes()?;
                    Ok((id, fields.bytes()?))
                };
                let (id, row) = read().map_err(|Odd| self.core.odd())?;
                visit(codec::read_result(&row).map_err(|malformed| self.core.damaged(malformed.0))?);
                from = [b"(", &*id].concat();
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn unsettled(&self) -> Result<Vec<Transfer>, StoreError> {
        let mut names = Names::default();
        let odd = |Odd| self.core.odd();
        let mut answer = self.prompt("unsettled", []).await?;
        let mut lists = |transfers: &mut Vec<Transfer>| {
            for list in answer.rest.list()? {
                let Value::Array(list) = list else { return Err(Odd) };
                transfers.extend(read_elements(list.into_iter(), &mut names)?);
            }
            Ok(())
        };
        let (mut transfers, mut open) = (Vec::new(), Vec::new());
        lists(&mut transfers).map_err(odd)?;
        lists(&mut open).map_err(odd)?;
        self.queue(&mut |element| {
            transfers.push(codec::read_element(&element, &mut names).map_err(|_| self.core.odd())?);
            Ok(())
        })
        .await?;
        transfers.append(&mut open);
        Ok(transfers)
    }
}

impl RedisStore {
    /// Shows `visit` the queue's elements, oldest first.
    async fn queue(&self, visit: &mut (dyn FnMut(Vec<u8>) -> Result<(), StoreError> + Send)) -> Result<(), StoreError> {
        for from in (0..).step_by(PAGE) {
            let mut cmd = redis::cmd("LRANGE");
            cmd.arg(self.core.key(b"queue")).arg(from).arg(from + PAGE - 1);
            let Value::Array(elements) = self.core.command_of_redis(self.patience, &cmd).await? else {
                return Err(self.core.odd());
            };
            let last = elements.len() < PAGE;
            for element in elements {
                let Value::BulkString(element) = element else { return Err(self.core.odd()) };
                visit(element)?;
            }
            if last {
                break;
            }
        }
        Ok(())
    }
}

impl Fleet for RedisStore {
    async fn beat(&self, worker: WorkerId, ttl: Duration, measured: Bytes) -> Result<Standing, StoreError> {
        let mut answer = self.prompt("beat", [&worker.0, &micros(ttl), &measured]).await?;
        let mut read = || {
            let order = match &*answer.rest.bytes()? {
                b"drain" => Order::Drain,
                b"abandon" => Order::Abandon,
                _ => Order::Work,
            };
            let worker = |value| match value {
                Value::BulkString(id) => Ok(WorkerId(id.try_into().map_err(|_| Odd)?)),
                _ => Err(Odd),
            };
            let workers = answer.rest.list()?.map(worker).collect::<Result<_, Odd>>()?;
            let lease = |value| {
                let Value::Array(parts) = value else { return Err(Odd) };
                let mut parts = parts.into_iter();
                Ok((read_lane(&parts.bytes()?)?, Duration::from_micros(parts.number()?)))
            };
            let leases = answer.rest.list()?.map(lease).collect::<Result<_, Odd>>()?;
            Ok(Standing { order, workers, leases })
        };
        read().map_err(|Odd| self.core.odd())
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.prompt("leave", [&worker.0]).await.map(drop)
    }

    async fn order(&self, order: Order) -> Result<(), StoreError> {
        let order: &[u8] = match order {
            Order::Work => b"work",
            Order::Drain => b"drain",
            Order::Abandon => b"abandon",
        };
        self.prompt("order", [order]).await.map(drop)
    }

    async fn measured(&self) -> Result<Vec<(WorkerId, Bytes)>, StoreError> {
        let mut answer = self.prompt("measured", []).await?;
        let mut read = || {
            let mut list = answer.rest.list()?;
            let mut all = Vec::with_capacity(list.len() / 2);
            while list.len() > 0 {
                all.push((WorkerId(list.bytes()?.try_into().map_err(|_| Odd)?), list.bytes()?.into()));
            }
            Ok(all)
        };
        read().map_err(|Odd| self.core.odd())
    }

    async fn seed(&self, lanes: &[(LaneKey, Nonce)]) -> Result<(), StoreError> {
        for some in lanes.chunks(PAGE) {
            let args = some.iter().flat_map(|(lane, floor)| [lane_id(lane), decimal(*floor)]).collect();
            self.durable(Step { name: "seed", args }, true).await?;
        }
        Ok(())
    }
}
