//! What is offered, and what must come of it.

use super::{DECIMAL_PATTERN, DURATION_PATTERN, PHASE_NAME_PATTERN, SECONDS_PATTERN};
use crate::pods::Pods;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nearbench_core::{amount::AMOUNT_PATTERN, ensure::Metric, plan::Via};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is offered, when, and how it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// How transfers reach the workers: `queue` (straight into the queue), `http` (through the API, as a client
    /// would) or `external` (someone else sends).
    #[serde(default = "queue")]
    pub via: Via,
    /// The processes that generate the load. They share the schedule: `arrivalRate` is that of all together.
    #[serde(default)]
    pub generators: Pods,
    /// What each transfer moves, in the token's smallest units, as decimal digits in quotes.
    #[serde(default = "one")]
    #[schemars(length(min = 1, max = 39), regex(pattern = AMOUNT_PATTERN))]
    pub amount: String,
    /// A transfer that takes longer counts as timed out (ETIMEDOUT); it is still followed to its end.
    #[serde(default = "a_minute")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub timeout: String,
    /// Connections that each generator keeps open (Artillery's `pool`).
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10_000))]
    pub connections: u32,
    /// Sockets that all of them may open at most.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_sockets: u32,
    /// When the 99th percentile of the time from intended to actual sending is above this, the generator fell
    /// behind, and the run is inconclusive.
    #[serde(default = "a_second")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION_PATTERN))]
    pub max_send_lag: String,
    /// The phases, one after another, with Artillery's names.
    #[schemars(length(min = 1, max = 50))]
    pub phases: Vec<Phase>,
}

fn queue() -> Via {
    Via::Queue
}

fn one() -> String {
    "1".to_owned()
}

fn a_minute() -> String {
    "60s".to_owned()
}

fn a_second() -> String {
    "1s".to_owned()
}

fn hundred() -> u32 {
    100
}

fn two_hundred() -> u32 {
    200
}

/// One phase, of one kind: `duration` with `arrivalRate` (and perhaps `rampTo`), `duration` with `arrivalCount`,
/// or `pause`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Phase {
    /// Its name, unique in the run; `phase-0`, `phase-1` and so on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = PHASE_NAME_PATTERN))]
    pub name: Option<String>,
    /// How long: seconds, or a text such as "5m".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = SECONDS_PATTERN))]
    pub duration: Option<IntOrString>,
    /// Transfers a second, of the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub arrival_rate: Option<f64>,
    /// Transfers a second at the end: the rate goes there from `arrivalRate` in steps of a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ramp_to: Option<f64>,
    /// Transfers in all, evenly spread over `duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub arrival_count: Option<u64>,
    /// Send nothing for so long: seconds, or a text such as "30s".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = SECONDS_PATTERN))]
    pub pause: Option<IntOrString>,
    /// At most so many transfers under way in this phase. What arrives beyond is not sent, and counted as not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_vusers: Option<u32>,
}

/// What must hold for the run to pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ensure {
    /// All of these. A metric without data fails.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub thresholds: Vec<Threshold>,
    /// Transfers that did not succeed, in percent of those offered, at most, as a decimal in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = DECIMAL_PATTERN))]
    pub max_error_rate: Option<String>,
}

/// A bound on a metric: `min`, `max` or both, as decimals in quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Threshold {
    /// The metric, by its path in the report's results.
    pub metric: Metric,
    /// In this phase. Absent: in the whole run, where `tps.mean` is that of the longest phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = PHASE_NAME_PATTERN))]
    pub phase: Option<String>,
    /// At least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = DECIMAL_PATTERN))]
    pub min: Option<String>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = DECIMAL_PATTERN))]
    pub max: Option<String>,
}
