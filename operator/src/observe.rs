//! What is there: a run, what the operator made for it, and what its pod says. I/O and nothing else.
//!
//! Only what belongs to this very run counts: objects of its name that are another's, or an earlier run's, are told apart.

use crate::{
    decide::{Fleet, Observed, Turn},
    document, follow,
    names::{self, PART_LABEL, Part, RUN_LABEL, UID_LABEL},
    validate,
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};
use nearbench_core::Plan;
use nearbench_crds::{BenchmarkRun, Frozen, RunPhase, Violation};
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

    let status = run.status.as_ref();
    let begun = status.is_some_and(|status| status.plan_ref.is_some());
    let is_open = status.is_some_and(|status| status.frozen == Some(Frozen::Identity));
    let resolved = if begun && !is_open { None } else { Some(resolve(&config_maps, &run).await?) };
    let (plan, wanted) = if begun {
        let stored = stored.and_then(|stored| document::required(&stored, document::PLAN).ok());
        (stored.ok_or_else(Vec::new), resolved)
    } else {
        (resolved.unwrap_or_else(|| Err(Vec::new())), None)
    };
    let fleet = match status.is_some_and(|status| status.lifecycle.is_some()) {
        true => fleet(client, &run, &namespace).await?,
        false => Fleet::default(),
    };
    let finished = status.is_some_and(|status| status.phase == Some(RunPhase::Finished));
    let standing = if finished { None } else { follow::standing(&pods).await };
    Ok(Observed {
        plan,
        wanted,
        report_has_place: report.is_some(),
        report: report.map_or(Ok(None), |place| document::report(&place)),
        standing,
        fleet,
        run,
        job,
        pods,
        taken,
        turn: Turn::Now,
        made: None,
        refused: None,
    })
}

async fn resolve(
    config_maps: &Api<ConfigMap>,
    run: &BenchmarkRun,
) -> Result<Result<Plan, Vec<Violation>>, kube::Error> {
    let list = match validate::accounts_from(run) {
        Some(list) => config_maps.get_opt(list).await?,
        None => None,
    };
    let accounts = list.and_then(|list| list.data?.remove(nearbench_crds::ACCOUNTS_KEY));
    Ok(validate::plan(run, accounts.as_deref()))
}

/// What is there of a run with workers.
async fn fleet(client: &Client, run: &BenchmarkRun, namespace: &str) -> Result<Fleet, kube::Error> {
    let of_run = ListParams::default().labels(&format!("{RUN_LABEL}={}", run.name_any()));
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let (jobs, deployments, sets) =
        futures_util::try_join!(jobs.list(&of_run), deployments.list(&of_run), sets.list(&of_run))?;
    // What is being removed is there until it is gone, and to be made anew then.
    let steps = jobs.items.into_iter().filter(|job| is_own(run, job));
    let part = |job: &Job| Part::of(job.labels().get(PART_LABEL)?);
    Ok(Fleet {
        steps: steps.filter_map(|job| Some((part(&job)?, job))).collect(),
        workers: deployments.items.into_iter().find(|workers| is_own(run, workers)),
        stateful: sets.items.into_iter().filter(|set| is_own(run, set)).collect(),
    })
}

/// The object, if it is the run's; else its name is `taken`.
fn own<K: Resource<DynamicType = ()>>(run: &BenchmarkRun, object: Option<K>, taken: &mut Vec<String>) -> Option<K> {
    let object = object?;
    if is_own(run, &object) {
        return Some(object);
    }
    taken.push(format!("{} {}", K::kind(&()), object.name_any()));
    None
}

/// Whether an object is this very run's.
pub(crate) fn is_own(run: &BenchmarkRun, object: &impl ResourceExt) -> bool {
    let owners = object.owner_references();
    run.uid().is_some_and(|uid| owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == uid))
}
