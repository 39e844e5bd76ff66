//! Two runs side by side: what differs in what was asked for and where, what differs in the numbers, and which of that is a
//! regression.
//!
//! A change counts when it is larger than a tolerance and when chance does not explain it. Chance is judged by the series:
//! what a run did in one second depends on the second before, so its seconds are no independent samples. The means of blocks
//! of ten seconds nearly are, and Welch's t-test compares those. Where a run is known by more than one second only, both are
//! taken by as many, and blocks are the least of those that are no shorter.

use crate::{
    ensure::Metric,
    plan::{Arrivals, Plan},
    report::{BenchmarkReport, SeriesPoint, folded},
    verdict::{Verdict, grounds},
};
use serde::Serialize;
use serde_json::Value;
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::BTreeMap;

/// How long a block is, in seconds, at least.
pub const BLOCK_SECONDS: u64 = 10;
/// Fewer blocks say nothing about how much blocks differ.
pub const LEAST_BLOCKS: usize = 4;
/// A difference that chance makes more rarely than this is significant.
pub const SIGNIFICANT: f64 = 0.05;

/// A run beside the one that it is measured by.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// What it comes to.
    pub outcome: Outcome,
    /// Why the numbers of either run are no result; then none is judged.
    pub no_result: Vec<String>,
    /// The chain disagrees with the new run's report, which no number makes up for.
    pub contradicted: bool,
    /// What differs in the plans. Names do not count: the run's, and those of the Secrets of its account.
    pub plan: Vec<Difference>,
    /// What differs in version, chain and machine.
    pub environment: Vec<Difference>,
    /// The numbers.
    pub changes: Vec<Change>,
    /// How long the blocks are whose means are compared, in seconds.
    pub block_seconds: u64,
    /// What chance makes of them.
    pub tests: Vec<SeriesTest>,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Nothing got worse by more than the tolerance, or only what chance explains.
    NoRegression,
    /// Something did.
    Regression,
    /// One of the runs is no result.
    NoResult,
}

/// A field with another value, by its path; `null`: it is not there, or is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its path, such as `load.phases[0].arrivals.rate`.
    pub field: String,
    /// The base's value.
    pub base: Value,
    /// The new run's.
    pub new: Value,
}

/// What became of a number; `None`: there is no data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its path in the results, or, of the queue's depth, in the longest steady phase.
    pub measure: &'static str,
    /// The base's.
    pub base: Option<f64>,
    /// The new run's.
    pub new: Option<f64>,
    /// By how much it changed, in percent of the base's; `None` also where that is 0.
    pub percent: Option<f64>,
    /// The series that tells whether it is chance; `None`: none does.
    pub series: Option<Series>,
    /// What that means.
    pub finding: Finding,
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    /// It is shown and not judged: no value of it is better than another, there is no series to tell chance by, there is no
    /// data, or one of the runs is no result.
    NotJudged,
    /// It is better, or worse by no more than the tolerance.
    Held,
    /// It is worse by more than the tolerance, and so may be chance.
    Chance,
    /// It is worse by more than the tolerance, and the series differ significantly.
    Regression,
    /// It is worse by more than the tolerance, and no test was possible: the tolerance alone decides.
    UntestedRegression,
}

impl Finding {
    /// Whether it counts.
    pub fn is_regression(self) -> bool {
        matches!(self, Self::Regression | Self::UntestedRegression)
    }
}

/// A series by the second, in the longest steady phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Series {
    /// Transfers that succeeded.
    Succeeded,
    /// The mean settle latency, in milliseconds.
    SettleMeanMs,
    /// The longest settle latency, in milliseconds.
    SettleMaxMs,
}

/// Welch's t-test on the blocks of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesTest {
    /// Which.
    pub series: Series,
    /// The base's blocks.
    pub base: Sample,
    /// The new run's.
    pub new: Sample,
    /// How often chance alone makes so large a difference of the means; `None`: one of the runs has too few blocks.
    pub p: Option<f64>,
}

/// Blocks of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The phase that they are of; `None`: no phase is steady.
    pub phase: Option<String>,
    /// How many.
    pub blocks: usize,
    /// Their mean.
    pub mean: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}

/// How a measure is judged.
enum Rule {
    /// Not at all.
    Shown,
    /// By the tolerance alone: it is a count of every transfer, not a sample.
    Counted(Better),
    /// By the tolerance, and by what chance makes of this series.
    Tested(Better, Series),
}

impl Rule {
    fn series(&self) -> Option<Series> {
        match self {
            Self::Shown | Self::Counted(_) => None,
            Self::Tested(_, series) => Some(*series),
        }
    }
}

const QUEUE_DEPTH: &str = "queueDepth.mean";

/// What is compared. A peak is one moment, the error rate is what the success rate leaves, and of the accept latency there is
/// no series.
const MEASURES: [(&str, Rule); 15] = [
    ("tps.mean", Rule::Tested(Better::Higher, Series::Succeeded)),
    ("tps.peak", Rule::Shown),
    ("successRate", Rule::Counted(Better::Higher)),
    ("errorRate", Rule::Shown),
    ("latencyMs.settle.p50", Rule::Tested(Better::Lower, Series::SettleMeanMs)),
    ("latencyMs.settle.p95", Rule::Tested(Better::Lower, Series::SettleMaxMs)),
    ("latencyMs.settle.p99", Rule::Tested(Better::Lower, Series::SettleMaxMs)),
    // What a transfer takes to its finality begins with its execution.
    ("latencyMs.execution.p50", Rule::Tested(Better::Lower, Series::SettleMeanMs)),
    ("latencyMs.execution.p95", Rule::Tested(Better::Lower, Series::SettleMaxMs)),
    ("latencyMs.execution.p99", Rule::Tested(Better::Lower, Series::SettleMaxMs)),
    ("latencyMs.accept.p50", Rule::Shown),
    ("latencyMs.accept.p95", Rule::Shown),
    ("latencyMs.accept.p99", Rule::Shown),
    (QUEUE_DEPTH, Rule::Shown),
    ("batchSize.mean", Rule::Shown),
];

/// Compares `new` with `base`. What got worse by more than `tolerance` percent may be a regression.
pub fn compare(base: &BenchmarkReport, new: &BenchmarkReport, tolerance: f64) -> Comparison {
    let no_result: Vec<String> =
        [("base", base), ("new", new)].iter().flat_map(|(which, run)| doubts(which, run)).collect();
    let no_result = [no_result, base_contradicted(base)].concat();
    let step = common_step(base, new);
    let tests = [Series::Succeeded, Series::SettleMeanMs, Series::SettleMaxMs].map(|series| {
        let (base, new) = (Blocks::of(base, step, value(series, step)), Blocks::of(new, step, value(series, step)));
        SeriesTest { series, p: welch(&base.means, &new.means), base: base.sample(), new: new.sample() }
    });
    let change = |(measure, rule): &(&'static str, Rule)| {
        let (base, new) = (measured(base, step, measure), measured(new, step, measure));
        let finding = match (base, new) {
            (Some(base), Some(new)) if no_result.is_empty() => judge(rule, base, new, tolerance, &tests),
            _ => Finding::NotJudged,
        };
        let percent = base.zip(new).and_then(|(base, new)| percent(base, new));
        Change { measure, base, new, percent, series: rule.series(), finding }
    };
    let changes: Vec<Change> = MEASURES.iter().map(change).collect();
    let contradicted = new.results.audit.is_some_and(|audit| !audit.matches);
    let outcome = if !no_result.is_empty() {
        Outcome::NoResult
    } else if contradicted || changes.iter().any(|change| change.finding.is_regression()) {
        Outcome::Regression
    } else {
        Outcome::NoRegression
    };
    Comparison {
        outcome,
        no_result,
        contradicted,
        plan: plans(&base.plan, &new.plan),
        environment: environments(base, new),
        changes,
        block_seconds: block_seconds(step),
        tests: tests.into(),
    }
}

fn doubts(which: &str, run: &BenchmarkReport) -> Vec<String> {
    if run.verdict != Verdict::Inconclusive {
        return Vec::new();
    }
    let grounds = grounds(run);
    let why = [grounds.load, grounds.audit].concat().join("; ");
    vec![format!("{which} is inconclusive: {why}")]
}

/// What the chain contradicts is nothing to measure by.
fn base_contradicted(base: &BenchmarkReport) -> Vec<String> {
    let contradicted = base.results.audit.is_some_and(|audit| !audit.matches);
    contradicted.then(|| "base is no result: the chain disagrees with its report".to_owned()).into_iter().collect()
}

/// The fewest seconds that both runs are known by: the most of several seconds is more than that of one.
fn common_step(base: &BenchmarkReport, new: &BenchmarkReport) -> u32 {
    let [one, other] = [base, new].map(|run| run.results.series_step_seconds.max(1));
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (one / divisor).saturating_mul(other)
}

/// Whole points make a block.
fn block_seconds(step: u32) -> u64 {
    let step = u64::from(step);
    BLOCK_SECONDS.div_ceil(step) * step
}

fn measured(run: &BenchmarkReport, step: u32, measure: &str) -> Option<f64> {
    if measure == QUEUE_DEPTH {
        return Blocks::of(run, step, |point| Some(point.queue_depth as f64)).sample().mean;
    }
    measure.parse::<Metric>().ok()?.value(&run.results, None).filter(|value| value.is_finite())
}

/// By how much `new` is more than `base`, in percent.
fn percent(base: f64, new: f64) -> Option<f64> {
    if base == new {
        return Some(0.0);
    }
    Some((new - base) * 100.0 / base).filter(|percent| percent.is_finite())
}

fn judge(rule: &Rule, base: f64, new: f64, tolerance: f64, tests: &[SeriesTest]) -> Finding {
    let (Rule::Counted(better) | Rule::Tested(better, _)) = *rule else { return Finding::NotJudged };
    let worse = |base: f64, new: f64| if better == Better::Higher { new < base } else { new > base };
    // From nothing to something is beyond any tolerance.
    let beyond = percent(base, new).is_none_or(|percent| percent.abs() > tolerance);
    if !worse(base, new) || !beyond {
        return Finding::Held;
    }
    let test = rule.series().and_then(|series| tests.iter().find(|test| test.series == series));
    let Some((test, p)) = test.and_then(|test| Some((test, test.p?))) else { return Finding::UntestedRegression };
    match test.base.mean.zip(test.new.mean) {
        Some((base, new)) if p < SIGNIFICANT && worse(base, new) => Finding::Regression,
        _ => Finding::Chance,
    }
}

/// A point's value, of one second where it was counted in `step` of them.
fn value(series: Series, step: u32) -> impl Fn(&SeriesPoint) -> Option<f64> {
    move |point| match series {
        Series::Succeeded => Some(f64::from(point.succeeded) / f64::from(step)),
        Series::SettleMeanMs => point.settle_mean_ms,
        Series::SettleMaxMs => point.settle_max_ms,
    }
}

/// The means of the blocks of a run's longest steady phase, without the first and the last: there the run comes from
/// another rate, and goes to one.
struct Blocks {
    phase: Option<String>,
    means: Vec<f64>,
}

impl Blocks {
    /// Of a series by `step` seconds, of which every block holds whole points.
    fn of(run: &BenchmarkReport, step: u32, value: impl Fn(&SeriesPoint) -> Option<f64>) -> Self {
        let Some((phase, start_ms, end_ms)) = steady(run) else { return Self { phase: None, means: Vec::new() } };
        let step_s = u64::from(step);
        let (first, end) = (start_ms.div_ceil(1_000 * step_s) * step_s, end_ms / 1_000);
        let block_s = block_seconds(step);
        let last = end.saturating_sub(first).div_ceil(block_s).saturating_sub(1);
        let mut blocks: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for point in &folded(&run.results.series, step) {
            let Some(since) = u64::from(point.second).checked_sub(first) else { continue };
            let block = since / block_s;
            if let (true, Some(value)) = (block > 0 && block < last, value(point)) {
                let (sum, count) = blocks.entry(block).or_default();
                (*sum, *count) = (*sum + value, *count + 1.0);
            }
        }
        Self { phase: Some(phase), means: blocks.into_values().map(|(sum, count)| sum / count).collect() }
    }

    fn sample(&self) -> Sample {
        let count = self.means.len();
        let mean = (count > 0).then(|| mean(&self.means));
        Sample { phase: self.phase.clone(), blocks: count, mean }
    }
}

/// The longest phase of one rate, the first of equals: its name, start and end in milliseconds since the load's start.
fn steady(run: &BenchmarkReport) -> Option<(String, u64, u64)> {
    let is_steady = |name: &str| {
        let phase = run.plan.load.phases.iter().find(|phase| phase.name == name);
        phase.is_some_and(|phase| match phase.arrivals {
            Arrivals::Rate(rate) => rate > 0.0,
            Arrivals::Ramp { from, to } => from == to && from > 0.0,
            Arrivals::Count(count) => count > 0,
            Arrivals::Pause => false,
        })
    };
    let phases = run.results.phases.iter().rev().filter(|phase| is_steady(&phase.name));
    let longest = phases.max_by_key(|phase| phase.duration_ms)?;
    Some((longest.name.clone(), longest.start_ms, longest.start_ms.saturating_add(longest.duration_ms)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Welch's t-test, of two sides: the means of two samples whose variances need not be equal.
fn welch(one: &[f64], other: &[f64]) -> Option<f64> {
    if one.len() < LEAST_BLOCKS || other.len() < LEAST_BLOCKS {
        return None;
    }
    // The variance of a sample's mean.
    let spread = |values: &[f64], mean: f64| {
        let count = values.len() as f64;
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count
    };
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (spread_one, spread_other) = (spread(one, mean_one), spread(other, mean_other));
    let spread = spread_one + spread_other;
    if mean_one == mean_other {
        return Some(1.0);
    }
    if spread == 0.0 {
        return Some(0.0);
    }
    let degree = |spread: f64, values: &[f64]| spread.powi(2) / (values.len() - 1) as f64;
    let freedom = spread.powi(2) / (degree(spread_one, one) + degree(spread_other, other));
    let t = (mean_one - mean_other).abs() / spread.sqrt();
    let p = 2.0 * StudentsT::new(0.0, 1.0, freedom).ok()?.cdf(-t);
    p.is_finite().then(|| p.clamp(0.0, 1.0))
}

/// Fields of a plan that are names and no demands.
const NAMES: [&str; 3] = ["name", "account.createFrom.secret", "account.masterKeySecret"];

fn plans(base: &Plan, new: &Plan) -> Vec<Difference> {
    let mut found = differences(base, new);
    found.retain(|difference| !NAMES.contains(&&*difference.field));
    found
}

fn environments(base: &BenchmarkReport, new: &BenchmarkReport) -> Vec<Difference> {
    let mut found = differences(&base.environment, &new.environment);
    // What else the environment holds was measured during the run.
    let described = |field: &str| {
        field == "nearbenchVersion"
            || field.starts_with("machine.")
            || (field.starts_with("chain.") && field != "chain.blockTimeMs")
    };
    found.retain(|difference| described(&difference.field));
    found
}

fn differences(base: &impl Serialize, new: &impl Serialize) -> Vec<Difference> {
    let mut found = Vec::new();
    if let (Ok(base), Ok(new)) = (serde_json::to_value(base), serde_json::to_value(new)) {
        walk(String::new(), &base, &new, &mut found);
    }
    found
}

fn walk(field: String, base: &Value, new: &Value, found: &mut Vec<Difference>) {
    match (base, new) {
        _ if base == new => {}
        (Value::Object(left), Value::Object(right)) => {
            let added = right.keys().filter(|key| !left.contains_key(*key));
            for key in left.keys().chain(added) {
                let field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                walk(field, &base[key], &new[key], found);
            }
        }
        // A list of names is one value.
        (Value::Array(left), Value::Array(right)) if left.iter().chain(right).all(Value::is_object) => {
            for index in 0..left.len().max(right.len()) {
                let at = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                walk(format!("{field}[{index}]"), &at(left), &at(right), found);
            }
        }
        _ => found.push(Difference { field, base: base.clone(), new: new.clone() }),
    }
}
