//! What to do about a run: a function of what was observed and the time. No I/O. What is here is how runs begin and end, and
//! the way of a run in one pod; that of a run with workers is in `fleet`.
//!
//! The order of things makes every step safe to repeat: the plan is stored and the status says so before anything is made of
//! it. The Job of a run in one pod that was made once is never made again, since its pod may have moved tokens.

mod fleet;

use crate::{
    build::{self, fleet::has_own_chain},
    document::DocumentError,
    names::{self, FINALIZER, Part, conditions, reasons},
    pods::{self, Trouble},
    secret::Made,
    status::{self, Is, set},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use nearbench_core::{
    Plan,
    lifecycle::{Deadlines, Event, Lifecycle, Stage},
    report::BenchmarkReport,
    standing::Standing,
};
use nearbench_crds::{
    BenchmarkRun, BenchmarkRunStatus, Frozen, ObjectRef, Progress, RunPhase, RunVerdict, Summary, Violation,
    WorkersStatus,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Between two looks at a run under way: each may write its progress.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at a run that cannot begin: what it waits for may be an object that nobody tells of.
const WAIT_EVERY: Duration = Duration::from_secs(10);
/// A Job controller makes a pod within a moment, where it may.
const POD_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// What is there.
#[derive(Debug)]
pub struct Observed {
    /// The run.
    pub run: Arc<BenchmarkRun>,
    /// Before it began: what its manifest resolves to. Afterwards: the plan that was stored; an empty list where it is
    /// gone or damaged.
    pub plan: Result<Plan, Vec<Violation>>,
    /// Its Job.
    pub job: Option<Job>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What the pod delivered.
    pub report: Result<Option<BenchmarkReport>, DocumentError>,
    /// Whether there is a ConfigMap for the report.
    pub report_has_place: bool,
    /// What has a name that the run needs and is not the run's: somebody else's, or an earlier run's that is ending.
    pub taken: Vec<String>,
    /// What the pod says of itself; `None` where none answers.
    pub standing: Option<Standing>,
    /// What a run that may begin waits for besides.
    pub turn: Turn,
    /// What is made up for a run with workers that is about to begin.
    pub made: Option<Made>,
    /// Of a run with workers that began: what is there of it.
    pub fleet: Fleet,
    /// What the manifest resolves to now, as long as it may still change something of a run that began.
    pub wanted: Option<Result<Plan, Vec<Violation>>>,
    /// Why the API server takes nothing more that a deleted run needs: its namespace is going.
    pub refused: Option<String>,
}

/// Whether it is a run's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is.
    Now,
    /// As many runs as may be are under way.
    Queued {
        /// How many may be.
        limit: u32,
    },
    /// Another run has the account.
    AccountBusy {
        /// Which, and how one gets there.
        by: String,
    },
}

/// What is there of a run with workers.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// The Jobs of its steps.
    pub steps: BTreeMap<Part, Job>,
    /// Its workers.
    pub workers: Option<Deployment>,
    /// Its own Redis and chain, as far as they are there.
    pub stateful: Vec<StatefulSet>,
}

impl Observed {
    /// A run that has not begun.
    pub fn waiting(run: Arc<BenchmarkRun>, plan: Result<Plan, Vec<Violation>>) -> Self {
        Self {
            run,
            plan,
            job: None,
            pods: Vec::new(),
            report: Ok(None),
            report_has_place: false,
            taken: Vec::new(),
            standing: None,
            turn: Turn::Now,
            made: None,
            fleet: Fleet::default(),
            wanted: None,
            refused: None,
        }
    }

    /// The pods of one part.
    pub(crate) fn pods_of(&self, part: Part) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| pods::part(pod) == Some(part))
    }
}

/// Something to do in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Store the plan.
    Store(Box<Plan>),
    /// Make the place for the report.
    PlaceReport,
    /// Make the Job, and what its pod needs.
    CarryOut(Box<Plan>),
    /// Let the pod of the Job with this UID end: it works off what it accepted and reports.
    Stop(String),
    /// Keep the run, once somebody deletes it, until its keys are off the account.
    Hold,
    /// Keep it no longer.
    LetGo,
    /// Make the run's Secret, which it is given up for if it is there already.
    Conceal(Box<Plan>, Box<Made>),
    /// Make what the run stands on: its own Redis and chain, and the ways to them.
    Found(Box<Plan>),
    /// Make the workers, as many as the manifest says.
    Staff(Box<Plan>),
    /// Begin a step. `stopped_early`: the load was cut short.
    Begin {
        /// Which.
        part: Part,
        /// By this plan.
        plan: Box<Plan>,
        /// For the report.
        stopped_early: bool,
    },
    /// Let the pods of a step end, and make no others.
    EndStep(Part),
    /// Remove the Job of a step with this UID.
    DropStep(Part, String),
    /// Remove the workers.
    Dismiss,
    /// Remove what the run stood on.
    TakeDown,
    /// Give the account back to other runs.
    Release,
    /// Tell people, where they look after the run is gone, which keys are left.
    TellKeys(String),
    /// Remove the run.
    Delete,
}

/// What to do, and what to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// In this order, before the status is written.
    pub acts: Vec<Act>,
    /// The status from now on.
    pub status: BenchmarkRunStatus,
    /// When to look again; `None`: when something changes.
    pub again: Option<Duration>,
}

/// Decides.
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let run = &observed.run;
    let mut status = run.status.clone().unwrap_or_default();
    if run.metadata.deletion_timestamp.is_some() {
        let (acts, again) = match is_held(run) {
            true => fleet::farewell(observed, &mut status, now),
            // What the run owns is collected with it.
            false => (Vec::new(), None),
        };
        return Decision { acts, status, again };
    }
    status.observed_generation = run.metadata.generation;
    if status.phase == Some(RunPhase::Finished) {
        return finished(run, status, now);
    }
    let (acts, again) = match (&status.plan_ref, &observed.plan) {
        (None, plan) => begin(observed, plan, &mut status, now),
        (Some(_), Ok(plan)) if status.lifecycle.is_some() => fleet::follow(observed, plan, &mut status, now),
        (Some(_), Ok(plan)) => follow(observed, plan, &mut status, now),
        (Some(_), Err(_)) => without_plan(observed, &mut status, now),
    };
    Decision { acts, status, again }
}

/// A run whose plan is gone: what its pod delivered still counts, and without that it cannot go on.
fn without_plan(observed: &Observed, status: &mut BenchmarkRunStatus, now: Timestamp) -> Next {
    let job = observed.job.as_ref();
    if let Some(job) = job.filter(|job| over(job)) {
        conclude(observed, job, status, now);
        return (release(observed), None);
    }
    let plan = names::plan(&observed.run.name_any());
    let message = format!(
        "ConfigMap {plan} is gone or damaged: without its plan the run cannot go on; apply it again under another name"
    );
    let ends = if status.lifecycle.is_some() { fleet::abandon(observed, &message) } else { Vec::new() };
    status::finish(status, RunVerdict::Error, reasons::PLAN_GONE, message, now);
    (job.map(stop).into_iter().chain(ends).chain(release(observed)).collect(), None)
}

fn stop(job: &Job) -> Act {
    Act::Stop(job.uid().unwrap_or_default())
}

type Next = (Vec<Act>, Option<Duration>);

/// Whether a run is kept until its keys are off the account.
fn is_held(run: &BenchmarkRun) -> bool {
    run.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

fn finished(run: &BenchmarkRun, status: BenchmarkRunStatus, now: Timestamp) -> Decision {
    if is_held(run) {
        // Its keys are off the account, or are to stay there.
        return Decision { acts: vec![Act::LetGo], status, again: None };
    }
    let ttl = run.spec.ttl_seconds_after_finished.map(|ttl| SignedDuration::from_secs(ttl.into()));
    let until = ttl.zip(status.completion_time.as_ref()).map(|(ttl, Time(ended))| (*ended + ttl).duration_since(now));
    match until {
        Some(left) if left.is_positive() => {
            Decision { acts: Vec::new(), status, again: Some(left.unsigned_abs() + Duration::from_secs(1)) }
        }
        Some(_) => Decision { acts: vec![Act::Delete], status, again: None },
        None => Decision { acts: Vec::new(), status, again: None },
    }
}

fn begin(
    observed: &Observed,
    plan: &Result<Plan, Vec<Violation>>,
    status: &mut BenchmarkRunStatus,
    now: Timestamp,
) -> Next {
    let run = &observed.run;
    status.phase = Some(RunPhase::Pending);
    if run.spec.stop {
        status::finish(status, RunVerdict::Inconclusive, reasons::STOPPED, "stopped before it began", now);
        return (Vec::new(), None);
    }
    let has_workers = plan.as_ref().is_ok_and(|plan| plan.workers > 0);
    let (admitted, reason, message) = match plan {
        Err(violations) => {
            let faults: Vec<String> = violations.iter().map(ToString::to_string).collect();
            (Is::False, reasons::INVALID_SPEC, faults.join("; "))
        }
        Ok(_) if !observed.taken.is_empty() => {
            let taken = observed.taken.join(", ");
            let message = format!(
                "{taken} is there and not this run's: where an earlier run of this name is ending, this one waits for it; \
                 else give the run another name"
            );
            (Is::False, reasons::NAME_TAKEN, message)
        }
        // With workers, it is held when all is ready but its load.
        Ok(_) if run.spec.suspend && !has_workers => {
            (Is::True, reasons::SUSPENDED, "spec.suspend holds the run; it begins when that is false".to_owned())
        }
        Ok(_) => match &observed.turn {
            Turn::Now => (Is::True, reasons::VALID, "the manifest is in order".to_owned()),
            Turn::Queued { limit } => {
                let message = format!("{limit} runs are under way, as many as may be (the chart's maxConcurrentRuns)");
                (Is::True, reasons::QUEUED, message)
            }
            Turn::AccountBusy { by } => (Is::True, reasons::ACCOUNT_BUSY, by.clone()),
        },
    };
    set(status, conditions::ADMITTED, admitted, reason, message.clone(), now);
    status.reason = Some(reason.to_owned());
    status.message = Some(message);
    match plan {
        Err(_) => (Vec::new(), Some(WAIT_EVERY)),
        Ok(_) if !observed.taken.is_empty() => (Vec::new(), Some(FOLLOW_EVERY)),
        Ok(_) if run.spec.suspend && !has_workers => (Vec::new(), None),
        Ok(_) if observed.turn != Turn::Now => (Vec::new(), Some(FOLLOW_EVERY)),
        Ok(_) if has_workers && !is_held(run) => (vec![Act::Hold], Some(FOLLOW_EVERY)),
        Ok(plan) => {
            let name = run.name_any();
            let mut acts = vec![Act::PlaceReport];
            let mut plan = plan.clone();
            if let Some(made) = observed.made.as_ref().filter(|_| has_workers) {
                let secret = build::fleet::secret_name(&name, made);
                plan = build::fleet::plan_for(run, plan, &secret);
                acts.push(Act::Conceal(Box::new(plan.clone()), Box::new(made.clone())));
                let life = Lifecycle::new(Deadlines::in_cluster(&plan), run.spec.cleanup);
                status.lifecycle = Some(life.step(Event::Admitted, fleet::ms(now)).0);
                status.secret_ref = Some(ObjectRef { name: secret });
                status.public_keys = made.public_keys();
                status.frozen = Some(Frozen::Identity);
            } else {
                status.frozen = Some(Frozen::Everything);
            }
            acts.insert(0, Act::Store(Box::new(plan.clone())));
            status.phase = Some(RunPhase::Provisioning);
            status.start_time = Some(Time(now));
            status.plan_ref = Some(ObjectRef { name: names::plan(&name) });
            status.report_ref = Some(ObjectRef { name: names::report(&name) });
            status.summary = Some(Summary { target: status::target(&plan), ..Summary::default() });
            (acts, Some(Duration::ZERO))
        }
    }
}

fn follow(observed: &Observed, plan: &Plan, status: &mut BenchmarkRunStatus, now: Timestamp) -> Next {
    let run = &observed.run;
    let Some(job) = &observed.job else {
        return without_job(observed, plan, status, now);
    };
    if status.workers.is_none() {
        made(run, status, now);
    }
    if over(job) {
        conclude(observed, job, status, now);
        return (release(observed), None);
    }
    workers(observed, job, status, now);
    if let Some(standing) = &observed.standing {
        progress(standing, status, now);
    }
    let mut acts = Vec::new();
    if !observed.report_has_place {
        acts.push(Act::PlaceReport);
    }
    if run.spec.stop {
        say(status, reasons::STOPPED, "spec.stop ends the run: what was accepted is worked off and reported");
        if !stopped(job) {
            acts.push(stop(job));
        }
    } else if let Some(trouble) = overdue(observed, plan, status, now) {
        status::finish(status, RunVerdict::Error, &trouble.reason, trouble.message, now);
        return ([stop(job)].into_iter().chain(release(observed)).collect(), None);
    }
    (acts, Some(FOLLOW_EVERY))
}

/// A run that is over has no use for its account any more. A chain of its own is nobody else's.
fn release(observed: &Observed) -> Vec<Act> {
    if has_own_chain(&observed.run) { Vec::new() } else { vec![Act::Release] }
}

/// A run whose Job is not there: not made yet, or removed by somebody.
fn without_job(observed: &Observed, plan: &Plan, status: &mut BenchmarkRunStatus, now: Timestamp) -> Next {
    let run = &observed.run;
    if status.workers.is_some() {
        if !observed.pods.is_empty() {
            say(status, reasons::JOB_GONE, "the run's Job was removed by somebody; its pod works off what it accepted");
            return (Vec::new(), Some(FOLLOW_EVERY));
        }
        if let Ok(Some(report)) = &observed.report {
            status::finish_with(status, report.clone(), now);
        } else {
            let message = "the run's Job was removed by somebody; another one could pay twice what the first one sent";
            status::finish(status, RunVerdict::Error, reasons::JOB_GONE, message, now);
        }
        return (release(observed), None);
    }
    if run.spec.stop {
        status::finish(status, RunVerdict::Inconclusive, reasons::STOPPED, "stopped before it began", now);
        return (release(observed), None);
    }
    if !observed.taken.is_empty() {
        let message = format!("{} is there and not this run's", observed.taken.join(", "));
        set(status, conditions::WORKERS_READY, Is::False, reasons::NAME_TAKEN, message.clone(), now);
        say(status, reasons::NAME_TAKEN, message);
        return (Vec::new(), Some(FOLLOW_EVERY));
    }
    made(run, status, now);
    (vec![Act::CarryOut(Box::new(plan.clone()))], Some(FOLLOW_EVERY))
}

/// Marks that the run's Job is made: `status.workers` is there from then on.
fn made(run: &BenchmarkRun, status: &mut BenchmarkRunStatus, now: Timestamp) {
    set(status, conditions::WORKERS_READY, Is::False, reasons::STARTING, "the run's pod is asked for", now);
    let selector = build::selector(&run.name_any());
    status.workers = Some(WorkersStatus { replicas: 1, ready: 0, restarts: 0, selector });
    say(status, reasons::STARTING, "the run's pod is asked for");
}

fn say(status: &mut BenchmarkRunStatus, reason: &str, message: impl Into<String>) {
    status.reason = Some(reason.to_owned());
    status.message = Some(message.into());
}

/// Whether a Job will do nothing more.
fn over(job: &Job) -> bool {
    let status = job.status.as_ref();
    let ended = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|c| c.status == "True" && ["Complete", "Failed"].contains(&c.type_.as_str()))
    });
    let pods = status.map_or(0, |status| status.active.unwrap_or(0) + status.terminating.unwrap_or(0));
    let told = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Suspended" && condition.status == "True")
    });
    ended || (stopped(job) && told && pods == 0)
}

/// Whether a Job was told to stop.
fn stopped(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false)
}

fn workers(observed: &Observed, job: &Job, status: &mut BenchmarkRunStatus, now: Timestamp) {
    let ready = observed.pods.iter().filter(|pod| pods::ready(pod)).count();
    if let Some(workers) = &mut status.workers {
        workers.ready = i32::try_from(ready).unwrap_or(i32::MAX);
    }
    let name = job.name_any();
    let trouble = observed.pods.iter().find_map(pods::trouble).or_else(|| {
        let since = job.metadata.creation_timestamp.as_ref().map(|Time(made)| now.duration_since(*made))?;
        (observed.pods.is_empty() && !stopped(job) && since >= POD_AFTER).then(|| {
            let message = format!("Job {name} makes no pod: `kubectl describe job {name}` says why (quota, admission)");
            Trouble::new(reasons::NO_POD, message)
        })
    });
    let was_ready = status::is_true(status, conditions::WORKERS_READY) == Some(true);
    let trouble = trouble.or_else(|| {
        (was_ready && ready == 0 && !stopped(job)).then(|| {
            Trouble::new(reasons::NOT_READY, "the run's pod was ready and does not answer any more, or is ending")
        })
    });
    match trouble {
        Some(Trouble { reason, message }) => {
            set(status, conditions::WORKERS_READY, Is::False, &reason, message.clone(), now);
            say(status, &reason, message);
        }
        None if ready > 0 => {
            set(status, conditions::WORKERS_READY, Is::True, reasons::READY, "the run's pod is ready", now);
        }
        None if status::is_true(status, conditions::PROVISIONED).is_none() && !stopped(job) => {
            set(status, conditions::WORKERS_READY, Is::False, reasons::STARTING, "the run's pod starts", now);
            say(status, reasons::STARTING, "the run's pod starts");
        }
        None => {}
    }
}

fn progress(standing: &Standing, status: &mut BenchmarkRunStatus, now: Timestamp) {
    let Standing { stage, phase, percent, offered, succeeded, .. } = standing;
    status.phase = Some(status::phase(*stage));
    if let Some(progress) = Progress::of(standing) {
        status.progress = Some(progress);
    }
    // A run that is cleaned up may not have come that far; what it did come to, its report says.
    if (Stage::Running..=Stage::Reporting).contains(stage) {
        for reached in [conditions::PROVISIONED, conditions::KEYS_READY, conditions::NONCES_SEEDED] {
            if status::is_true(status, reached).is_none() {
                set(status, reached, Is::True, reasons::DONE, "", now);
            }
        }
    }
    let message = match stage {
        Stage::Pending | Stage::Provisioning => "account, keys, token and receivers are made ready".to_owned(),
        Stage::Held => "ready for its load".to_owned(),
        Stage::Running => {
            format!("{phase}, {percent} % of the load, {succeeded} of {offered} transfers succeeded")
        }
        Stage::Draining => format!("{succeeded} of {offered} transfers succeeded, the rest is worked off"),
        Stage::Auditing => "the chain is searched for every transfer".to_owned(),
        Stage::Reporting => "the report is made".to_owned(),
        Stage::CleaningUp | Stage::Finished => "the run's keys are removed".to_owned(),
    };
    say(status, &format!("{:?}", status::phase(*stage)), message);
}

/// Why a run is given up: its pod did not come to work in time, or works longer than all stages may take together.
fn overdue(observed: &Observed, plan: &Plan, status: &BenchmarkRunStatus, now: Timestamp) -> Option<Trouble> {
    let Time(started) = status.start_time.as_ref()?;
    let deadlines = Deadlines::of(plan);
    let ms = |ms: u64| SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    let since = now.duration_since(*started);
    let began = observed.standing.is_some() || status::is_true(status, conditions::PROVISIONED) == Some(true);
    let Deadlines { provision_ms, run_ms, drain_ms, audit_ms, report_ms, clean_up_ms, active_ms: _ } = deadlines;
    // The pod may come late, and then takes its time.
    let all_ms = 2 * provision_ms + run_ms + drain_ms + audit_ms + report_ms + clean_up_ms;
    let (patience, why) = if began {
        (ms(all_ms), Trouble::new(reasons::OVERDUE, "the run's pod is still at work"))
    } else {
        (ms(provision_ms), Trouble::new("NeverReady", "the run's pod did not become ready"))
    };
    if since < patience {
        return None;
    }
    let condition = status.conditions.iter().find(|condition| condition.type_ == conditions::WORKERS_READY);
    let known = condition.filter(|condition| condition.status == "False" && condition.reason != reasons::STARTING);
    let Trouble { reason, message } =
        known.map_or(why, |condition| Trouble::new(&condition.reason, condition.message.clone()));
    Some(Trouble { reason, message: format!("given up after {} minutes: {message}", patience.as_mins()) })
}

/// The Job is over: its report counts, or the reason why there is none.
fn conclude(observed: &Observed, job: &Job, status: &mut BenchmarkRunStatus, now: Timestamp) {
    match &observed.report {
        Ok(Some(report)) => status::finish_with(status, report.clone(), now),
        Err(error) => {
            status::finish(status, RunVerdict::Error, reasons::REPORT_UNREADABLE, error.to_string(), now);
        }
        Ok(None) if stopped(job) || observed.run.spec.stop || observed.pods.iter().any(pods::was_stopped) => {
            let message = "stopped before its load; nothing was offered";
            status::finish(status, RunVerdict::Inconclusive, reasons::STOPPED, message, now);
        }
        Ok(None) => {
            let Trouble { reason, message } = observed
                .pods
                .iter()
                .find_map(pods::trouble)
                .or_else(|| job_trouble(job))
                .unwrap_or_else(|| Trouble::new(reasons::NO_REPORT, "the run's pod ended and delivered no report"));
            status::finish(status, RunVerdict::Error, &reason, message, now);
        }
    }
}

fn job_trouble(job: &Job) -> Option<Trouble> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions.iter().find(|condition| condition.type_ == "Failed" && condition.status == "True")?;
    let gone = "the run's pod is gone, and delivered no report";
    let message = failed.message.as_deref().map_or(gone.to_owned(), |message| format!("{gone}: {message}"));
    Some(Trouble::new(failed.reason.as_deref().unwrap_or(reasons::NO_REPORT), message))
}
