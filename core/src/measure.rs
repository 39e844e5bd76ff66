//! What was measured, while it happens: counts, latencies, and a series by the second.
//!
//! A [`Recorder`] is of fixed size: recording does not allocate, format or take longer as a run grows. It reads
//! no clock: every time is in nanoseconds since the load's start. What it holds becomes numbers in `report`.

use crate::{
    counts::Counts,
    histogram::{Histogram, Latency},
    schedule::Schedule,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How long after the load's end things are still counted by the second. What comes later is in the totals only.
const DRAIN_BOUND_S: u64 = 3_600;
/// Errors are told apart by so many labels; what comes after counts as [`OTHER`].
const MAX_LABELS: usize = 64;
/// The peak is taken over windows of this length.
const PEAK_WINDOW_S: usize = 10;
const NS_PER_S: u64 = 1_000_000_000;

/// The label of a transfer or request that took longer than its timeout (Artillery's ETIMEDOUT).
pub const TIMEOUT: &str = "timeout";
/// The label of errors beyond the bound on labels.
pub const OTHER: &str = "other";

/// Everything that a run is judged by. All times are in nanoseconds since the load's start, on one clock.
#[derive(Clone, Debug)]
pub struct Recorder {
    schedule: Schedule,
    /// What is offered is what others send.
    others_send: bool,
    phases: Vec<PhaseRecord>,
    seconds: Vec<Second>,
    errors: Vec<(Cow<'static, str>, u64)>,
    nonce_conflicts: u64,
    queue_depth: u64,
    /// When the latest of those that were sent was meant to arrive.
    latest_sent_ns: Option<u64>,
}

/// What one of several processes recorded, for whoever makes the report: only the seconds in which something happened, and
/// no schedule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    phases: Vec<PhaseRecord>,
    seconds: Vec<Second>,
    errors: Vec<(Cow<'static, str>, u64)>,
    nonce_conflicts: u64,
    queue_depth: u64,
}

impl Recorded {
    /// How many phases it is of.
    pub fn phases(&self) -> usize {
        self.phases.len()
    }
}

/// One phase's record: of the transfers that were meant to arrive in it, whenever they were settled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PhaseRecord {
    pub(crate) tally: Counts,
    pub(crate) latencies: Latencies,
    pub(crate) batches: Batches,
    pub(crate) span: Option<BlockSpan>,
    first_second: u64,
    executed: Vec<Executed>,
}

/// The four latencies, all from the intended arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// To finality.
    pub settle: Histogram,
    /// To execution.
    pub execution: Histogram,
    /// To acceptance.
    pub accept: Histogram,
    /// To the actual sending.
    pub send_lag: Histogram,
}

/// Transactions, and how many transfers they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    /// Transactions.
    pub transactions: u64,
    /// Transfers in them all.
    pub transfers: u64,
    /// Transfers in the largest.
    pub largest: u32,
    /// Transactions by size: above the bound before and up to each of [`BATCH_BOUNDS`]; the last, above them all.
    #[serde(default)]
    pub sizes: [u64; BATCH_BOUNDS.len() + 1],
}

/// The sizes that batches are told apart by.
pub const BATCH_BOUNDS: [u32; 7] = [1, 2, 5, 10, 20, 50, 100];

/// The first and the last block that executed a phase's transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockSpan {
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

/// What the blocks of one second executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Executed {
    pub(crate) transfers: u32,
    pub(crate) transactions: u32,
}

/// One second of the run, whichever phase its events belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Second {
    pub(crate) sent: u32,
    pub(crate) rejected: u32,
    pub(crate) accepted: u32,
    pub(crate) failed: u32,
    pub(crate) settled: u32,
    pub(crate) executed: Executed,
    pub(crate) settle_sum_us: u64,
    pub(crate) settle_max_us: u64,
    pub(crate) queue_depth: u64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Live {
    /// Since the load's start, in milliseconds.
    pub elapsed_ms: u64,
    /// The index of the phase under way; the last one after the load's end.
    pub phase: usize,
    /// How much of the load's time is over, 0 to 100.
    pub percent: f64,
    /// Meant to have arrived by now.
    pub offered: u64,
    /// Sent.
    pub sent: u64,
    /// Accepted.
    pub accepted: u64,
    /// Rejected.
    pub rejected: u64,
    /// Succeeded.
    pub succeeded: u64,
    /// Failed.
    pub failed: u64,
    /// Accepted and without an end.
    pub in_flight: u64,
    /// Transactions that were executed.
    pub transactions: u64,
    /// The settle latency so far.
    pub settle: Option<Latency>,
    /// The same of late.
    pub lately: Lately,
    /// The depth of the queue when it was last told.
    pub queue_depth: u64,
}

/// What became final over the last ten whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// Transfers a second.
    pub tps: f64,
    /// Their mean settle latency in milliseconds.
    pub settle_mean_ms: Option<f64>,
    /// Their longest.
    pub settle_max_ms: Option<f64>,
}

impl Recorder {
    /// An empty record of a run under `schedule`.
    pub fn new(schedule: &Schedule) -> Self {
        let seconds = |ns: u64| (ns.div_ceil(NS_PER_S) + DRAIN_BOUND_S) as usize;
        let phase = |(offered, (start, end)): (u64, (u64, u64))| PhaseRecord {
            tally: Counts { offered, ..Counts::default() },
            latencies: Latencies::default(),
            batches: Batches::default(),
            span: None,
            first_second: start / NS_PER_S,
            executed: vec![Executed::default(); seconds(end - start)],
        };
        Self {
            phases: schedule.phase_totals().zip(schedule.phase_bounds()).map(phase).collect(),
            seconds: vec![Second::default(); seconds(schedule.duration_ns())],
            errors: Vec::with_capacity(MAX_LABELS + 1),
            nonce_conflicts: 0,
            queue_depth: 0,
            latest_sent_ns: None,
            schedule: schedule.clone(),
            others_send: false,
        }
    }

    /// An empty record of a run in which somebody else sends, when and as much as they like, during the phases of
    /// `schedule`: offered is what they sent.
    pub fn of_others(schedule: &Schedule) -> Self {
        let mut recorder = Self { others_send: true, ..Self::new(schedule) };
        recorder.phases.iter_mut().for_each(|phase| phase.tally.offered = 0);
        recorder
    }

    fn second(&mut self, ns: u64) -> Option<&mut Second> {
        self.seconds.get_mut((ns / NS_PER_S) as usize)
    }

    /// A transfer was handed over. Where others send, on the worker's side, together with its answer.
    pub fn sent(&mut self, phase: u16, intended_ns: u64, sent_ns: u64) {
        let record = &mut self.phases[usize::from(phase)];
        record.tally.sent += 1;
        record.tally.offered += u64::from(self.others_send);
        record.latencies.send_lag.record_ns(sent_ns.saturating_sub(intended_ns));
        self.latest_sent_ns = self.latest_sent_ns.max(Some(intended_ns));
        if let Some(second) = self.second(sent_ns) {
            second.sent += 1;
        }
    }

    /// A transfer was refused: the queue is full, or nobody can take it.
    pub fn rejected(&mut self, phase: u16, intended_ns: u64) {
        self.phases[usize::from(phase)].tally.rejected += 1;
        if let Some(second) = self.second(intended_ns) {
            second.rejected += 1;
        }
    }

    /// So many were sent to somebody else in this phase, who refused them.
    pub fn turned_away_elsewhere(&mut self, phase: u16, times: u64) {
        let Some(record) = self.phases.get_mut(usize::from(phase)) else { return };
        record.tally.offered += if self.others_send { times } else { 0 };
        record.tally.sent += times;
        record.tally.rejected += times;
    }

    /// Of each phase: transfers that were refused.
    pub fn turned_away(&self) -> impl Iterator<Item = u64> + '_ {
        self.phases.iter().map(|phase| phase.tally.rejected)
    }

    /// A transfer was accepted.
    pub fn accepted(&mut self, phase: u16, intended_ns: u64, accepted_ns: u64) {
        let record = &mut self.phases[usize::from(phase)];
        record.tally.accepted += 1;
        record.latencies.accept.record_ns(accepted_ns.saturating_sub(intended_ns));
        if let Some(second) = self.second(accepted_ns) {
            second.accepted += 1;
        }
    }

    /// A transfer that was sent and got no answer turned out to be accepted. How long accepting it took is not known.
    pub fn accepted_without_answer(&mut self, phase: u16) {
        self.phases[usize::from(phase)].tally.accepted += 1;
    }

    /// A transfer that an earlier process of the same run sent and that was accepted then. How long accepting it took is
    /// not known any more.
    pub fn recalled(&mut self, phase: u16, intended_ns: u64, sent_ns: u64) {
        self.sent(phase, intended_ns, sent_ns);
        self.phases[usize::from(phase)].tally.accepted += 1;
        if let Some(second) = self.second(sent_ns) {
            second.accepted += 1;
        }
    }

    /// A transfer moved its tokens in a final block. `executed_ns` and `settled_ns` are when this host learned
    /// of the execution and of its finality; `block_ns` is the time written in the block that executed it, minus
    /// the load's start (below zero where clocks differ, which counts as zero).
    pub fn succeeded(&mut self, phase: u16, intended_ns: u64, executed_ns: u64, settled_ns: u64, block_ns: i64) {
        let block_ns = u64::try_from(block_ns).unwrap_or(0);
        let settle_ns = settled_ns.saturating_sub(intended_ns);
        let record = &mut self.phases[usize::from(phase)];
        record.tally.succeeded += 1;
        record.tally.included += 1;
        record.latencies.execution.record_ns(executed_ns.saturating_sub(intended_ns));
        record.latencies.settle.record_ns(settle_ns);
        BlockSpan::extend(&mut record.span, BlockSpan { first_ns: block_ns, last_ns: block_ns });
        if let Some(executed) = record.executed_in(block_ns) {
            executed.transfers += 1;
        }
        if let Some(second) = self.second(block_ns) {
            second.executed.transfers += 1;
        }
        if let Some(second) = self.second(settled_ns) {
            second.settled += 1;
            second.settle_sum_us += settle_ns / 1_000;
            second.settle_max_us = second.settle_max_us.max(settle_ns / 1_000);
        }
    }

    /// A transfer's receipt failed in a final block, for its own fault; `label` says which.
    pub fn failed(&mut self, phase: u16, intended_ns: u64, label: &'static str) {
        let tally = &mut self.phases[usize::from(phase)].tally;
        tally.failed += 1;
        tally.included += 1;
        if let Some(second) = self.second(intended_ns) {
            second.failed += 1;
        }
        self.error(label);
    }

    /// A transfer was withdrawn before it was signed.
    pub fn cancelled(&mut self, phase: u16) {
        self.phases[usize::from(phase)].tally.cancelled += 1;
    }

    /// A transfer is proven never to execute, and will not be signed anew.
    pub fn expired(&mut self, phase: u16) {
        self.phases[usize::from(phase)].tally.expired += 1;
    }

    /// There is no proof of a transfer's end either way.
    pub fn unknown(&mut self, phase: u16) {
        self.phases[usize::from(phase)].tally.unknown += 1;
    }

    /// A transaction with `transfers` transfers was executed by the block of time `block_ns`. It counts for the
    /// phase of its first transfer.
    pub fn attempt(&mut self, phase: u16, block_ns: i64, transfers: u32) {
        let block_ns = u64::try_from(block_ns).unwrap_or(0);
        let record = &mut self.phases[usize::from(phase)];
        record.batches.add(transfers);
        if let Some(executed) = record.executed_in(block_ns) {
            executed.transactions += 1;
        }
        if let Some(second) = self.second(block_ns) {
            second.executed.transactions += 1;
        }
    }

    /// Something went wrong, whether or not it was put right; `label` is of a fixed set.
    pub fn error(&mut self, label: &'static str) {
        self.errors(label, 1);
    }

    /// Counts an error that happened so many times.
    pub fn errors(&mut self, label: impl Into<Cow<'static, str>>, times: u64) {
        let label = label.into();
        if let Some((_, count)) = self.errors.iter_mut().find(|(known, _)| *known == label) {
            *count += times;
        } else if self.errors.len() < MAX_LABELS {
            self.errors.push((label, times));
        } else if let Some((_, count)) = self.errors.iter_mut().find(|(known, _)| *known == OTHER) {
            *count += times;
        } else {
            self.errors.push((OTHER.into(), times));
        }
    }

    /// A node refused so many transactions because of their nonce.
    pub fn nonce_conflicts(&mut self, times: u64) {
        self.nonce_conflicts += times;
    }

    /// The queue was `depth` deep.
    pub fn queue_depth(&mut self, at_ns: u64, depth: u64) {
        self.queue_depth = depth;
        if let Some(second) = self.second(at_ns) {
            second.queue_depth = second.queue_depth.max(depth);
        }
    }

    /// What was recorded so far, to be told to another process.
    pub fn recorded(&self) -> Recorded {
        let until_last = |executed: &[Executed]| {
            let used = executed.iter().rposition(|second| *second != Executed::default()).map_or(0, |last| last + 1);
            executed[..used].to_vec()
        };
        let phase = |phase: &PhaseRecord| PhaseRecord { executed: until_last(&phase.executed), ..phase.clone() };
        Recorded {
            phases: self.phases.iter().map(phase).collect(),
            seconds: self.seconds().to_vec(),
            errors: self.errors.clone(),
            nonce_conflicts: self.nonce_conflicts,
            queue_depth: self.queue_depth,
        }
    }

    /// Adds all that another process recorded under the same schedule.
    ///
    /// # Panics
    /// When the two have different phases.
    pub fn merge(&mut self, other: &Recorded) {
        assert_eq!(self.phases.len(), other.phases.len(), "records of one run have the same phases");
        for (mine, theirs) in self.phases.iter_mut().zip(&other.phases) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.merge(theirs);
        }
        for (label, times) in &other.errors {
            self.errors(label.clone(), *times);
        }
        self.nonce_conflicts += other.nonce_conflicts;
        self.queue_depth = self.queue_depth.max(other.queue_depth);
    }

    /// Where the run stands at `now_ns`.
    pub fn live(&self, now_ns: u64) -> Live {
        let counts = self.counts();
        let duration_ns = self.schedule.duration_ns();
        let now_s = (now_ns / NS_PER_S) as usize;
        let window = self.seconds.get(now_s.saturating_sub(PEAK_WINDOW_S)..now_s).unwrap_or_default();
        let settled: u64 = window.iter().map(|second| u64::from(second.settled)).sum();
        let sum_us: u64 = window.iter().map(|second| second.settle_sum_us).sum();
        let max_us = window.iter().map(|second| second.settle_max_us).max();
        Live {
            elapsed_ms: now_ns / 1_000_000,
            phase: self.schedule.phase_at(now_ns),
            percent: if duration_ns == 0 { 100.0 } else { (now_ns as f64 * 100.0 / duration_ns as f64).min(100.0) },
            offered: if self.others_send { counts.sent } else { self.schedule.offered_before(now_ns) },
            sent: counts.sent,
            accepted: counts.accepted,
            rejected: counts.rejected,
            succeeded: counts.succeeded,
            failed: counts.failed,
            in_flight: counts.accepted.saturating_sub(counts.ended()),
            transactions: self.phases.iter().map(|phase| phase.batches.transactions).sum(),
            settle: self.settle().summary(),
            lately: Lately {
                tps: settled as f64 / window.len().max(1) as f64,
                settle_mean_ms: (settled > 0).then(|| sum_us as f64 / settled as f64 / 1_000.0),
                settle_max_ms: (settled > 0).then_some(max_us).flatten().map(|us| us as f64 / 1_000.0),
            },
            queue_depth: self.queue_depth,
        }
    }

    /// By how much sending is behind the schedule at `now_ns`, in nanoseconds: the first arrival after the latest that was
    /// sent is due for so long. `generators` share the schedule.
    pub fn behind_ns(&self, now_ns: u64, generators: u32) -> u64 {
        let next = match self.latest_sent_ns {
            Some(intended_ns) => self.schedule.offered_before(intended_ns + 1) + u64::from(generators) - 1,
            None => 0,
        };
        self.schedule.arrival(next).map_or(0, |due| now_ns.saturating_sub(due.intended_ns))
    }

    /// The counts of all phases so far. Transfers under way are in no final state yet.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.phases.iter().for_each(|phase| sum += phase.tally);
        sum
    }

    /// What it is under.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(crate) fn phases(&self) -> &[PhaseRecord] {
        &self.phases
    }

    /// The depth of the queue when it was last told.
    pub fn queued(&self) -> u64 {
        self.queue_depth
    }

    /// The settle latencies of all phases.
    pub fn settle(&self) -> Histogram {
        let mut all = Histogram::default();
        self.phases.iter().for_each(|phase| all.merge(&phase.latencies.settle));
        all
    }

    /// The latencies of all phases.
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.phases.iter().for_each(|phase| all.merge(&phase.latencies));
        all
    }

    /// The transactions of all phases.
    pub fn batches(&self) -> Batches {
        let mut all = Batches::default();
        self.phases.iter().for_each(|phase| all.merge(phase.batches));
        all
    }

    /// How often each error happened, by label.
    pub fn error_counts(&self) -> &[(Cow<'static, str>, u64)] {
        &self.errors
    }

    /// Transactions that a node refused because of their nonce.
    pub fn nonce_conflict_count(&self) -> u64 {
        self.nonce_conflicts
    }

    /// The seconds up to the last in which anything happened.
    pub(crate) fn seconds(&self) -> &[Second] {
        let used = self.seconds.iter().rposition(|second| *second != Second::default()).map_or(0, |last| last + 1);
        &self.seconds[..used]
    }

    /// Transfers and transactions a second in the best window of all phases.
    pub(crate) fn peak(&self) -> (f64, f64) {
        peak(self.seconds.iter().map(|second| second.executed), self.schedule.duration_ns())
    }
}

impl PhaseRecord {
    fn executed_in(&mut self, block_ns: u64) -> Option<&mut Executed> {
        let second = (block_ns / NS_PER_S).saturating_sub(self.first_second);
        self.executed.get_mut(second as usize)
    }

    /// Transfers and transactions a second in the best window of a phase of this length.
    pub(crate) fn peak(&self, length_ns: u64) -> (f64, f64) {
        peak(self.executed.iter().copied(), length_ns)
    }

    fn merge(&mut self, other: &Self) {
        let offered = self.tally.offered;
        self.tally += other.tally;
        self.tally.offered = offered;
        self.latencies.merge(&other.latencies);
        self.batches.merge(other.batches);
        if let Some(span) = other.span {
            BlockSpan::extend(&mut self.span, span);
        }
        for (mine, theirs) in self.executed.iter_mut().zip(&other.executed) {
            mine.merge(*theirs);
        }
    }
}

impl Latencies {
    fn merge(&mut self, other: &Self) {
        self.settle.merge(&other.settle);
        self.execution.merge(&other.execution);
        self.accept.merge(&other.accept);
        self.send_lag.merge(&other.send_lag);
    }
}

impl Batches {
    fn add(&mut self, transfers: u32) {
        self.transactions += 1;
        self.transfers += u64::from(transfers);
        self.largest = self.largest.max(transfers);
        self.sizes[BATCH_BOUNDS.partition_point(|bound| *bound < transfers)] += 1;
    }

    fn merge(&mut self, other: Self) {
        self.sizes.iter_mut().zip(other.sizes).for_each(|(mine, theirs)| *mine += theirs);
        self.transactions += other.transactions;
        self.transfers += other.transfers;
        self.largest = self.largest.max(other.largest);
    }
}

impl BlockSpan {
    fn extend(span: &mut Option<Self>, by: Self) {
        *span = Some(span.map_or(by, |span| Self {
            first_ns: span.first_ns.min(by.first_ns),
            last_ns: span.last_ns.max(by.last_ns),
        }));
    }
}

impl Executed {
    fn merge(&mut self, other: Self) {
        self.transfers += other.transfers;
        self.transactions += other.transactions;
    }
}

impl Second {
    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.rejected += other.rejected;
        self.accepted += other.accepted;
        self.failed += other.failed;
        self.settled += other.settled;
        self.executed.merge(other.executed);
        self.settle_sum_us += other.settle_sum_us;
        self.settle_max_us = self.settle_max_us.max(other.settle_max_us);
        self.queue_depth = self.queue_depth.max(other.queue_depth);
    }
}

/// The most transfers a second, and the most transactions, over any ten seconds in a row, or over as many as what lasts
/// `length_ns` has.
fn peak(seconds: impl Iterator<Item = Executed>, length_ns: u64) -> (f64, f64) {
    let width = usize::try_from(length_ns.div_ceil(NS_PER_S)).unwrap_or(PEAK_WINDOW_S).clamp(1, PEAK_WINDOW_S);
    let mut window = [Executed::default(); PEAK_WINDOW_S];
    let (mut sum, mut best) = ((0u64, 0u64), (0, 0));
    for (n, second) in seconds.enumerate() {
        let leaving = std::mem::replace(&mut window[n % width], second);
        sum.0 = sum.0 + u64::from(second.transfers) - u64::from(leaving.transfers);
        sum.1 = sum.1 + u64::from(second.transactions) - u64::from(leaving.transactions);
        best = (best.0.max(sum.0), best.1.max(sum.1));
    }
    (best.0 as f64 / width as f64, best.1 as f64 / width as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_what_is_shorter_than_its_window_is_taken_over_its_own_length() {
        let steady = |seconds: usize| vec![Executed { transfers: 40, transactions: 4 }; seconds].into_iter();
        assert_eq!(peak(steady(3), 3 * NS_PER_S), (40.0, 4.0));
        assert_eq!(peak(steady(60), 60 * NS_PER_S), (40.0, 4.0));
        // A burst of one second is spread over the window of a longer run.
        let burst = steady(1).chain(vec![Executed::default(); 29]);
        assert_eq!(peak(burst, 30 * NS_PER_S), (4.0, 0.4));
    }
}
