//! Carries decisions out: server-side apply, one field manager. Every act may be repeated.

use crate::{
    build::{self, Children, Image},
    decide::Act,
    document::DocumentError,
    names::MANAGER,
};
use k8s_openapi::{NamespaceResourceScope, api::batch::v1::Job};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use nearbench_crds::{BenchmarkRun, BenchmarkRunStatus};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::fmt::Debug;

/// Why something could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The API server said no.
    #[error("{what}: {}", said(source))]
    Api {
        /// What was to be done.
        what: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The plan does not fit into an object.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What an API server said, in its own words.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn api_error(what: &str) -> impl FnOnce(kube::Error) -> ApplyError {
    move |source| ApplyError::Api { what: what.to_owned(), source: Box::new(source) }
}

/// Does one act for `run`.
///
/// # Errors
/// When the API server refuses it, or the plan is too large.
pub(crate) async fn carry_out(client: &Client, run: &BenchmarkRun, act: &Act, image: &Image) -> Result<(), ApplyError> {
    let namespace = run.namespace().unwrap_or_default();
    let name = run.name_any();
    match act {
        Act::Store(plan) => {
            let stored = build::stored_plan(run, plan)?;
            apply(client, &namespace, &stored).await
        }
        Act::PlaceReport => apply(client, &namespace, &build::place_for_report(run)).await,
        Act::CarryOut(plan) => {
            // Without `..`, so that a further child cannot be forgotten here.
            let Children { service_account, role, role_binding, job } = build::children(run, plan, image);
            apply(client, &namespace, &service_account).await?;
            apply(client, &namespace, &role).await?;
            apply(client, &namespace, &role_binding).await?;
            apply(client, &namespace, &job).await
        }
        Act::Stop(uid) => {
            // A suspended Job's pods are ended in good order, and count as no failure. With the UID it is this Job or none.
            let patch = Patch::Merge(json!({"metadata": {"uid": uid}, "spec": {"suspend": true}}));
            let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
            jobs.patch(&name, &PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }, &patch)
                .await
                .map(drop)
                .map_err(api_error("stop the run's Job"))
        }
        Act::Delete => {
            let this_one = DeleteParams {
                preconditions: Some(Preconditions { uid: run.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
            match runs.delete(&name, &this_one).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                other => other.map(drop).map_err(api_error("remove the run")),
            }
        }
    }
}

async fn apply<K>(client: &Client, namespace: &str, object: &K) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    Api::<K>::namespaced(client.clone(), namespace)
        .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .map(drop)
        .map_err(api_error(&format!("apply {} {name}", K::kind(&()))))
}

/// Writes a status, unless it is there already. It is written to the very version of the run that was observed: what
/// was decided on an old one is decided again.
///
/// # Errors
/// When the API server refuses it; a conflict is for whoever decides again.
pub(crate) async fn write_status(
    client: &Client,
    run: &BenchmarkRun,
    status: &BenchmarkRunStatus,
) -> Result<bool, ApplyError> {
    if run.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &run.namespace().unwrap_or_default());
    let patch = Patch::Apply(json!({
        "apiVersion": BenchmarkRun::api_version(&()),
        "kind": BenchmarkRun::kind(&()),
        "metadata": {"resourceVersion": run.resource_version()},
        "status": status,
    }));
    runs.patch_status(&run.name_any(), &PatchParams::apply(MANAGER).force(), &patch)
        .await
        .map(|_| true)
        .map_err(api_error("write the run's status"))
}

/// Whether the API server refused because the run changed meanwhile.
pub(crate) fn is_conflict(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_conflict()))
}

/// Whether the API server refused what it was given, and would again.
pub(crate) fn is_refusal(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Api { source, .. }
        if matches!(&**source, kube::Error::Api(status) if status.is_invalid() || status.code == 400))
}
