//! Where results are counted: one lock a batch, shared with the load driver and the progress line.

use nearbench_core::{
    Transfer,
    ledger::{Final, Ledger},
    measure::{Recorder, TIMEOUT},
    outcome::FailureKind,
    settle::{Fate, Settlement},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// The counts of a run and the final state of each of its transfers.
pub struct Tally {
    /// The counts, histograms and series.
    pub recorder: Mutex<Recorder>,
    ledger: Mutex<Ledger>,
    start: Instant,
    start_unix_ns: u64,
    timeout_ns: u64,
}

/// When and where an attempt was executed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Executed {
    /// When this worker learnt of the execution, in nanoseconds since the load's start.
    pub(crate) at_ns: u64,
    /// The executing block's own time, in nanoseconds since the Unix epoch.
    pub(crate) block_unix_ns: u64,
}

impl Tally {
    /// A tally for a load that starts at `start`, which is `start_unix_ns` on the wall clock. Transfers that take
    /// longer than `timeout_ns` count as timed out, whatever becomes of them.
    pub fn new(recorder: Recorder, transfers: u64, start: Instant, start_unix_ns: u64, timeout_ns: u64) -> Self {
        Self {
            recorder: Mutex::new(recorder),
            ledger: Mutex::new(Ledger::new(transfers)),
            start,
            start_unix_ns,
            timeout_ns,
        }
    }

    /// The counts, locked.
    pub fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The final states, locked.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the load's start; 0 before it.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts an attempt that was settled by a final block.
    pub(crate) fn settled(
        &self,
        transfers: &[Transfer],
        settlement: Settlement,
        executed: Executed,
        failure: Option<&FailureKind>,
    ) {
        let now_ns = self.now_ns();
        let block_ns = executed.block_unix_ns.wrapping_sub(self.start_unix_ns) as i64;
        let mut recorder = self.recorder();
        let mut ledger = self.ledger();
        if let Some(first) = transfers.first() {
            recorder.attempt(first.phase, block_ns, transfers.len() as u32);
        }
        for (index, transfer) in transfers.iter().enumerate() {
            match settlement.fate(index) {
                Fate::Finalized => {
                    let Transfer { phase, intended_ns, .. } = *transfer;
                    recorder.succeeded(phase, intended_ns, executed.at_ns, now_ns, block_ns);
                    if now_ns.saturating_sub(intended_ns) > self.timeout_ns {
                        recorder.error(TIMEOUT);
                    }
                    ledger.set(transfer.sequence, Final::Succeeded);
                }
                Fate::Failed => {
                    let label = failure.map_or("failed", FailureKind::label);
                    recorder.failed(transfer.phase, transfer.intended_ns, label);
                    ledger.set(transfer.sequence, Final::Failed);
                }
                Fate::Requeue => {}
                Fate::NeedsReview => recorder.unknown(transfer.phase),
            }
        }
    }

    /// Counts transfers that are left without proof either way.
    pub(crate) fn unknown(&self, transfers: &[Transfer]) {
        let mut recorder = self.recorder();
        for transfer in transfers {
            recorder.unknown(transfer.phase);
        }
    }

    /// Counts transfers that were withdrawn before they were signed.
    pub(crate) fn cancelled(&self, transfers: &[Transfer]) {
        let mut recorder = self.recorder();
        let mut ledger = self.ledger();
        for transfer in transfers {
            recorder.cancelled(transfer.phase);
            ledger.set(transfer.sequence, Final::Failed);
        }
    }
}
