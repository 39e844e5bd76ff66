//! What a run says of itself: the status of a `BenchmarkRun`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use nearbench_core::{
    ensure::Check,
    lifecycle::Lifecycle,
    report::Results,
    standing::{Figures, Standing},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BenchmarkRunStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the run stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// What it is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<RunVerdict>,
    /// Why phase or verdict are what they are: one word, for machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_024))]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub message: Option<String>,
    /// Admitted, Provisioned, KeysReady, NoncesSeeded, WorkersReady, LoadCompleted, Settled, Audited, ThresholdsMet
    /// and Complete (True at every end).
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When provisioning began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The worker processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersStatus>,
    /// How far the load has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What `kubectl get` shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The report's results, without the series by the second and the distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// Every threshold, and whether it held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub ensure: Vec<Check>,
    /// The ConfigMap with the resolved plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_ref: Option<ObjectRef>,
    /// The ConfigMap with the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_ref: Option<ObjectRef>,
    /// The Secret that the operator made for the run's processes: access keys, the password of its Redis, the tokens of its
    /// API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
    /// The public keys of the access keys in it: they are on the account from provisioning to cleanup.
    #[schemars(length(max = 1_000), inner(length(max = 128)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// What of the spec cannot change any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// How far the run's life has come, and what failed in it, where each stage is a process of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// What of a run's spec cannot change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Frozen {
    /// Account, token, receivers, store and profile: provisioning began.
    Identity,
    /// Load, engine, ensure and endpoints too: the load began.
    Everything,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// Not begun.
    Pending,
    /// Account, keys, token and receivers are being made ready.
    Provisioning,
    /// Under load.
    Running,
    /// The load is over; what is under way is being settled.
    Draining,
    /// The chain is being searched for every transfer.
    Auditing,
    /// Keys are being removed.
    CleaningUp,
    /// Over.
    Finished,
}

/// What a run is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunVerdict {
    /// The load was as scheduled, every threshold held, and the chain agrees.
    Passed,
    /// A threshold did not hold, or the chain disagrees.
    Failed,
    /// The load was not as scheduled: the numbers are no result.
    Inconclusive,
    /// The run could not be carried out.
    Error,
}

/// The worker processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkersStatus {
    /// How many there are.
    pub replicas: i32,
    /// How many are ready.
    pub ready: i32,
    /// How often one was started again.
    pub restarts: i64,
    /// The label selector that finds them, as text.
    #[schemars(length(max = 1_024))]
    pub selector: String,
}

/// How far the load has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// The load's phase.
    #[schemars(length(max = 63))]
    pub phase: String,
    /// How much of the load's time is over.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u32,
    /// Transfers meant to have arrived by now.
    pub offered: u64,
    /// Transfers that succeeded.
    pub succeeded: u64,
    /// The rest of it.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Progress {
    /// How far a load has come; `None` before it.
    pub fn of(standing: &Standing) -> Option<Self> {
        let Standing { phase, percent, offered, succeeded, figures, .. } = standing.clone();
        (!phase.is_empty()).then_some(Self { phase, percent, offered, succeeded, figures })
    }
}

/// What `kubectl get` shows, as texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Transfers that succeeded, a second.
    #[schemars(length(max = 64))]
    pub tps: String,
    /// The highest steady `arrivalRate`.
    #[schemars(length(max = 64))]
    pub target: String,
    /// Transfers that succeeded, in percent.
    #[schemars(length(max = 64))]
    pub success: String,
    /// 95th percentile of the settle latency.
    #[schemars(length(max = 64))]
    pub p95: String,
    /// 99th percentile of the settle latency.
    #[schemars(length(max = 64))]
    pub p99: String,
    /// Whether the chain agrees.
    #[schemars(length(max = 64))]
    pub audit: String,
    /// Transfers that succeeded.
    #[schemars(length(max = 64))]
    pub transfers: String,
}

/// An object in the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
