//! What to do about a run: a function of what was observed and the time. No I/O.
//!
//! The order of things makes every step safe to repeat: the plan is stored and the status says so before the run's Job
//! is made, and a Job that was made once is never made again, since its pod may have moved tokens.

use crate::{
    build,
    document::DocumentError,
    names::{self, conditions, reasons},
    pods::{self, Trouble},
    status::{self, Is, set},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use nearbench_core::{
    Plan,
    lifecycle::{Deadlines, Stage},
    report::BenchmarkReport,
    standing::Standing,
};
use nearbench_crds::{
    BenchmarkRun, BenchmarkRunStatus, ObjectRef, Progress, RunPhase, RunVerdict, Summary, Violation, WorkersStatus,
};
use std::{sync::Arc, time::Duration};

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
        }
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
        // What the run owns is collected with it.
        return Decision { acts: Vec::new(), status, again: None };
    }
    status.observed_generation = run.metadata.generation;
    if status.phase == Some(RunPhase::Finished) {
        return finished(run, status, now);
    }
    let (acts, again) = match (&status.plan_ref, &observed.plan) {
        (None, plan) => begin(observed, plan, &mut status, now),
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
        return (Vec::new(), None);
    }
    let plan = names::plan(&observed.run.name_any());
    let message = format!(
        "ConfigMap {plan} is gone or damaged: without its plan the run cannot go on; apply it again under another name"
    );
    status::finish(status, RunVerdict::Error, reasons::PLAN_GONE, message, now);
    (job.map(stop).into_iter().collect(), None)
}

fn stop(job: &Job) -> Act {
    Act::Stop(job.uid().unwrap_or_default())
}

type Next = (Vec<Act>, Option<Duration>);

fn finished(run: &BenchmarkRun, status: BenchmarkRunStatus, now: Timestamp) -> Decision {
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
        Ok(_) if run.spec.suspend => {
            (Is::True, reasons::SUSPENDED, "spec.suspend holds the run; it begins when that is false".to_owned())
        }
        Ok(_) => (Is::True, reasons::VALID, "the manifest is in order".to_owned()),
    };
    set(status, conditions::ADMITTED, admitted, reason, message.clone(), now);
    status.reason = Some(reason.to_owned());
    status.message = Some(message);
    match plan {
        Err(_) => (Vec::new(), Some(WAIT_EVERY)),
        Ok(_) if !observed.taken.is_empty() => (Vec::new(), Some(FOLLOW_EVERY)),
        Ok(_) if run.spec.suspend => (Vec::new(), None),
        Ok(plan) => {
            status.phase = Some(RunPhase::Provisioning);
            status.start_time = Some(Time(now));
            status.plan_ref = Some(ObjectRef { name: names::plan(&run.name_any()) });
            status.report_ref = Some(ObjectRef { name: names::report(&run.name_any()) });
            status.summary = Some(Summary { target: status::target(plan), ..Summary::default() });
            (vec![Act::Store(Box::new(plan.clone())), Act::PlaceReport], Some(Duration::ZERO))
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
        return (Vec::new(), None);
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
        return (vec![stop(job)], None);
    }
    (acts, Some(FOLLOW_EVERY))
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
        return (Vec::new(), None);
    }
    if run.spec.stop {
        status::finish(status, RunVerdict::Inconclusive, reasons::STOPPED, "stopped before it began", now);
        return (Vec::new(), None);
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
    let Standing { stage, phase, percent, offered, succeeded } = standing;
    status.phase = Some(status::phase(*stage));
    if !phase.is_empty() {
        status.progress =
            Some(Progress { phase: phase.clone(), percent: *percent, offered: *offered, succeeded: *succeeded });
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
