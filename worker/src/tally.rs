//! Where results are counted: one lock a batch, shared with the load driver and the progress line.

use nearbench_core::{
    Transfer,
    ledger::{Final, Ledger},
    measure::{Recorder, TIMEOUT},
    outcome::FailureKind,
    settle::{Fate, Proof, Settled},
};
use nearbench_store::{Recall, ResultRow, StoreError, TransferRecord};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::time::Instant;

/// The counts of a run and the final state of each of its transfers.
pub struct Tally {
    /// The counts, histograms and series.
    pub recorder: Mutex<Recorder>,
    ledger: Mutex<Ledger>,
    mishaps: Mutex<Mishaps>,
    /// When the load starts, on this host's clock and as a Unix time.
    start: OnceLock<(Instant, u64)>,
    timeout_ns: u64,
}

/// What went wrong on the way, and no result tells: whoever counts the results from the store needs it besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// How often, by label.
    pub errors: BTreeMap<&'static str, u64>,
    /// Transactions that a node refused because of their nonce.
    pub nonce_conflicts: u64,
}

/// A driver knows the counts alone.
impl AsRef<Mutex<Recorder>> for Tally {
    fn as_ref(&self) -> &Mutex<Recorder> {
        &self.recorder
    }
}

impl Tally {
    /// A tally for a load that starts at `start`, which is `start_unix_ns` on the wall clock. Transfers that take
    /// longer than `timeout_ns` count as timed out, whatever becomes of them.
    pub fn new(recorder: Recorder, transfers: u64, start: Instant, start_unix_ns: u64, timeout_ns: u64) -> Self {
        let tally = Self::waiting(recorder, transfers, timeout_ns);
        tally.begin(start, start_unix_ns);
        tally
    }

    /// A tally for a load of which it is not known yet when it starts.
    pub fn waiting(recorder: Recorder, transfers: u64, timeout_ns: u64) -> Self {
        Self {
            recorder: Mutex::new(recorder),
            ledger: Mutex::new(Ledger::new(transfers)),
            mishaps: Mutex::default(),
            start: OnceLock::new(),
            timeout_ns,
        }
    }

    /// The load starts at `start`, which is `start_unix_ns` on the wall clock. Said once.
    pub fn begin(&self, start: Instant, start_unix_ns: u64) {
        // Whoever said it first said it for all.
        let _ = self.start.set((start, start_unix_ns));
    }

    /// The counts, locked.
    pub fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The final states, locked.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong on the way so far.
    pub fn mishaps(&self) -> Mishaps {
        self.mishaps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something went wrong that ends no transfer.
    pub(crate) fn mishap(&self, label: &'static str) {
        self.recorder().error(label);
        *self.mishaps.lock().unwrap_or_else(PoisonError::into_inner).errors.entry(label).or_default() += 1;
    }

    /// A node refused a transaction because of its nonce.
    pub(crate) fn nonce_conflict(&self) {
        self.recorder().nonce_conflicts(1);
        self.mishaps.lock().unwrap_or_else(PoisonError::into_inner).nonce_conflicts += 1;
    }

    /// When the load starts, as a Unix time in nanoseconds; `None` until that is known.
    pub fn start_unix_ns(&self) -> Option<u64> {
        self.start.get().map(|(_, start_unix_ns)| *start_unix_ns)
    }

    /// Nanoseconds since the load's start; 0 before it.
    pub fn now_ns(&self) -> u64 {
        let Some((start, _)) = self.start.get() else { return 0 };
        u64::try_from(Instant::now().saturating_duration_since(*start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts the end of an attempt that carried `transfers`.
    pub(crate) fn settled(&self, transfers: &[Transfer], settled: &Settled) {
        self.count(transfers.iter().map(TransferRecord::from), settled);
    }

    fn count(&self, transfers: impl ExactSizeIterator<Item = TransferRecord>, settled: &Settled) {
        let mut recorder = self.recorder();
        let mut ledger = self.ledger();
        let executed = match settled.proof {
            Proof::Executed(executed) => Some((executed, self.since_start_ns(executed.block_unix_ns))),
            Proof::Dead(_) | Proof::None => None,
        };
        let carried = transfers.len() as u32;
        for (index, transfer) in transfers.enumerate() {
            let TransferRecord { phase, intended_ns, sequence, .. } = transfer;
            if let (0, Some((_, block_ns))) = (index, executed) {
                recorder.attempt(phase, block_ns, carried);
            }
            match (settled.settlement.fate(index), executed) {
                (Fate::Finalized, Some((executed, block_ns))) => {
                    recorder.succeeded(phase, intended_ns, executed.at_ns, settled.at_ns, block_ns);
                    if settled.at_ns.saturating_sub(intended_ns) > self.timeout_ns {
                        recorder.error(TIMEOUT);
                    }
                    ledger.set(sequence, Final::Succeeded);
                }
                (Fate::Failed, Some(_)) => {
                    let label = settled.failure.as_ref().map_or("failed", FailureKind::label);
                    recorder.failed(phase, intended_ns, label);
                    ledger.set(sequence, Final::Failed);
                }
                (Fate::Requeue, _) => {}
                // What nobody saw executed has no proof, whatever it is called.
                (Fate::NeedsReview | Fate::Finalized | Fate::Failed, _) => recorder.unknown(phase),
            }
        }
    }

    /// Counts what an earlier process of the same run saw and stored: every transfer that it accepted, and the end of
    /// those that have one.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn recall(&self, store: &impl Recall) -> Result<(), StoreError> {
        self.recall_accepted(store).await?;
        self.recall_ends(store).await
    }

    /// Counts every transfer that the store accepted, whatever became of it.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn recall_accepted(&self, store: &impl Recall) -> Result<(), StoreError> {
        self.recall_share(store, (0, 1)).await
    }

    /// The same for the transfers that one of several generators sent: every `share.1`-th, from number `share.0` on.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn recall_share(&self, store: &impl Recall, share: (u32, u32)) -> Result<(), StoreError> {
        let accepted = |transfer: &TransferRecord| {
            if transfer.sequence % u64::from(share.1) != u64::from(share.0) {
                return;
            }
            self.recorder().recalled(transfer.phase, transfer.intended_ns, transfer.sent_ns);
        };
        let unsettled = store.unsettled().await?;
        unsettled.iter().map(TransferRecord::from).for_each(|transfer| accepted(&transfer));
        // What ends while it is read is met again. One that failed and was put into the queue again by its client was
        // accepted twice, and has two ends.
        let met: HashSet<_> = unsettled.iter().map(|transfer| transfer.id).collect();
        let ended = |transfer: &TransferRecord| {
            if !met.contains(&transfer.id) {
                accepted(transfer);
            }
        };
        let mut count = |row| match row {
            ResultRow::Settled { settled, transfers, .. } => {
                let has_end = |index: &usize| settled.settlement.fate(*index) != Fate::Requeue;
                (0..transfers.len()).filter(has_end).for_each(|index| ended(&transfers[index]));
            }
            ResultRow::Cancelled { transfers } => transfers.iter().for_each(ended),
        };
        store.results(&mut count).await
    }

    /// Counts the ends that the store keeps.
    ///
    /// # Errors
    /// The store's, when it cannot be read.
    pub async fn recall_ends(&self, store: &impl Recall) -> Result<(), StoreError> {
        let mut count = |row| match row {
            ResultRow::Settled { settled, transfers, .. } => self.count(transfers.into_iter(), &settled),
            ResultRow::Cancelled { transfers } => self.withdrawn(transfers.into_iter(), Recorder::cancelled),
        };
        store.results(&mut count).await
    }

    /// A wall-clock time as one of the load's; below zero where clocks differ.
    fn since_start_ns(&self, unix_ns: u64) -> i64 {
        self.start.get().map_or(0, |(_, start_unix_ns)| unix_ns.wrapping_sub(*start_unix_ns) as i64)
    }

    /// Counts transfers that were withdrawn before they were signed.
    pub(crate) fn cancelled(&self, transfers: &[Transfer]) {
        self.withdrawn(transfers.iter().map(TransferRecord::from), Recorder::cancelled);
    }

    /// Counts transfers that are proven never to execute, and will not be signed anew.
    pub(crate) fn expired(&self, transfers: &[Transfer]) {
        self.withdrawn(transfers.iter().map(TransferRecord::from), Recorder::expired);
    }

    fn withdrawn(&self, transfers: impl Iterator<Item = TransferRecord>, how: fn(&mut Recorder, u16)) {
        let mut recorder = self.recorder();
        let mut ledger = self.ledger();
        for transfer in transfers {
            how(&mut recorder, transfer.phase);
            ledger.set(transfer.sequence, Final::Failed);
        }
    }
}
