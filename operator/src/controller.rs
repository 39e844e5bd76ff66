//! The loop: what changed is observed, decided on, applied and told. It decides nothing itself.

use crate::{
    admin,
    apply::{self, ApplyError, Hands},
    build::Kit,
    decide::{Act, Decision, Observed, Turn, decide},
    leases::{AccountLock, Claim, Holder, Leadership},
    metrics::{Metrics, Outcome},
    names::{MANAGER, Part, RUN_LABEL, conditions, reasons},
    observe,
    queue::{self, Queue},
    secret::Made,
    status::{self, Is},
};
use futures_util::{StreamExt, future};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{ObjectReference, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ListParams,
    runtime::{
        Controller,
        controller::{Action, Config as ControllerConfig, Error},
        events::{Event, EventType, Recorder, Reporter},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use nearbench_crds::{BenchmarkRun, BenchmarkRunStatus, RunPhase, RunVerdict};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A reconciliation speaks to the API server a handful of times.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(60);
/// Runs that are reconciled at once.
const CONCURRENCY: u16 = 8;
/// Between the first failure and the second try; it doubles up to the other.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The Lease that the leader of several operators renews.
const LEADER: &str = "nearbench-operator";
/// Between two looks of one that does not lead.
const FOLLOWER: Duration = Duration::from_secs(2);
/// Between two looks of a run that waits for its turn.
const QUEUED: Duration = Duration::from_secs(5);

/// Between two looks for BenchmarkRuns, until they can be listed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What the operator is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Runs are carried out with it.
    pub kit: Kit,
    /// At most so many runs at once; 0: no bound.
    pub max_concurrent_runs: u32,
    /// The pod that this is: who leads, among several.
    pub pod: String,
    /// Its namespace: where leadership and accounts are agreed on.
    pub own_namespace: String,
    /// Only runs of this namespace; `None`: of all.
    pub namespace: Option<String>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin_addr: SocketAddr,
}

/// Why the operator cannot work.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no way to an API server.
    #[error("no way to an API server: {0}; run in a cluster, or set KUBECONFIG")]
    Client(Box<kube::Error>),
    /// Its own endpoints cannot be served.
    #[error("--admin-addr {address}: {source}; choose another address")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What all reconciliations share.
pub(crate) struct State {
    metrics: Metrics,
    leadership: Arc<Leadership>,
    seen: AtomicBool,
}

impl State {
    /// What the operator waits for before it works.
    pub(crate) fn pending(&self) -> Option<&'static str> {
        (!self.seen.load(Ordering::Relaxed)).then_some("the list of BenchmarkRuns: is the CRD installed?")
    }

    pub(crate) fn metrics(&self) -> Result<String, std::fmt::Error> {
        self.metrics.text(self.leadership.is_leader(tokio::time::Instant::now()))
    }
}

struct Context {
    client: Client,
    kit: Kit,
    pod: String,
    own_namespace: String,
    leadership: Arc<Leadership>,
    queue: Queue,
    recorder: Recorder,
    /// Failures in a row, by the run's UID.
    failures: Mutex<HashMap<String, u32>>,
    runs: Store<BenchmarkRun>,
    state: Arc<State>,
}

/// Reconciles until `stop`; what is under way then is finished first.
///
/// # Errors
/// When there is no API server to speak to, or the admin address is taken. What fails later is tried again.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), OperatorError> {
    let client = Client::try_default().await.map_err(|error| OperatorError::Client(Box::new(error)))?;
    let admin_error = |source| OperatorError::Admin { address: config.admin_addr, source };
    let listener = admin::bind(config.admin_addr).await.map_err(admin_error)?;
    let of_runs = watcher::Config::default().labels(RUN_LABEL);
    let controller =
        Controller::new(api::<BenchmarkRun>(&client, config.namespace.as_deref()), watcher::Config::default());
    let runs = controller.store();
    let leadership = Arc::new(Leadership::new(client.clone(), &config.own_namespace, LEADER, &config.pod));
    let metrics = Metrics::new(runs.clone());
    let state = Arc::new(State { metrics, leadership: leadership.clone(), seen: AtomicBool::new(false) });
    let admin = tokio::spawn(admin::serve(listener, state.clone(), stop.clone()));
    let over = CancellationToken::new();
    let leading = tokio::spawn({
        let (leadership, over) = (leadership.clone(), over.clone());
        async move { leadership.keep(over).await }
    });
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), Reporter { controller: MANAGER.into(), instance: None }),
        client: client.clone(),
        kit: config.kit,
        pod: config.pod,
        own_namespace: config.own_namespace,
        leadership,
        queue: Queue::new(config.max_concurrent_runs),
        failures: Mutex::default(),
        runs: runs.clone(),
        state: state.clone(),
    });
    let seen = tokio::spawn(see(api::<BenchmarkRun>(&client, config.namespace.as_deref()), state));
    controller
        .owns(api::<Job>(&client, config.namespace.as_deref()), of_runs.clone())
        .owns(api::<Deployment>(&client, config.namespace.as_deref()), of_runs.clone())
        .owns(api::<StatefulSet>(&client, config.namespace.as_deref()), of_runs.clone())
        .watches(api::<Pod>(&client, config.namespace.as_deref()), of_runs, |pod| run_of(&pod))
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, on_error, context)
        .for_each(|result| {
            match result {
                Err(Error::QueueError(error)) => tracing::warn!(error = chain(&error), "cannot watch"),
                Err(Error::RunnerError(error)) => tracing::warn!(error = chain(&error), "cannot reconcile"),
                // A run that is gone needs nothing more; a failure is told where it is retried.
                Ok(_) | Err(Error::ObjectNotFound(_) | Error::ReconcilerFailed(..)) => {}
            }
            future::ready(())
        })
        .await;
    seen.abort();
    // What was under way has ended: the next one may begin at once.
    over.cancel();
    drop(leading.await);
    // Its listener ends with `stop`.
    drop(admin.await);
    Ok(())
}

/// Waits until BenchmarkRuns can be listed at all: without the CRD, or the right to, nothing will ever be reconciled.
async fn see(runs: Api<BenchmarkRun>, state: Arc<State>) {
    while let Err(error) = runs.list(&ListParams::default().limit(1)).await {
        tracing::warn!(error = chain(&error), "cannot list BenchmarkRuns: is the CRD installed?");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    state.seen.store(true, Ordering::Relaxed);
    tracing::info!("BenchmarkRuns are watched");
}

/// An error and its causes, once each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn run_of(pod: &Pod) -> Option<ObjectRef<BenchmarkRun>> {
    let run = pod.labels().get(RUN_LABEL)?;
    Some(ObjectRef::new(run).within(&pod.namespace()?))
}

/// Why a reconciliation ended early.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("cannot look: {0}")]
    Observe(#[from] kube::Error),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("not done within {} s", RECONCILE_TIMEOUT.as_secs())]
    Timeout,
    #[error("another operator leads by now")]
    NotLeading,
}

impl ReconcileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Observe(_) => "ObserveFailed",
            Self::Apply(ApplyError::Document(_)) => "PlanTooLarge",
            Self::Apply(ApplyError::Api { .. }) => "ApplyFailed",
            Self::Apply(ApplyError::Taken { .. }) => "NameTaken",
            Self::Timeout => "Timeout",
            Self::NotLeading => "NotLeading",
        }
    }
}

async fn reconcile(run: Arc<BenchmarkRun>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if !context.leads() {
        return Ok(Action::requeue(FOLLOWER));
    }
    let began = Instant::now();
    let done = tokio::time::timeout(RECONCILE_TIMEOUT, step(run.clone(), &context)).await;
    let result = done.unwrap_or(Err(ReconcileError::Timeout));
    let outcome = match &result {
        Ok(_) => Outcome::Done,
        Err(ReconcileError::Apply(error)) if apply::is_conflict(error) => Outcome::Conflict,
        Err(_) => Outcome::Error,
    };
    let metrics = &context.state.metrics;
    metrics.reconciled(outcome, began.elapsed());
    metrics.under_way(context.runs.state().iter().filter(|run| queue::is_under_way(run)).count());
    if result.is_ok() {
        context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&run.uid().unwrap_or_default());
    }
    if outcome == Outcome::Conflict {
        // The newer version is on its way through the watch.
        return Ok(Action::requeue(BACKOFF.0));
    }
    result
}

impl Context {
    fn leads(&self) -> bool {
        self.leadership.is_leader(tokio::time::Instant::now())
    }

    fn hands(&self) -> Hands<'_> {
        Hands { client: &self.client, kit: &self.kit, own_namespace: &self.own_namespace }
    }

    /// Whether a run that is otherwise in order may begin.
    async fn turn(&self, observed: &Observed) -> Result<Turn, kube::Error> {
        let run = &observed.run;
        let Some((chain_id, account)) = apply::account_of(run) else { return Ok(Turn::Now) };
        let lock = AccountLock::new(self.client.clone(), &self.own_namespace, chain_id, account);
        let us = apply::holder(run);
        let mut claim = lock.claim(&us, |holder| self.is_known_to_be_over(holder)).await?;
        if let Claim::HeldBy(holder) = &claim
            && self.is_gone(holder).await?
        {
            claim = lock.claim(&us, |there| there == holder).await?;
        }
        Ok(match claim {
            Claim::Ours => Turn::Now,
            Claim::HeldBy(Holder { namespace, name, .. }) => {
                let by = format!(
                    "run {name} in namespace {namespace} uses {account} on {chain_id}: this one waits for its end"
                );
                Turn::AccountBusy { by }
            }
            Claim::Unreadable(error) => {
                Turn::AccountBusy { by: format!("Lease {} in namespace {}: {error}", lock.name(), self.own_namespace) }
            }
        })
    }

    fn is_known_to_be_over(&self, holder: &Holder) -> bool {
        let runs = self.runs.state();
        let known = runs.iter().find(|run| run.uid().as_ref() == Some(&holder.uid));
        known.is_some_and(|run| is_finished(run))
    }

    /// Whether a run that is not known, or was under way, is there no more.
    async fn is_gone(&self, holder: &Holder) -> Result<bool, kube::Error> {
        let runs: Api<BenchmarkRun> = Api::namespaced(self.client.clone(), &holder.namespace);
        let there = runs.get_opt(&holder.name).await?;
        Ok(there.is_none_or(|run| run.uid().as_ref() != Some(&holder.uid) || is_finished(&run)))
    }

    /// What a run that may begin needs besides what is there.
    async fn admit(&self, observed: &mut Observed) -> Result<(), kube::Error> {
        let run = observed.run.clone();
        let may_begin = match &observed.plan {
            Ok(plan) => observed.taken.is_empty() && !(run.spec.suspend && plan.workers == 0),
            Err(_) => false,
        };
        if may_begin {
            observed.turn = self.turn(observed).await?;
        }
        if !may_begin || observed.turn != Turn::Now {
            self.queue.give_back(&run);
            return Ok(());
        }
        if let Ok(plan) = &observed.plan {
            observed.made = Some(Made::for_plan(plan, rand::random));
        }
        Ok(())
    }
}

fn is_finished(run: &BenchmarkRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.phase == Some(RunPhase::Finished))
}

async fn step(run: Arc<BenchmarkRun>, context: &Context) -> Result<Action, ReconcileError> {
    let status = run.status.as_ref();
    let is_new = status.is_none_or(|status| status.plan_ref.is_none() && status.phase != Some(RunPhase::Finished));
    let waits = is_new && run.metadata.deletion_timestamp.is_none() && !run.spec.stop;
    let turn = if waits { context.queue.turn(&run, &context.runs.state()) } else { Turn::Now };
    let told = |status: &BenchmarkRunStatus| {
        status.reason.as_deref() == Some(reasons::QUEUED) && status.observed_generation == run.metadata.generation
    };
    if turn != Turn::Now && status.is_some_and(told) {
        return Ok(Action::requeue(QUEUED));
    }
    let mut observed = observe::observe(&context.client, run.clone()).await?;
    match turn {
        Turn::Now if waits => context.admit(&mut observed).await?,
        turn => observed.turn = turn,
    }
    let is_going = run.metadata.deletion_timestamp.is_some();
    let mut decision = decide(&observed, Timestamp::now());
    if let Err((act, error)) = carry_out(context, &run, &decision).await {
        if !(is_going && matches!(&error, ReconcileError::Apply(error) if apply::is_forbidden(error))) {
            if let ReconcileError::Apply(error) = &error {
                tell_failure(context, &run, &act, error).await;
            }
            return Err(error);
        }
        // Its namespace is going too, and takes nothing new.
        observed.refused = Some(error.to_string());
        decision = decide(&observed, Timestamp::now());
        carry_out(context, &run, &decision).await.map_err(|(_, error)| error)?;
    }
    let Decision { acts, status, again } = decision;
    // The run changed by these, and is looked at again.
    let changed = acts.iter().any(|act| matches!(act, Act::Delete | Act::Hold | Act::LetGo));
    let is_kept = !is_going || again.is_some();
    if !changed && is_kept && apply::write_status(&context.client, &run, &status).await? {
        publish_all(context, &run, &status).await;
    }
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Does what was decided, as long as nobody else leads.
async fn carry_out(context: &Context, run: &BenchmarkRun, decision: &Decision) -> Result<(), (Act, ReconcileError)> {
    for act in &decision.acts {
        if !context.leads() {
            return Err((act.clone(), ReconcileError::NotLeading));
        }
        context.hands().carry_out(run, act).await.map_err(|error| (act.clone(), error.into()))?;
        if let Act::TellKeys(note) = act {
            tell_keys(context, run, note).await;
        }
    }
    if context.leads() { Ok(()) } else { Err((Act::LetGo, ReconcileError::NotLeading)) }
}

/// Says which keys are left, with the run, and where that is going too, with the operator.
async fn tell_keys(context: &Context, run: &BenchmarkRun, note: &str) {
    tracing::warn!(run = run.name_any(), namespace = run.namespace(), "{note}");
    let told = event(EventType::Warning, reasons::KEYS_LEFT, "CleanUp", note.to_owned());
    let Err(error) = context.recorder.publish(&told, &run.object_ref(&())).await else { return };
    tracing::debug!(run = run.name_any(), namespace = run.namespace(), %error, "the run's namespace takes no Event");
    let operator = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(context.pod.clone()),
        namespace: Some(context.own_namespace.clone()),
        ..ObjectReference::default()
    };
    let note = format!("run {}/{}: {note}", run.namespace().unwrap_or_default(), run.name_any());
    // Events that are alike but for their note count as one: each is of its own run.
    let secondary = Some(run.object_ref(&()));
    let told = Event { secondary, ..event(EventType::Warning, reasons::KEYS_LEFT, "CleanUp", note) };
    if let Err(error) = context.recorder.publish(&told, &operator).await {
        tracing::warn!(run = run.name_any(), namespace = run.namespace(), %error, "cannot publish an Event");
    }
}

/// Says in the status and in an Event, where users look, what keeps the operator from going on.
async fn tell_failure(context: &Context, run: &BenchmarkRun, act: &Act, error: &ApplyError) {
    let status = failed(run, act, error, Timestamp::now());
    match apply::write_status(&context.client, run, &status).await {
        Ok(true) => publish_all(context, run, &status).await,
        Ok(false) => {}
        Err(error) if apply::is_conflict(&error) => {}
        Err(error) => {
            tracing::warn!(run = run.name_any(), namespace = run.namespace(), %error, "cannot write the status")
        }
    }
}

/// The status of a run that an act failed for.
fn failed(run: &BenchmarkRun, act: &Act, error: &ApplyError, now: Timestamp) -> BenchmarkRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.observed_generation = run.metadata.generation;
    status.phase.get_or_insert(RunPhase::Pending);
    let reason = match error {
        ApplyError::Document(_) => reasons::PLAN_TOO_LARGE,
        ApplyError::Taken { .. } => reasons::NAME_TAKEN,
        error if apply::is_refusal(error) => reasons::REFUSED,
        ApplyError::Api { .. } => reasons::APPLY_FAILED,
    };
    let condition = match act {
        Act::Store(_) | Act::PlaceReport => Some(conditions::ADMITTED).filter(|_| status.plan_ref.is_none()),
        Act::CarryOut(_) | Act::Staff(_) => Some(conditions::WORKERS_READY),
        Act::Conceal(..) | Act::Found(_) | Act::Begin { part: Part::Provision, .. } => Some(conditions::PROVISIONED),
        Act::Begin { part: Part::Load, .. } => Some(conditions::LOAD_COMPLETED),
        Act::Begin { part: Part::Audit, .. } => Some(conditions::AUDITED),
        _ => None,
    };
    if let Some(condition) = condition {
        status::set(&mut status, condition, Is::False, reason, error.to_string(), now);
    }
    status.reason = Some(reason.to_owned());
    status.message = Some(error.to_string());
    status
}

fn on_error(run: Arc<BenchmarkRun>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let mut failures = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let in_a_row = failures.entry(run.uid().unwrap_or_default()).or_default();
    let wait = BACKOFF.0.saturating_mul(1 << (*in_a_row).min(16)).min(BACKOFF.1);
    *in_a_row = in_a_row.saturating_add(1);
    tracing::warn!(run = run.name_any(), namespace = run.namespace(), reason = error.reason(), error = chain(error), retry_in = ?wait, "reconciliation failed");
    Action::requeue(wait)
}

/// What changed for people who watch a run's Events.
fn events(before: Option<&BenchmarkRunStatus>, now: &BenchmarkRunStatus) -> Vec<Event> {
    let old = before.cloned().unwrap_or_default();
    let mut events = Vec::new();
    let note = now.message.clone().unwrap_or_default();
    if old.verdict != now.verdict
        && let Some(verdict) = now.verdict
    {
        let type_ = if verdict == RunVerdict::Passed { EventType::Normal } else { EventType::Warning };
        events.push(event(type_, &format!("{verdict:?}"), "Verdict", note));
    } else if troubled(now) {
        if (&old.reason, &old.message) != (&now.reason, &now.message)
            && let Some(reason) = &now.reason
        {
            events.push(event(EventType::Warning, reason, "Follow", note));
        }
    } else if old.phase != now.phase
        && let Some(phase) = now.phase
    {
        events.push(event(EventType::Normal, &format!("{phase:?}"), "Phase", note));
    } else if old.reason != now.reason
        && let Some(reason) = &now.reason
    {
        events.push(event(EventType::Normal, reason, "Follow", note));
    }
    events
}

/// Whether a condition says what the status says, and says no.
fn troubled(status: &BenchmarkRunStatus) -> bool {
    let reason = status.reason.as_deref().unwrap_or_default();
    let ordinary = [reasons::STARTING, reasons::UNDER_WAY, reasons::WORKERS_NOT_READY];
    !ordinary.contains(&reason) && status.conditions.iter().any(|c| c.status == "False" && c.reason == reason)
}

fn event(type_: EventType, reason: &str, action: &str, note: String) -> Event {
    // The API's bound on a note.
    let note = note.chars().take(1_000).collect();
    Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None }
}

async fn publish_all(context: &Context, run: &BenchmarkRun, status: &BenchmarkRunStatus) {
    for event in events(run.status.as_ref(), status) {
        publish(context, run, event).await;
    }
}

async fn publish(context: &Context, run: &BenchmarkRun, event: Event) {
    if let Err(error) = context.recorder.publish(&event, &run.object_ref(&())).await {
        tracing::warn!(run = run.name_any(), namespace = run.namespace(), %error, "cannot publish an Event");
    }
}
