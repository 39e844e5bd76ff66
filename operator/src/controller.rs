//! The loop: what changed is observed, decided on, applied and told. It decides nothing itself.

use crate::{
    admin,
    apply::{self, ApplyError},
    build::Image,
    decide::{Act, Decision, decide},
    metrics::{Metrics, Outcome},
    names::{MANAGER, RUN_LABEL, conditions, reasons},
    observe,
    status::{self, Is},
};
use futures_util::{StreamExt, future};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
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

/// Between two looks for BenchmarkRuns, until they can be listed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What the operator is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Runs are carried out with it.
    pub image: Image,
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
    seen: AtomicBool,
}

impl State {
    /// What the operator waits for before it works.
    pub(crate) fn pending(&self) -> Option<&'static str> {
        (!self.seen.load(Ordering::Relaxed)).then_some("the list of BenchmarkRuns: is the CRD installed?")
    }

    pub(crate) fn metrics(&self) -> Result<String, std::fmt::Error> {
        self.metrics.text()
    }
}

struct Context {
    client: Client,
    image: Image,
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
    let state = Arc::new(State { metrics: Metrics::new(), seen: AtomicBool::new(false) });
    let admin = tokio::spawn(admin::serve(listener, state.clone(), stop.clone()));

    let of_runs = watcher::Config::default().labels(RUN_LABEL);
    let controller =
        Controller::new(api::<BenchmarkRun>(&client, config.namespace.as_deref()), watcher::Config::default());
    let runs = controller.store();
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), Reporter { controller: MANAGER.into(), instance: None }),
        client: client.clone(),
        image: config.image,
        failures: Mutex::default(),
        runs: runs.clone(),
        state: state.clone(),
    });
    let seen = tokio::spawn(see(api::<BenchmarkRun>(&client, config.namespace.as_deref()), state));
    controller
        .owns(api::<Job>(&client, config.namespace.as_deref()), of_runs.clone())
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
}

impl ReconcileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Observe(_) => "ObserveFailed",
            Self::Apply(ApplyError::Document(_)) => "PlanTooLarge",
            Self::Apply(ApplyError::Api { .. }) => "ApplyFailed",
            Self::Timeout => "Timeout",
        }
    }
}

async fn reconcile(run: Arc<BenchmarkRun>, context: Arc<Context>) -> Result<Action, ReconcileError> {
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
    let begun = |run: &Arc<BenchmarkRun>| {
        run.status.as_ref().is_some_and(|s| s.plan_ref.is_some() && s.phase != Some(RunPhase::Finished))
    };
    metrics.under_way(context.runs.state().iter().filter(|run| begun(run)).count());
    if result.is_ok() {
        context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&run.uid().unwrap_or_default());
    }
    if outcome == Outcome::Conflict {
        // The newer version is on its way through the watch.
        return Ok(Action::requeue(BACKOFF.0));
    }
    result
}

async fn step(run: Arc<BenchmarkRun>, context: &Context) -> Result<Action, ReconcileError> {
    let observed = observe::observe(&context.client, run.clone()).await?;
    let Decision { acts, status, again } = decide(&observed, Timestamp::now());
    for act in &acts {
        if let Err(error) = apply::carry_out(&context.client, &run, act, &context.image).await {
            tell_failure(context, &run, act, &error).await;
            return Err(error.into());
        }
    }
    let gone = acts.contains(&Act::Delete) || run.metadata.deletion_timestamp.is_some();
    if !gone && apply::write_status(&context.client, &run, &status).await? {
        publish_all(context, &run, &status).await;
    }
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Says in the status and in an Event, where users look, what keeps the operator from going on.
async fn tell_failure(context: &Context, run: &BenchmarkRun, act: &Act, error: &ApplyError) {
    let status = failed(run, act, error, Timestamp::now());
    match apply::write_status(&context.client, run, &status).await {
        Ok(true) => publish_all(context, run, &status).await,
        Ok(false) => {}
        Err(error) if apply::is_conflict(&error) => {}
        Err(error) => tracing::warn!(run = key(run), %error, "cannot write the status"),
    }
}

/// The status of a run that an act failed for.
fn failed(run: &BenchmarkRun, act: &Act, error: &ApplyError, now: Timestamp) -> BenchmarkRunStatus {
    let mut status = run.status.clone().unwrap_or_default();
    status.observed_generation = run.metadata.generation;
    status.phase.get_or_insert(RunPhase::Pending);
    let reason = match error {
        ApplyError::Document(_) => reasons::PLAN_TOO_LARGE,
        error if apply::is_refusal(error) => reasons::REFUSED,
        ApplyError::Api { .. } => reasons::APPLY_FAILED,
    };
    let condition = match act {
        Act::Store(_) | Act::PlaceReport => Some(conditions::ADMITTED).filter(|_| status.plan_ref.is_none()),
        Act::CarryOut(_) => Some(conditions::WORKERS_READY),
        Act::Stop(_) | Act::Delete => None,
    };
    if let Some(condition) = condition {
        status::set(&mut status, condition, Is::False, reason, error.to_string(), now);
    }
    status.reason = Some(reason.to_owned());
    status.message = Some(error.to_string());
    status
}

fn key(run: &BenchmarkRun) -> String {
    format!("{}/{}", run.namespace().unwrap_or_default(), run.name_any())
}

fn on_error(run: Arc<BenchmarkRun>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let mut failures = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let in_a_row = failures.entry(run.uid().unwrap_or_default()).or_default();
    let wait = BACKOFF.0.saturating_mul(1 << (*in_a_row).min(16)).min(BACKOFF.1);
    *in_a_row = in_a_row.saturating_add(1);
    tracing::warn!(run = key(&run), reason = error.reason(), error = chain(error), retry_in = ?wait, "reconciliation failed");
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
    status.conditions.iter().any(|c| c.status == "False" && c.reason == reason && reason != reasons::STARTING)
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
        tracing::warn!(run = key(run), %error, "cannot publish an Event");
    }
}
