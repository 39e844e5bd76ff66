//! The report: what a run was, what it did and what that is worth. Its schema is `docs/report.schema.json`.
//!
//! Nothing is measured here: records become numbers, and the numbers must add up.

use crate::{
    audit::Audit,
    counts::{Counts, Miscount},
    ensure::Check,
    evidence::{Endings, Evidence, Served},
    histogram::{Latency, Percentile},
    measure::{Batches, BlockSpan, Latencies, Recorder, Second},
    plan::{ChainLimits, Plan},
    verdict::Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod limits;
mod thin;
pub(crate) use limits::SENT_PERCENT;
pub use limits::{Limit, LimitedBy, Signals};
pub use thin::{MOST_POINTS, folded};

/// The report's `apiVersion`.
pub const API_VERSION: &str = "nearbench.dev/v1alpha1";
/// The report's `kind`.
pub const KIND: &str = "BenchmarkReport";

/// The result of a run. Times of day are RFC 3339 texts; rates are percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BenchmarkReport {
    /// `nearbench.dev/v1alpha1`.
    pub api_version: String,
    /// `BenchmarkReport`.
    pub kind: String,
    /// Which run.
    pub run: Run,
    /// Where it ran.
    pub environment: Environment,
    /// What was asked for, with every default filled in.
    pub plan: Plan,
    /// What happened.
    pub results: Results,
    /// Every threshold, and whether it held.
    pub ensure: Vec<Check>,
    /// What the run is worth.
    pub verdict: Verdict,
    /// Why the verdict is not `Passed`; where it is, that no threshold was set, or empty.
    pub reasons: Vec<String>,
}

/// Which run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its name.
    pub name: String,
    /// When provisioning began.
    pub start_time: String,
    /// When the load began: the zero of all times in `results`.
    pub load_start_time: Option<String>,
    /// When the report was made.
    pub completion_time: String,
}

/// Where a run took place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The version of nearbench.
    pub nearbench_version: String,
    /// The chain.
    pub chain: Chain,
    /// The machine that generated the load.
    pub machine: Machine,
    /// How long the process was kept from its CPUs by a cgroup's quota during the load, in milliseconds;
    /// `null` where the system does not tell.
    pub throttled_ms: Option<u64>,
    /// How much CPU time other guests took during the load, in percent; `null` where the system does not tell.
    pub steal_percent: Option<f64>,
    /// By how much execution and settle latencies may be too long, because outcomes are asked for only so often,
    /// in milliseconds.
    pub polling_error_ms: f64,
    /// The most memory that the process held, in bytes.
    pub peak_rss_bytes: Option<u64>,
}

/// The chain, as it describes itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// The node's software. `nearbench-devnet` is not NEAR.
    pub software: String,
    /// The software's version.
    pub version: String,
    /// The chain's id.
    pub chain_id: String,
    /// Its protocol version.
    pub protocol_version: u32,
    /// Its limits.
    pub limits: ChainLimits,
    /// The mean time between blocks during the load, in milliseconds.
    pub block_time_ms: f64,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Logical CPUs that the process may use.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The operating system.
    pub os: String,
    /// The model of its CPUs.
    pub cpu_model: String,
}

/// What happened, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// Of the whole run. `tps.mean` and `transactionsPerSecond.mean` are those of the longest phase.
    #[serde(flatten)]
    pub measures: Measures,
    /// How the settle latency is distributed: at most 55 points, from the shortest to the longest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency_distribution: Vec<Percentile>,
    /// Errors by type, whether or not they were put right.
    pub errors: BTreeMap<String, u64>,
    /// Transactions refused for their nonce, in percent of those executed; `null` where none was executed.
    pub nonce_conflict_rate: Option<f64>,
    /// Processes that had to be started again.
    pub restarts: u64,
    /// The same by part; `null`: of an earlier version, which did not tell them apart.
    #[serde(default)]
    pub restarts_by_part: Option<Restarts>,
    /// What kept the run from being faster.
    pub limited_by: LimitedBy,
    /// Where time was lost, which that is told by; `null`: of an earlier version.
    #[serde(default)]
    pub signals: Option<Signals>,
    /// Of the gas limit of the chain's chunks in the longest phase: burnt, in percent; `null` where nobody looked. A chunk
    /// is full below 100: its bound is on time, which storage takes more of than of gas.
    #[serde(default)]
    pub chunk_fill: Option<f64>,
    /// The same by phase. A transfer belongs to the phase in which it was meant to arrive.
    pub phases: Vec<PhaseResults>,
    /// What each endpoint did during the load, for those who carried it, the plan's order kept; empty where nobody measured it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointResults>,
    /// The same by the second, or by `seriesStepSeconds`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesPoint>,
    /// How many seconds a point of the series stands for. It is 1 in the report of a run's folder; what goes into a ConfigMap
    /// has at most 1,000 points.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub series_step_seconds: u32,
    /// What the audit found; `null` where there was none.
    pub audit: Option<Audit>,
}

/// What is measured of a run and of a phase alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Measures {
    /// What became of the transfers.
    #[serde(flatten)]
    pub counts: Counts,
    /// Transfers that succeeded, a second.
    pub tps: Rate,
    /// Transactions that were executed, a second.
    pub transactions_per_second: Rate,
    /// Transfers that succeeded, in percent of those offered; `null` where none was offered.
    pub success_rate: Option<f64>,
    /// Latencies, in milliseconds.
    pub latency_ms: LatencyMs,
    /// Transfers in a transaction; `null` where no transaction was executed.
    pub batch_size: Option<BatchSize>,
}

/// Events a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Over the phase's length, or over the time from the first to the last block that executed its transfers,
    /// where that is longer by more than two block intervals.
    pub mean: f64,
    /// Over the best ten seconds in a row, by the blocks' times.
    pub peak: f64,
}

/// Latencies in milliseconds, all from the intended arrival; `null` where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyMs {
    /// To finality.
    pub settle: Option<Latency>,
    /// To execution.
    pub execution: Option<Latency>,
    /// To acceptance into the queue, or the API's answer.
    pub accept: Option<Latency>,
    /// To the actual sending.
    pub send_lag: Option<Latency>,
}

/// Transfers in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchSize {
    /// Arithmetic mean.
    pub mean: f64,
    /// Largest.
    pub max: u32,
}

/// One phase's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseResults {
    /// The phase's name.
    pub name: String,
    /// When it began, in milliseconds since the load's start.
    pub start_ms: u64,
    /// How long it was, in milliseconds.
    pub duration_ms: u64,
    /// Its numbers.
    #[serde(flatten)]
    pub measures: Measures,
}

/// How often processes of a run had to be started again, by part; `null`: this kind of run has no such part, or somebody else
/// keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Restarts {
    /// The run's own process: how often it was resumed.
    pub run: Option<u64>,
    /// Workers.
    pub workers: Option<u64>,
    /// Load generators.
    pub generators: Option<u64>,
}

impl Restarts {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.run, self.workers, self.generators].iter().flatten().sum()
    }
}

/// What an endpoint did during the load. Several processes ask it, each with connections and a breaker of its own: their numbers
/// are added up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointResults {
    /// Its URL, which holds no credentials; `devnet of the run` where the plan names none.
    pub url: String,
    /// Requests that ended.
    pub requests: u64,
    /// How.
    pub endings: Endings,
    /// How long they took, in milliseconds, each to 3 %; `null` where none ended. Waiting for their turn is left out; those that
    /// let the node wait for an outcome are counted with what they waited.
    pub latency_ms: Option<Latency>,
    /// For how long its breaker let nothing through, in milliseconds.
    pub breaker_open_ms: u64,
    /// The same, in percent of the time of the processes that ask it.
    pub breaker_open: Option<f64>,
    /// How often its breaker opened, a probe that failed included.
    pub times_opened: u64,
}

/// What the endpoint of a run without any in its plan is called.
const OWN_CHAIN: &str = "devnet of the run";

impl EndpointResults {
    /// Of each endpoint of the plan, in its order; empty where nothing was measured.
    pub fn of(plan: &Plan, evidence: &Evidence) -> Vec<Self> {
        let of = |url: &str, served: &Served| Self {
            url: url.to_owned(),
            requests: served.endings.total(),
            endings: served.endings,
            latency_ms: served.latency.summary(),
            breaker_open_ms: served.open_ns / 1_000_000,
            breaker_open: limits::percent(served.open_ns, evidence.elapsed_ns),
            times_opened: served.times_opened,
        };
        if evidence.endpoints.is_empty() {
            return Vec::new();
        }
        if plan.network.endpoints.is_empty() {
            // The process that brought the chain up knows it by another name than its workers.
            let mut all = Served::default();
            evidence.endpoints.values().for_each(|served| all.merge(served));
            return vec![of(OWN_CHAIN, &all)];
        }
        let nothing = Served::default();
        let served = |url: &str| of(url, evidence.endpoints.get(url).unwrap_or(&nothing));
        plan.network.endpoints.iter().map(|endpoint| served(&endpoint.url)).collect()
    }
}

fn one() -> u32 {
    1
}

fn is_one(seconds: &u32) -> bool {
    *seconds == 1
}

/// One second of a run, or so many as `seriesStepSeconds` says: what is counted is then added up, and what is longest or
/// deepest is the most of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeriesPoint {
    /// Which, from 0 at the load's start; of several, the first.
    pub second: u32,
    /// Transfers meant to arrive in it.
    pub offered: u64,
    /// Sent in it.
    pub sent: u32,
    /// Accepted in it.
    pub accepted: u32,
    /// Meant to arrive in it, and refused.
    pub rejected: u32,
    /// Executed in it with success, by the blocks' times.
    pub succeeded: u32,
    /// Meant to arrive in it, and failed.
    pub failed: u32,
    /// Transactions executed in it, by the blocks' times.
    pub transactions: u32,
    /// Became final in it.
    #[serde(default)]
    pub settled: u32,
    /// Mean settle latency of what became final in it, in milliseconds.
    pub settle_mean_ms: Option<f64>,
    /// Longest settle latency of what became final in it, in milliseconds.
    pub settle_max_ms: Option<f64>,
    /// The queue at its deepest.
    pub queue_depth: u64,
}

/// What the recorder cannot know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The mean time between blocks during the load, in milliseconds.
    pub block_time_ms: f64,
    /// Processes that had to be started again.
    pub restarts: Restarts,
    /// The p99 send lag that the plan allows, in milliseconds.
    pub max_send_lag_ms: u64,
    /// Where time was lost.
    pub signals: Signals,
    /// Of the chunks' gas limit in the longest phase: used, in percent.
    pub chunk_fill: Option<f64>,
    /// What each endpoint did.
    pub endpoints: Vec<EndpointResults>,
    /// What the audit found.
    pub audit: Option<Audit>,
}

impl Results {
    /// Turns a finished record into numbers. Transfers still without an end are `unknown`: nothing proves
    /// either way. `names` are the phases', in order.
    ///
    /// # Errors
    /// When the counts contradict one another: no number could be trusted.
    pub fn new<'a>(
        record: &Recorder,
        names: impl IntoIterator<Item = &'a str>,
        observed: &Observed,
    ) -> Result<Self, Miscount> {
        let interval_ns = (observed.block_time_ms.max(0.0) * 1e6) as u64;
        let mut counts = Counts::default();
        let mut phases = Vec::with_capacity(record.phases().len());
        for ((phase, (start_ns, end_ns)), name) in
            record.phases().iter().zip(record.schedule().phase_bounds()).zip(names)
        {
            let closed = closed(phase.tally)?;
            counts += closed;
            let over_s = effective_ns(end_ns - start_ns, phase.span, interval_ns) as f64 / 1e9;
            let (tps_peak, transactions_peak) = phase.peak(end_ns - start_ns);
            let mean = |events: u64| {
                if over_s > 0.0 { events as f64 / over_s } else { 0.0 }
            };
            phases.push(PhaseResults {
                name: name.to_owned(),
                start_ms: start_ns / 1_000_000,
                duration_ms: (end_ns - start_ns) / 1_000_000,
                measures: Measures {
                    counts: closed,
                    tps: Rate { mean: mean(closed.succeeded), peak: tps_peak },
                    transactions_per_second: Rate { mean: mean(phase.batches.transactions), peak: transactions_peak },
                    success_rate: closed.success_rate(),
                    latency_ms: LatencyMs::of(&phase.latencies),
                    batch_size: BatchSize::of(&phase.batches),
                },
            });
        }
        counts.check()?;
        let batches = record.batches();
        let longest = phases.get(record.schedule().longest_phase()).map(|phase| phase.measures);
        let (tps_peak, transactions_peak) = record.peak();
        let latencies = record.latencies();
        let measures = Measures {
            counts,
            tps: Rate { mean: longest.map_or(0.0, |m| m.tps.mean), peak: tps_peak },
            transactions_per_second: Rate {
                mean: longest.map_or(0.0, |m| m.transactions_per_second.mean),
                peak: transactions_peak,
            },
            success_rate: counts.success_rate(),
            latency_ms: LatencyMs::of(&latencies),
            batch_size: BatchSize::of(&batches),
        };
        let attempts = batches.transactions;
        Ok(Self {
            chunk_fill: observed.chunk_fill,
            limited_by: limits::limited_by(&measures, longest.as_ref(), record.schedule(), observed),
            measures,
            latency_distribution: latencies.settle.distribution(),
            errors: record.error_counts().iter().map(|(label, count)| (label.clone().into_owned(), *count)).collect(),
            nonce_conflict_rate: (attempts > 0).then(|| record.nonce_conflict_count() as f64 * 100.0 / attempts as f64),
            restarts: observed.restarts.total(),
            restarts_by_part: Some(observed.restarts),
            signals: Some(observed.signals),
            phases,
            endpoints: observed.endpoints.clone(),
            series: series(record),
            series_step_seconds: 1,
            audit: observed.audit,
        })
    }
}

/// The counts of a phase that is over.
fn closed(tally: Counts) -> Result<Counts, Miscount> {
    let under_way = tally.accepted.saturating_sub(tally.ended());
    let counts =
        Counts { not_sent: tally.offered.saturating_sub(tally.sent), unknown: tally.unknown + under_way, ..tally };
    counts.check().map(|()| counts)
}

/// What a phase's transfers are divided by: its length, or the time that its blocks took where a backlog made
/// that longer by more than two block intervals.
fn effective_ns(length_ns: u64, span: Option<BlockSpan>, interval_ns: u64) -> u64 {
    let blocks_ns = span.map_or(0, |span| span.last_ns - span.first_ns);
    if blocks_ns > length_ns + 2 * interval_ns { blocks_ns } else { length_ns }
}

fn series(record: &Recorder) -> Vec<SeriesPoint> {
    let schedule = record.schedule();
    let mut before = 0;
    let point = |(n, second): (usize, &Second)| {
        let offered = schedule.offered_before((n as u64 + 1) * 1_000_000_000);
        let settled = f64::from(second.settled);
        let known = second.settled > 0;
        let point = SeriesPoint {
            second: n as u32,
            offered: offered - before,
            sent: second.sent,
            accepted: second.accepted,
            rejected: second.rejected,
            succeeded: second.executed.transfers,
            failed: second.failed,
            transactions: second.executed.transactions,
            settled: second.settled,
            settle_mean_ms: known.then(|| (second.settle_sum_us as f64 / settled).round() / 1_000.0),
            settle_max_ms: known.then_some(second.settle_max_us as f64 / 1_000.0),
            queue_depth: second.queue_depth,
        };
        before = offered;
        point
    };
    record.seconds().iter().enumerate().map(point).collect()
}

impl LatencyMs {
    fn of(latencies: &Latencies) -> Self {
        Self {
            settle: latencies.settle.summary(),
            execution: latencies.execution.summary(),
            accept: latencies.accept.summary(),
            send_lag: latencies.send_lag.summary(),
        }
    }
}

impl BatchSize {
    fn of(batches: &Batches) -> Option<Self> {
        (batches.transactions > 0)
            .then(|| Self { mean: batches.transfers as f64 / batches.transactions as f64, max: batches.largest })
    }
}
