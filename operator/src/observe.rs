//! What is there: a run, what the operator made for it, and what its pod says. I/O and nothing else.

use crate::{
    decide::Observed,
    document, follow,
    names::{self, RUN_LABEL},
    validate,
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use nearbench_crds::BenchmarkRun;
use std::sync::Arc;

/// Looks at everything that a decision about `run` depends on.
///
/// # Errors
/// When the API server cannot be asked. A pod that does not answer is no error: it is not ready.
pub(crate) async fn observe(client: &Client, run: Arc<BenchmarkRun>) -> Result<Observed, kube::Error> {
    let namespace = run.namespace().unwrap_or_default();
    let name = run.name_any();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let status = run.status.clone().unwrap_or_default();

    if status.plan_ref.is_none() {
        let list = match validate::accounts_from(&run) {
            Some(list) => config_maps.get_opt(list).await?,
            None => None,
        };
        let accounts = list.and_then(|list| list.data?.remove(nearbench_crds::ACCOUNTS_KEY));
        let plan = validate::plan(&run, accounts.as_deref());
        return Ok(Observed::waiting(run, plan));
    }
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={name}"));
    let (plan_name, report_name) = (names::plan(&name), names::report(&name));
    let (job, pods, plan, report) = futures_util::try_join!(
        jobs.get_opt(&name),
        pods.list(&of_run),
        config_maps.get_opt(&plan_name),
        config_maps.get_opt(&report_name),
    )?;
    let pods = pods.items;
    Ok(Observed {
        plan: plan.and_then(|config_map| document::required(&config_map, document::PLAN).ok()).ok_or_else(Vec::new),
        report: report.map_or(Ok(None), |config_map| document::report(&config_map)),
        standing: follow::standing(&pods).await,
        run,
        job,
        pods,
    })
}
