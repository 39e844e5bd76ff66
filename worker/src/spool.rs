//! What the API does while the store is away: it takes transfers into a file, and carries them over once the store is back.
//!
//! A store in front of the store. What is spooled is removed only once the store has confirmed it, and is asked of it as
//! often as it takes: a transfer's id is made of its key, so that the store knows what it took before. Whatever two workers
//! spooled under one key, or one asked of the store itself, the store takes the first, tells a replay by its digest, and
//! refuses the rest, which fails here.
//!
//! The store alone says what became of a transfer. While it is away nothing is listed, counted or withdrawn: it may hold,
//! and be paying, what waits here under the same key.

use nearbench_core::{Hash, Nonce, Transfer, TransferId, plan::Batch, settle::Settled};
use nearbench_store::{
    Accepted, Attempt, AttemptId, Census, Changed, Claim, ClaimId, Cursor, Depth, Digest, Filter, Lane, LaneKey,
    LeaseId, Moved, Page, Record, Records, SpoolError, SpoolFile, Store, StoreError, Submission,
};
use std::{
    collections::BTreeSet,
    future::Future,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time};
use tokio_util::sync::CancellationToken;

/// Submissions that are carried over in one step, at most.
const MOST: usize = 1000;

/// A cursor with this bit is a place among what is spooled.
const SPOOLED: u64 = 1 << 63;

/// How much a spool takes, and how long it waits for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolBounds {
    /// Submissions that wait, at most.
    pub entries: u64,
    /// How long a step of the store may take before the store counts as away.
    pub patience: Duration,
    /// What waits for longer ends as `needs_review`, since the store may have taken it before and forgotten: with a spool,
    /// a key is safe for as long as the store keeps it, less this.
    pub max_age: Duration,
    /// Between two looks whether it is back, or has room.
    pub pause: Duration,
}

impl Default for SpoolBounds {
    /// 100,000 submissions; a second; 3 days; a quarter of a second.
    fn default() -> Self {
        let max_age = Duration::from_secs(3 * 86_400);
        Self { entries: 100_000, patience: Duration::from_secs(1), max_age, pause: Duration::from_millis(250) }
    }
}

/// How a spool stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// Submissions that wait for the store.
    pub waiting: u64,
    /// Since when the store is away, in Unix milliseconds.
    pub since: Option<u64>,
}

/// What a step of carrying over came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Some had their end; there may be more.
    Some,
    /// Nothing waits, and the store answers.
    Nothing,
    /// The store takes none now: it is away, or full.
    Stuck,
}

/// Since when the store is away, and what it said.
struct Away {
    since: u64,
    error: StoreError,
}

/// A store, and a file for when it is away.
pub struct Spool<S> {
    store: Arc<S>,
    file: SpoolFile,
    bounds: SpoolBounds,
    away: Mutex<Option<Away>>,
    /// There is something to carry over, or to look for.
    work: Notify,
}

/// Whether the store may take it later, and may have taken it now.
fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable { .. } | StoreError::Restored { .. })
}

fn moved(answer: &Accepted) -> Option<Moved> {
    match answer {
        Accepted::New { .. } | Accepted::Replayed(_) => Some(Moved::Over),
        Accepted::Conflict => Some(Moved::Conflict),
        Accepted::OverCap => Some(Moved::OverCap),
        Accepted::Full => None,
    }
}

impl<S: Records> Spool<S> {
    /// The store with the spool of `run` in `folder`, which is made where it is not there; `namespace` is what the API makes
    /// ids with. [`Self::drain`] must run beside it.
    ///
    /// # Errors
    /// The folder cannot be used, another process uses it, or it is another run's.
    pub async fn open(
        store: Arc<S>,
        folder: &Path,
        run: &str,
        namespace: &[u8; 32],
        bounds: SpoolBounds,
    ) -> Result<Self, SpoolError> {
        let file = SpoolFile::open(folder, run, namespace, bounds.max_age).await?;
        Ok(Self { store, file, bounds, away: Mutex::default(), work: Notify::new() })
    }

    /// How it stands.
    pub fn note(&self) -> Spooled {
        let since = self.away().as_ref().map(|away| away.since);
        Spooled { waiting: self.file.waiting().unwrap_or_default(), since }
    }

    /// Carries over what is spooled, as long as the store's queue stays within `max_depth`, and looks for a store that is
    /// away, until `stop`. What is left then is carried over when the spool is opened again.
    ///
    /// # Errors
    /// The file cannot be written: nothing is spooled any more.
    pub async fn drain(&self, max_depth: u64, stop: CancellationToken) -> Result<(), StoreError> {
        let drain = async {
            loop {
                match self.carry_over(max_depth).await? {
                    Carried::Some => {}
                    Carried::Nothing => self.work.notified().await,
                    Carried::Stuck => time::sleep(self.bounds.pause).await,
                }
            }
        };
        stop.run_until_cancelled(drain).await.unwrap_or(Ok(()))
    }

    /// Carries over the oldest that are spooled, a thousand at most, or looks whether the store is there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn carry_over(&self, max_depth: u64) -> Result<Carried, StoreError> {
        let old = self.file.give_up().await?;
        if old > 0 {
            tracing::error!(old, "transfers were spooled for too long to be carried over safely: they need a review");
        }
        let oldest = self.file.oldest(MOST)?;
        let carried = if !oldest.is_empty() {
            self.carry(oldest, max_depth).await
        } else if self.away().is_some() {
            self.knock(self.store.depth()).await.map(|_| 0)
        } else {
            return Ok(Carried::Nothing);
        };
        match carried {
            Ok(0) if self.file.waiting()? == 0 => Ok(Carried::Nothing),
            Ok(0) => Ok(Carried::Stuck),
            Ok(_) => Ok(Carried::Some),
            Err(error) => {
                // One of the file's would come again.
                self.file.waiting()?;
                if !is_away(&error) {
                    tracing::warn!(%error, "what is spooled is not carried over; trying again");
                }
                Ok(Carried::Stuck)
            }
        }
    }

    /// Asks the store for what is spooled, and ends here what has its end there: how many.
    async fn carry(&self, spooled: Vec<Submission>, max_depth: u64) -> Result<usize, StoreError> {
        let named: Vec<_> = spooled.iter().map(|spooled| (spooled.transfer.id, spooled.digest)).collect();
        let answers = self.knock(self.store.accept(spooled, max_depth)).await?;
        self.end(&named, &answers).await
    }

    async fn end(&self, named: &[(TransferId, Digest)], answers: &[Accepted]) -> Result<usize, StoreError> {
        let ends: Vec<_> = named
            .iter()
            .zip(answers)
            .filter_map(|((id, digest), answer)| Some((*id, *digest, moved(answer)?)))
            .collect();
        for (id, _, moved) in ends.iter().filter(|(.., moved)| *moved != Moved::Over) {
            tracing::warn!(transfer_id = %id, ?moved, "a transfer that was spooled is refused by the store, and has failed");
        }
        self.file.end(&ends).await?;
        Ok(ends.len())
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error where the store is known to be away.
    fn present(&self) -> Result<(), StoreError> {
        self.away().as_ref().map_or(Ok(()), |away| Err(away.error.clone()))
    }

    /// What the store answers, if it is not known to be away.
    async fn ask<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.present()?;
        let answer = self.patiently(step).await;
        if let Err(error) = answer.as_ref()
            && is_away(error)
        {
            self.went_away(error);
        }
        answer
    }

    /// What the store answers, though it may be away; whether it is, this tells.
    async fn knock<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let answer = self.patiently(step).await;
        match &answer {
            Err(error) if is_away(error) => self.went_away(error),
            _ if self.away().take().is_some() => tracing::info!("the store is back: what is spooled is carried over"),
            _ => {}
        }
        answer
    }

    async fn patiently<T>(&self, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        time::timeout(self.bounds.patience, step).await.unwrap_or_else(|_| {
            let cause = format!("no answer in {:?}", self.bounds.patience).into();
            Err(StoreError::Unreachable { store: "the store".into(), cause })
        })
    }

    fn went_away(&self, error: &StoreError) {
        let mut away = self.away();
        let since = away.as_ref().map_or_else(unix_ms, |away| away.since);
        if away.replace(Away { since, error: error.clone() }).is_none() {
            tracing::warn!(%error, "the store is away: transfers are spooled");
            self.work.notify_one();
        }
    }

    /// Takes submissions into the file.
    async fn spool(&self, submissions: Vec<Submission>) -> Result<Vec<Accepted>, StoreError> {
        let ids: Vec<_> = submissions.iter().map(|submission| submission.transfer.id).collect();
        let mut answers = self.file.accept(submissions, self.bounds.entries).await?;
        self.work.notify_one();
        let refused = |(at, answer): (usize, &Accepted)| (*answer == Accepted::Conflict).then_some(at);
        let refused: Vec<_> = answers.iter().enumerate().filter_map(refused).collect();
        let refused_ids: Vec<_> = refused.iter().map(|at| ids[*at]).collect();
        let kept = if refused.is_empty() { Vec::new() } else { self.file.find(&refused_ids).await? };
        for answer in &mut answers {
            if matches!(answer, Accepted::Replayed(record) if record.is_conflict()) {
                *answer = Accepted::Conflict;
            }
        }
        for (at, record) in refused.into_iter().zip(kept) {
            // The store holds another body than the one that failed here. Whether it is this one, it will say.
            if record.is_some_and(|record| record.is_conflict()) {
                answers[at] = Accepted::Full;
            }
        }
        Ok(answers)
    }

    /// What is kept here of `ids`; nothing, at no cost, where nothing is.
    async fn kept(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        if self.file.is_empty()? { Ok(vec![None; ids.len()]) } else { self.file.find(ids).await }
    }
}

fn unix_ms() -> u64 {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

/// What clients ask of it.
impl<S: Records> Records for Spool<S> {
    /// What is spooled under an id goes first: the store judges both in their order.
    async fn accept(&self, submissions: Vec<Submission>, max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        let ids = submissions.iter().map(|submission| submission.transfer.id);
        // The store can do without a file that fails.
        let mut all = self.file.among(ids).unwrap_or_default();
        let named: Vec<_> = all.iter().map(|spooled| (spooled.transfer.id, spooled.digest)).collect();
        all.extend_from_slice(&submissions);
        match self.ask(self.store.accept(all, max_depth)).await {
            Ok(mut answers) => {
                let rest = answers.split_off(named.len().min(answers.len()));
                if !named.is_empty()
                    && let Err(error) = self.end(&named, &answers).await
                {
                    tracing::warn!(%error, "what was spooled is in the store, and stays in the spool");
                }
                Ok(rest)
            }
            Err(error) if is_away(&error) => self.spool(submissions).await,
            Err(error) => Err(error),
        }
    }

    /// What the store knows, it answers for. While it is away, what is not spooled cannot be found.
    async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        // Before the store is asked: what is carried over meanwhile is found there.
        let kept = self.kept(ids).await;
        match self.ask(self.store.find(ids)).await {
            Ok(found) if found.iter().all(Option::is_some) => Ok(found),
            Ok(found) => Ok(found.into_iter().zip(kept?).map(|(found, kept)| found.or(kept)).collect()),
            Err(error) if is_away(&error) => {
                let kept = kept?;
                if kept.iter().all(Option::is_some) { Ok(kept) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// What is kept here and unknown to the store comes first.
    async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let before = match before {
            Some(Cursor(place)) if place & SPOOLED == 0 => before,
            place => {
                if !self.file.is_empty()? {
                    let place = place.map(|Cursor(place)| Cursor(place & !SPOOLED));
                    page = self.file.list(filter, place, limit).await?;
                    let ids: Vec<_> = page.records.iter().map(|record| record.id).collect();
                    let known = self.ask(self.store.find(&ids)).await?;
                    let known: BTreeSet<_> = known.into_iter().flatten().map(|record| record.id).collect();
                    page.records.retain(|record| !known.contains(&record.id));
                    if let Some(Cursor(place)) = page.next {
                        return Ok(Page { next: Some(Cursor(place | SPOOLED)), ..page });
                    }
                }
                None
            }
        };
        let left = limit - page.records.len().min(limit);
        if left == 0 {
            return Ok(Page { next: Some(Cursor(SPOOLED)), ..page });
        }
        let Page { records, next } = self.ask(self.store.list(filter, before, left)).await?;
        page.records.extend(records);
        Ok(Page { next, ..page })
    }

    async fn transaction(&self, hash: Hash) -> Result<Vec<TransferId>, StoreError> {
        self.ask(self.store.transaction(hash)).await
    }

    /// What is spooled is carried over and withdrawn there: under its key another worker may have spooled it too.
    async fn cancel(&self, id: TransferId) -> Result<Changed, StoreError> {
        let spooled = self.file.among([id].into_iter())?;
        if !spooled.is_empty() {
            self.present()?;
            self.carry(spooled, u64::MAX).await?;
        }
        match self.ask(self.store.cancel(id)).await? {
            Changed::Unknown => self.refused(id).await,
            changed => Ok(changed),
        }
    }

    async fn retry(&self, id: TransferId, now_ns: u64) -> Result<Changed, StoreError> {
        match self.ask(self.store.retry(id, now_ns)).await? {
            Changed::Unknown => self.refused(id).await,
            changed => Ok(changed),
        }
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let spooled = self.file.census().await;
        Ok(self.ask(self.store.census()).await?.with_spooled(&spooled?))
    }
}

impl<S: Records> Spool<S> {
    /// What the store does not know is not changed here.
    async fn refused(&self, id: TransferId) -> Result<Changed, StoreError> {
        let kept = self.kept(&[id]).await?.into_iter().next().flatten();
        Ok(kept.map_or(Changed::Unknown, |record| Changed::Refused(Box::new(record))))
    }
}

/// The rest is the store's own; how many are queued counts what waits here, also while the store is away.
impl<S: Records> Store for Spool<S> {
    async fn depth(&self) -> Result<Depth, StoreError> {
        let waiting = self.file.waiting();
        let depth = match self.ask(self.store.depth()).await {
            Err(error) if is_away(&error) => Depth::default(),
            depth => depth?,
        };
        Ok(Depth { queued: depth.queued + waiting?, ..depth })
    }

    async fn push(&self, transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
        self.store.push(transfers, max_depth).await
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        self.store.acquire(lane, lease, ttl).await
    }

    async fn renew(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        self.store.renew(lane, lease, ttl).await
    }

    async fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> Result<(), StoreError> {
        self.store.release_lane(lane, lease).await
    }

    async fn claim(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
    ) -> Result<Option<Claim>, StoreError> {
        self.store.claim(lane, lease, batch, at_most).await
    }

    async fn reserve(&self, lane: &LaneKey, lease: LeaseId, count: u32) -> Result<Nonce, StoreError> {
        self.store.reserve(lane, lease, count).await
    }

    async fn raise(&self, lane: &LaneKey, lease: LeaseId, floor: Nonce) -> Result<(), StoreError> {
        self.store.raise(lane, lease, floor).await
    }

    async fn release(&self, claim: ClaimId) -> Result<(), StoreError> {
        self.store.release(claim).await
    }

    async fn commit(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
    ) -> Result<AttemptId, StoreError> {
        self.store.commit(lane, lease, claim, attempt).await
    }

    async fn sent(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        self.store.sent(attempts).await
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        self.store.settle(attempt, settled).await
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        self.store.cancel_queued().await
    }

    async fn wait_for_work(&self) {
        self.store.wait_for_work().await;
    }
}
