//! Names that others see: labels, conditions, reasons, children.

/// The owner of every field that the operator applies, and the source of its Events.
pub(crate) const MANAGER: &str = "nearbench-operator";
/// The label that leads from an object to its run.
pub(crate) const RUN_LABEL: &str = "nearbench.dev/run";
/// The label that tells the pods of a run from those of an earlier one of the same name.
pub(crate) const UID_LABEL: &str = "nearbench.dev/run-uid";
/// The port on which a run's pod says how it stands.
pub(crate) const STANDING_PORT: u16 = 8080;
/// Where.
pub(crate) const STANDING_PATH: &str = "/standing";

/// The ConfigMap with the plan of `run`.
pub(crate) fn plan(run: &str) -> String {
    format!("{run}-plan")
}

/// The ConfigMap with the report of `run`.
pub(crate) fn report(run: &str) -> String {
    format!("{run}-report")
}

/// ServiceAccount, Role and RoleBinding of the pod of `run`.
pub(crate) fn identity(run: &str) -> String {
    format!("{run}-run")
}

/// Types of conditions.
pub mod conditions {
    /// The manifest is in order.
    pub const ADMITTED: &str = "Admitted";
    /// Account, token and receivers are ready.
    pub const PROVISIONED: &str = "Provisioned";
    /// The access keys are on the account.
    pub const KEYS_READY: &str = "KeysReady";
    /// Every lane has its first nonce.
    pub const NONCES_SEEDED: &str = "NoncesSeeded";
    /// The processes that carry the run out are up.
    pub const WORKERS_READY: &str = "WorkersReady";
    /// The whole schedule was offered.
    pub const LOAD_COMPLETED: &str = "LoadCompleted";
    /// Every accepted transfer has a proven end.
    pub const SETTLED: &str = "Settled";
    /// The chain agrees.
    pub const AUDITED: &str = "Audited";
    /// Every threshold held.
    pub const THRESHOLDS_MET: &str = "ThresholdsMet";
    /// The run is over, whatever came of it.
    pub const COMPLETE: &str = "Complete";
}

/// Reasons, in conditions, in the status and in Events.
pub mod reasons {
    /// The manifest breaks a rule that a schema cannot express.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The manifest is in order.
    pub const VALID: &str = "Valid";
    /// Something that is not the run's has a name that it needs.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// The plan does not fit into an object.
    pub const PLAN_TOO_LARGE: &str = "PlanTooLarge";
    /// The API server refuses an object of the run.
    pub const REFUSED: &str = "Refused";
    /// The API server cannot be reached, or says no for now.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// The Job makes no pod.
    pub const NO_POD: &str = "NoPod";
    /// The pod was ready, and is not any more.
    pub const NOT_READY: &str = "NotReady";
    /// The run takes longer than its plan can take.
    pub const OVERDUE: &str = "Overdue";
    /// Held by `spec.suspend`.
    pub const SUSPENDED: &str = "Suspended";
    /// The pod is asked for.
    pub const STARTING: &str = "Starting";
    /// The pod is ready.
    pub const READY: &str = "Ready";
    /// The pod came to its end.
    pub const ENDED: &str = "Ended";
    /// The pod's stage.
    pub const DONE: &str = "Done";
    /// That stage was not reached.
    pub const NOT_REACHED: &str = "NotReached";
    /// Ended by `spec.stop`.
    pub const STOPPED: &str = "Stopped";
    /// The run's Job is gone, and a second one could pay twice.
    pub const JOB_GONE: &str = "JobGone";
    /// The plan's ConfigMap is gone or not readable.
    pub const PLAN_GONE: &str = "PlanGone";
    /// The pod ended without a report.
    pub const NO_REPORT: &str = "NoReport";
    /// The report cannot be read.
    pub const REPORT_UNREADABLE: &str = "ReportUnreadable";
    /// More memory than the pod may have.
    pub const OOM_KILLED: &str = "OOMKilled";
    /// The report passed.
    pub const PASSED: &str = "Passed";
    /// The report failed.
    pub const FAILED: &str = "Failed";
    /// The report says nothing.
    pub const INCONCLUSIVE: &str = "Inconclusive";
}
