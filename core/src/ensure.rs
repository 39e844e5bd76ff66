//! Thresholds: what must hold for a run to pass. A metric without data fails.

use crate::{
    amount::as_text,
    measure::TIMEOUT,
    plan::Ensure,
    report::{Measures, Results},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, fmt, str::FromStr};

/// A number of the results, named by its path there, such as `tps.mean` or `latencyMs.settle.p95`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `tps.mean`: transfers that succeeded, a second.
    TpsMean,
    /// `tps.peak`: the same over the best ten seconds.
    TpsPeak,
    /// `transactionsPerSecond.mean`: transactions executed, a second.
    TransactionsMean,
    /// `transactionsPerSecond.peak`: the same over the best ten seconds.
    TransactionsPeak,
    /// `transfers`: transfers that succeeded.
    Transfers,
    /// `successRate`: transfers that succeeded, in percent of those offered.
    SuccessRate,
    /// `errorRate`: transfers that did not succeed, in percent of those offered.
    ErrorRate,
    /// `latencyMs.<kind>.<statistic>`.
    Latency(LatencyKind, Statistic),
    /// `batchSize.mean`: transfers in a transaction.
    BatchSizeMean,
    /// `errors.timeout`: transfers and requests that timed out (ETIMEDOUT).
    Timeouts,
    /// `errors.total`: all errors, whether or not they were put right.
    Errors,
    /// `nonceConflictRate`: transactions refused for their nonce, in percent of those executed.
    NonceConflictRate,
    /// `restarts`: processes that had to be started again.
    Restarts,
}

/// Which latency, all from the intended arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatencyKind {
    /// To finality.
    Settle,
    /// To execution.
    Execution,
    /// To acceptance.
    Accept,
    /// To the actual sending.
    SendLag,
}

/// Which statistic of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
    /// Highest.
    Max,
}

const KINDS: [(LatencyKind, &str); 4] = [
    (LatencyKind::Settle, "settle"),
    (LatencyKind::Execution, "execution"),
    (LatencyKind::Accept, "accept"),
    (LatencyKind::SendLag, "sendLag"),
];

const STATISTICS: [(Statistic, &str); 7] = [
    (Statistic::Mean, "mean"),
    (Statistic::P50, "p50"),
    (Statistic::P90, "p90"),
    (Statistic::P95, "p95"),
    (Statistic::P99, "p99"),
    (Statistic::P999, "p999"),
    (Statistic::Max, "max"),
];

const PLAIN: [(Metric, &str); 12] = [
    (Metric::TpsMean, "tps.mean"),
    (Metric::TpsPeak, "tps.peak"),
    (Metric::TransactionsMean, "transactionsPerSecond.mean"),
    (Metric::TransactionsPeak, "transactionsPerSecond.peak"),
    (Metric::Transfers, "transfers"),
    (Metric::SuccessRate, "successRate"),
    (Metric::ErrorRate, "errorRate"),
    (Metric::BatchSizeMean, "batchSize.mean"),
    (Metric::Timeouts, "errors.timeout"),
    (Metric::Errors, "errors.total"),
    (Metric::NonceConflictRate, "nonceConflictRate"),
    (Metric::Restarts, "restarts"),
];

/// A text that names no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a metric: use one such as tps.mean, successRate or latencyMs.settle.p95")]
pub struct MetricError(String);

impl Metric {
    /// Every metric.
    pub fn all() -> impl Iterator<Item = Self> {
        let latencies =
            KINDS.iter().flat_map(|(kind, _)| STATISTICS.iter().map(|(statistic, _)| Self::Latency(*kind, *statistic)));
        PLAIN.iter().map(|(metric, _)| *metric).chain(latencies)
    }

    /// Whether it is measured for each phase, and not for the run alone.
    pub fn is_by_phase(self) -> bool {
        !matches!(self, Self::Timeouts | Self::Errors | Self::NonceConflictRate | Self::Restarts)
    }

    /// Its value in a phase, or in the run; `None` without data.
    pub(crate) fn value(self, results: &Results, phase: Option<&str>) -> Option<f64> {
        let measures = match phase {
            Some(_) if !self.is_by_phase() => return None,
            Some(name) => &results.phases.iter().find(|phase| phase.name == name)?.measures,
            None => &results.measures,
        };
        // A phase in which nothing was sent says nothing about anything.
        if measures.counts.sent == 0 {
            return None;
        }
        match self {
            Self::TpsMean => Some(measures.tps.mean),
            Self::TpsPeak => Some(measures.tps.peak),
            Self::TransactionsMean => Some(measures.transactions_per_second.mean),
            Self::TransactionsPeak => Some(measures.transactions_per_second.peak),
            Self::Transfers => Some(measures.counts.succeeded as f64),
            Self::SuccessRate => measures.success_rate,
            Self::ErrorRate => measures.success_rate.map(|rate| 100.0 - rate),
            Self::Latency(kind, statistic) => latency(measures, kind, statistic),
            Self::BatchSizeMean => measures.batch_size.map(|size| size.mean),
            Self::Timeouts => Some(results.errors.get(TIMEOUT).copied().unwrap_or(0) as f64),
            Self::Errors => Some(results.errors.values().sum::<u64>() as f64),
            Self::NonceConflictRate => results.nonce_conflict_rate,
            Self::Restarts => Some(results.restarts as f64),
        }
    }
}

fn latency(measures: &Measures, kind: LatencyKind, statistic: Statistic) -> Option<f64> {
    let latency = match kind {
        LatencyKind::Settle => measures.latency_ms.settle,
        LatencyKind::Execution => measures.latency_ms.execution,
        LatencyKind::Accept => measures.latency_ms.accept,
        LatencyKind::SendLag => measures.latency_ms.send_lag,
    }?;
    Some(match statistic {
        Statistic::Mean => latency.mean,
        Statistic::P50 => latency.p50,
        Statistic::P90 => latency.p90,
        Statistic::P95 => latency.p95,
        Statistic::P99 => latency.p99,
        Statistic::P999 => latency.p999,
        Statistic::Max => latency.max,
    })
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Latency(kind, statistic) = self {
            let kind = KINDS.iter().find(|(k, _)| k == kind).map_or("", |(_, name)| name);
            let statistic = STATISTICS.iter().find(|(s, _)| s == statistic).map_or("", |(_, name)| name);
            return write!(f, "latencyMs.{kind}.{statistic}");
        }
        f.write_str(PLAIN.iter().find(|(metric, _)| metric == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Metric {
    type Err = MetricError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all().find(|metric| metric.to_string() == text).ok_or_else(|| MetricError(text.to_owned()))
    }
}

as_text!(Metric);

impl JsonSchema for Metric {
    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = Self::all().map(|metric| metric.to_string()).collect();
        json_schema!({"type": "string", "enum": names})
    }
}

/// One bound on one metric, and whether it held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// The metric.
    pub metric: Metric,
    /// In this phase; `null`: in the whole run.
    pub phase: Option<String>,
    /// The bound, such as `>= 200`.
    pub bound: String,
    /// What was measured; `null`: nothing, which fails.
    pub actual: Option<f64>,
    /// Whether it held.
    pub ok: bool,
}

/// Checks every bound against the results, in the order in which they were asked for.
pub fn evaluate(ensure: &Ensure, results: &Results) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |metric: Metric, phase: Option<&String>, min: Option<f64>, max: Option<f64>| {
        let actual = metric.value(results, phase.map(String::as_str)).filter(|value| !value.is_nan());
        let mut push = |bound, ok| {
            let phase = phase.cloned();
            checks.push(Check { metric, phase, bound, actual, ok });
        };
        if let Some(min) = min {
            push(format!(">= {min}"), actual.is_some_and(|actual| actual >= min));
        }
        if let Some(max) = max {
            push(format!("<= {max}"), actual.is_some_and(|actual| actual <= max));
        }
    };
    for threshold in &ensure.thresholds {
        check(threshold.metric, threshold.phase.as_ref(), threshold.min, threshold.max);
    }
    if ensure.max_error_rate.is_some() {
        check(Metric::ErrorRate, None, None, ensure.max_error_rate);
    }
    checks
}
