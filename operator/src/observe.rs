//! What is there: a run, what the operator made for it, and what its pod says. I/O and nothing else.
//!
//! Only what belongs to this very run counts: objects of its name that are another's, or an earlier run's, are told apart.

use crate::{
    decide::Observed,
    document, follow,
    names::{self, RUN_LABEL, UID_LABEL},
    validate,
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};
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

    let mut taken = Vec::new();
    let job = own(&run, job, &mut taken);
    let stored = own(&run, plan, &mut taken);
    let report = own(&run, report, &mut taken);
    let uid = run.uid();
    let (pods, others): (Vec<Pod>, Vec<Pod>) =
        pods.items.into_iter().partition(|pod| pod.labels().get(UID_LABEL) == uid.as_ref());
    taken.extend(others.iter().map(|pod| format!("Pod {}", pod.name_any())));

    let begun = run.status.as_ref().is_some_and(|status| status.plan_ref.is_some());
    let plan = if begun {
        stored.and_then(|stored| document::required(&stored, document::PLAN).ok()).ok_or_else(Vec::new)
    } else {
        let list = match validate::accounts_from(&run) {
            Some(list) => config_maps.get_opt(list).await?,
            None => None,
        };
        let accounts = list.and_then(|list| list.data?.remove(nearbench_crds::ACCOUNTS_KEY));
        validate::plan(&run, accounts.as_deref())
    };
    Ok(Observed {
        plan,
        report_has_place: report.is_some(),
        report: report.map_or(Ok(None), |place| document::report(&place)),
        standing: follow::standing(&pods).await,
        run,
        job,
        pods,
        taken,
    })
}

/// The object, if it is the run's; else its name is `taken`.
fn own<K: Resource<DynamicType = ()>>(run: &BenchmarkRun, object: Option<K>, taken: &mut Vec<String>) -> Option<K> {
    let object = object?;
    let owners = object.owner_references();
    if run.uid().is_some_and(|uid| owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == uid)) {
        return Some(object);
    }
    taken.push(format!("{} {}", K::kind(&()), object.name_any()));
    None
}
