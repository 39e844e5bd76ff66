//! Carries decisions out: server-side apply, one field manager. Every act may be repeated.

use crate::{
    build::{
        self, Children, Kit,
        fleet::{self, Ground},
    },
    decide::Act,
    document::DocumentError,
    leases::{AccountLock, Holder},
    names::{self, FINALIZER, MANAGER, Part},
    observe::is_own,
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::{Secret, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use nearbench_core::Plan;
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
    /// Somebody else's object has a name that the run needs.
    #[error("{kind} {name} is there and not this run's: remove it, or give the run another name")]
    Taken {
        /// What it is.
        kind: String,
        /// Its name.
        name: String,
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

/// Where acts are carried out, and with what.
pub(crate) struct Hands<'a> {
    pub(crate) client: &'a Client,
    pub(crate) kit: &'a Kit,
    /// The operator's own namespace: where accounts are locked.
    pub(crate) own_namespace: &'a str,
}

impl Hands<'_> {
    /// Does one act for `run`.
    ///
    /// # Errors
    /// When the API server refuses it, or the plan is too large.
    pub(crate) async fn carry_out(&self, run: &BenchmarkRun, act: &Act) -> Result<(), ApplyError> {
        let Self { client, kit, .. } = *self;
        let namespace = run.namespace().unwrap_or_default();
        let name = run.name_any();
        let secret =
            run.status.as_ref().and_then(|status| status.secret_ref.as_ref()).map_or("", |secret| &secret.name);
        match act {
            Act::Store(plan) => apply(client, run, &build::stored_plan(run, plan)?).await,
            Act::PlaceReport => apply(client, run, &build::place_for_report(run)).await,
            Act::CarryOut(plan) => {
                // Without `..`, so that a further child cannot be forgotten here.
                let Children { service_account, role, role_binding, job } = build::children(run, plan, kit);
                apply(client, run, &service_account).await?;
                apply(client, run, &role).await?;
                apply(client, run, &role_binding).await?;
                apply(client, run, &job).await
            }
            Act::Stop(uid) => self.suspend(&namespace, &name, Some(uid)).await,
            Act::Hold => self.finalizers(run, |held| held.push(FINALIZER.to_owned())).await,
            Act::LetGo => self.finalizers(run, |held| held.retain(|one| one != FINALIZER)).await,
            Act::Conceal(plan, made) => {
                let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
                let by = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
                // Made, never applied: one that is there is somebody else's.
                let made = secrets.create(&by, &fleet::secret(run, plan, made)).await;
                made.map(drop).map_err(api_error("make the run's Secret"))
            }
            Act::Found(plan) => self.found(run, plan, secret).await,
            Act::Staff(plan) => apply(client, run, &fleet::workers(run, plan, secret, kit)).await,
            Act::Begin { part, plan, stopped_early } => {
                apply(client, run, &fleet::step(run, plan, secret, kit, *part, *stopped_early)).await
            }
            Act::EndStep(part) => self.suspend(&namespace, &names::child(&name, *part), None).await,
            Act::DropStep(part, uid) => {
                let this_one = Preconditions { uid: Some(uid.clone()), resource_version: None };
                remove::<Job>(client, &namespace, &names::child(&name, *part), Some(this_one)).await
            }
            Act::Dismiss => remove_own::<Deployment>(client, run, &names::child(&name, Part::Worker)).await,
            Act::TakeDown => self.take_down(run).await,
            Act::Release => {
                let Some((chain_id, account)) = account_of(run) else { return Ok(()) };
                let lock = AccountLock::new(client.clone(), self.own_namespace, chain_id, account);
                lock.release(&holder(run)).await.map_err(api_error("give the account back"))
            }
            // An Event, which is the controller's to publish.
            Act::TellKeys(_) => Ok(()),
            Act::Delete => {
                let this_one = Preconditions { uid: run.uid(), resource_version: None };
                remove::<BenchmarkRun>(client, &namespace, &name, Some(this_one)).await
            }
        }
    }

    async fn found(&self, run: &BenchmarkRun, plan: &Plan, secret: &str) -> Result<(), ApplyError> {
        let Self { client, kit, .. } = *self;
        // Whose pods may do what, as for a run in one pod; its Job is not made.
        let Children { service_account, role, role_binding, job: _ } = build::children(run, plan, kit);
        apply(client, run, &service_account).await?;
        apply(client, run, &role).await?;
        apply(client, run, &role_binding).await?;
        let Ground { stateful, services, network_policies, disruption_budgets } = fleet::ground(run, plan, secret, kit);
        for policy in &network_policies {
            apply(client, run, policy).await?;
        }
        for service in &services {
            apply(client, run, service).await?;
        }
        for budget in &disruption_budgets {
            apply(client, run, budget).await?;
        }
        for set in &stateful {
            apply(client, run, set).await?;
        }
        Ok(())
    }

    async fn take_down(&self, run: &BenchmarkRun) -> Result<(), ApplyError> {
        let client = self.client;
        let child = |part| names::child(&run.name_any(), part);
        for name in [Part::Redis, Part::Devnet].map(child) {
            remove_own::<StatefulSet>(client, run, &name).await?;
            remove_own::<Service>(client, run, &name).await?;
            remove_own::<NetworkPolicy>(client, run, &name).await?;
            remove_own::<PodDisruptionBudget>(client, run, &name).await?;
        }
        let workers = child(Part::Worker);
        remove_own::<Service>(client, run, &workers).await?;
        remove_own::<Service>(client, run, &format!("{workers}s")).await?;
        remove_own::<PodDisruptionBudget>(client, run, &workers).await?;
        remove_own::<NetworkPolicy>(client, run, &child(Part::Run)).await
    }

    /// A suspended Job's pods are ended in good order, and count as no failure. With a UID it is this Job or none.
    async fn suspend(&self, namespace: &str, job: &str, uid: Option<&str>) -> Result<(), ApplyError> {
        let patch = match uid {
            Some(uid) => json!({"metadata": {"uid": uid}, "spec": {"suspend": true}}),
            None => json!({"spec": {"suspend": true}}),
        };
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let by = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        match jobs.patch(job, &by, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(drop).map_err(api_error(&format!("stop Job {job}"))),
        }
    }

    /// Changes the run's finalizers, as long as it is the version that was looked at.
    async fn finalizers(&self, run: &BenchmarkRun, change: impl FnOnce(&mut Vec<String>)) -> Result<(), ApplyError> {
        let mut held = run.finalizers().to_vec();
        change(&mut held);
        let patch = json!({"metadata": {"resourceVersion": run.resource_version(), "finalizers": held}});
        let runs: Api<BenchmarkRun> = Api::namespaced(self.client.clone(), &run.namespace().unwrap_or_default());
        let by = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        match runs.patch(&run.name_any(), &by, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(drop).map_err(api_error("change the run's finalizers")),
        }
    }
}

/// The account that a run uses on a chain that others may use too: the chain's id and the account's.
pub(crate) fn account_of(run: &BenchmarkRun) -> Option<(&'static str, &str)> {
    let chain_id = nearbench_crds::chain_id(&run.spec.network)?;
    Some((chain_id, &run.spec.account.account_id))
}

/// A run as the holder of its account.
pub(crate) fn holder(run: &BenchmarkRun) -> Holder {
    Holder { namespace: run.namespace().unwrap_or_default(), name: run.name_any(), uid: run.uid().unwrap_or_default() }
}

/// Removes an object and what it owns; one that is not there is gone already.
async fn remove<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    preconditions: Option<Preconditions>,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        preconditions,
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match Api::<K>::namespaced(client.clone(), namespace).delete(name, &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(api_error(&format!("remove {} {name}", K::kind(&())))),
    }
}

/// Removes what the run owns under this name; what is another's stays.
async fn remove_own<K>(client: &Client, run: &BenchmarkRun, name: &str) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let namespace = run.namespace().unwrap_or_default();
    let there = Api::<K>::namespaced(client.clone(), &namespace).get_metadata_opt(name).await;
    let there = there.map_err(api_error(&format!("look at {} {name}", K::kind(&()))))?;
    let Some(own) = there.filter(|there| is_own(run, there)) else { return Ok(()) };
    let this_one = Preconditions { uid: own.uid(), resource_version: None };
    remove::<K>(client, &namespace, name, Some(this_one)).await
}

/// Makes an object of the run what it should be. One of its name that is another's is left alone, and told.
async fn apply<K>(client: &Client, run: &BenchmarkRun, object: &K) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = object.name_any();
    let objects = Api::<K>::namespaced(client.clone(), &run.namespace().unwrap_or_default());
    let there = objects.get_metadata_opt(&name).await;
    let there = there.map_err(api_error(&format!("look at {} {name}", K::kind(&()))))?;
    if there.is_some_and(|there| !is_own(run, &there)) {
        return Err(ApplyError::Taken { kind: K::kind(&()).into_owned(), name });
    }
    let applied = objects.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await;
    applied.map(drop).map_err(api_error(&format!("apply {} {name}", K::kind(&()))))
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

/// Whether the API server takes nothing new: what it would be in is going.
pub(crate) fn is_forbidden(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Api { source, .. }
        if matches!(&**source, kube::Error::Api(status) if status.code == 403 || status.is_not_found()))
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
