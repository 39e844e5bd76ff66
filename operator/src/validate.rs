//! From the manifest to a plan: without workers, to one that one pod can carry out.

use nearbench_core::Plan;
use nearbench_crds::{BenchmarkRun, Resolve, Violation, one_process};

/// The plan of `run`; `accounts` is the list in the ConfigMap that `spec.receivers.accountsFrom` names, if it is there.
///
/// # Errors
/// Every rule that does not hold; where all do and the run has no workers, what one process cannot do.
pub(crate) fn plan(run: &BenchmarkRun, accounts: Option<&str>) -> Result<Plan, Vec<Violation>> {
    let config_map = |_: &str| accounts.map(str::to_owned);
    let plan = nearbench_crds::plan(run, &Resolve { on_devnet: false, config_map: &config_map })?;
    let beyond = if plan.workers == 0 { one_process(&plan) } else { Vec::new() };
    if beyond.is_empty() { Ok(plan) } else { Err(beyond) }
}

/// The ConfigMap that the plan of `run` depends on.
pub(crate) fn accounts_from(run: &BenchmarkRun) -> Option<&str> {
    run.spec.receivers.accounts_from.as_ref().map(|from| from.config_map_ref.name.as_str())
}
