//! Names that others see: labels, conditions, reasons, children.

use sha2::{Digest, Sha256};

/// The owner of every field that the operator applies, and the source of its Events.
pub(crate) const MANAGER: &str = "nearbench-operator";
/// The label that leads from an object to its run.
pub(crate) const RUN_LABEL: &str = "nearbench.dev/run";
/// The label that tells the parts of a run apart.
pub(crate) const PART_LABEL: &str = "app.kubernetes.io/component";
/// What keeps a run that is deleted under way until its keys are off the account.
pub const FINALIZER: &str = "nearbench.dev/cleanup";
/// The annotation that tells for which plan a step was made.
pub(crate) const PLAN_ANNOTATION: &str = "nearbench.dev/plan";
/// The port of the workers' API.
pub(crate) const API_PORT: u16 = 3001;
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

/// What the processes of a run are for: the component that their labels name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// All of a run in one pod.
    Run,
    /// The run's own chain.
    Devnet,
    /// The run's own Redis.
    Redis,
    /// The workers.
    Worker,
    /// Makes the chain ready.
    Provision,
    /// The generators.
    Load,
    /// Works off what was accepted, audits and reports.
    Audit,
    /// Takes the keys off the account.
    CleanUp,
}

impl Part {
    /// Those that run to their end, a Job each, in the order of a run's life.
    pub(crate) const STEPS: [Self; 4] = [Self::Provision, Self::Load, Self::Audit, Self::CleanUp];

    /// As labels and names have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Devnet => "devnet",
            Self::Redis => "redis",
            Self::Worker => "worker",
            Self::Provision => "provision",
            Self::Load => "load",
            Self::Audit => "audit",
            Self::CleanUp => "cleanup",
        }
    }

    /// The part that a label names.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let all = [Self::Run, Self::Devnet, Self::Redis, Self::Worker].into_iter().chain(Self::STEPS);
        all.into_iter().find(|part| part.name() == name)
    }
}

/// The name of what `run` has once for each part. Names of Services have at most 63 characters and no dot, and begin with
/// a letter.
pub(crate) fn child(run: &str, part: Part) -> String {
    const LONGEST: usize = 40;
    let begins_well = run.starts_with(|c: char| c.is_ascii_lowercase());
    if run.len() <= LONGEST && !run.contains('.') && begins_well {
        return format!("{run}-{}", part.name());
    }
    let hash = hex::encode(&Sha256::digest(run)[..4]);
    let head: String = run.chars().take(LONGEST - 9).map(|c| if c == '.' { '-' } else { c }).collect();
    let prefix = if begins_well { "" } else { "run-" };
    format!("{prefix}{}-{hash}-{}", head.trim_end_matches('-'), part.name())
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
    /// As many runs as may be are under way.
    pub const QUEUED: &str = "Queued";
    /// Another run has the account.
    pub const ACCOUNT_BUSY: &str = "AccountBusy";
    /// Workers are waited for.
    pub const WORKERS_NOT_READY: &str = "WorkersNotReady";
    /// A stage is under way.
    pub const UNDER_WAY: &str = "UnderWay";
    /// A stage cannot go on just now.
    pub const TROUBLE: &str = "Trouble";
    /// A stage was not done in time.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// The run was removed under way, and its keys may be on chain.
    pub const KEYS_LEFT: &str = "KeysLeft";
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
