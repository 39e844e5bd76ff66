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
const WAIT_EVERY: Duration = Duration::from_secs(30);

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
    /// The Job's pods.
    pub pods: Vec<Pod>,
    /// What the pod delivered.
    pub report: Result<Option<BenchmarkReport>, DocumentError>,
    /// What the pod says of itself; `None` where none answers.
    pub standing: Option<Standing>,
}

impl Observed {
    /// A run that has not begun.
    pub fn waiting(run: Arc<BenchmarkRun>, plan: Result<Plan, Vec<Violation>>) -> Self {
        Self { run, plan, job: None, pods: Vec::new(), report: Ok(None), standing: None }
    }
}

/// Something to do in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Store the plan, and make the place for the report.
    Store(Box<Plan>),
    /// Make the Job, and what its pod needs.
    CarryOut(Box<Plan>),
    /// Let the pod end: it works off what it accepted and reports.
    Stop,
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
        (None, plan) => begin(run, plan, &mut status, now),
        (Some(_), Ok(plan)) => follow(observed, plan, &mut status, now),
        (Some(_), Err(_)) => {
            let message = format!(
                "ConfigMap {} is gone or damaged: without its plan the run cannot go on; apply it again under another name",
                names::plan(&run.name_any())
            );
            let acts = observed.job.as_ref().filter(|job| !over(job)).map(|_| Act::Stop).into_iter().collect();
            status::finish(&mut status, RunVerdict::Error, reasons::PLAN_GONE, message, now);
            (acts, None)
        }
    };
    Decision { acts, status, again }
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
    run: &BenchmarkRun,
    plan: &Result<Plan, Vec<Violation>>,
    status: &mut BenchmarkRunStatus,
    now: Timestamp,
) -> Next {
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
        Ok(_) if run.spec.suspend => {
            (Is::True, reasons::SUSPENDED, "spec.suspend holds the run; it begins when that is false".to_owned())
        }
        Ok(_) => (Is::True, reasons::PLANNED, "the manifest is in order".to_owned()),
    };
    set(status, conditions::ADMITTED, admitted, reason, message.clone(), now);
    status.reason = Some(reason.to_owned());
    status.message = Some(message);
    match plan {
        Err(_) => (Vec::new(), Some(WAIT_EVERY)),
        Ok(_) if run.spec.suspend => (Vec::new(), None),
        Ok(plan) => {
            set(status, conditions::ADMITTED, Is::True, reasons::VALID, "the manifest is in order", now);
            status.phase = Some(RunPhase::Provisioning);
            status.start_time = Some(Time(now));
            status.plan_ref = Some(ObjectRef { name: names::plan(&run.name_any()) });
            status.report_ref = Some(ObjectRef { name: names::report(&run.name_any()) });
            status.summary = Some(Summary { target: status::target(plan), ..Summary::default() });
            (vec![Act::Store(Box::new(plan.clone()))], Some(Duration::ZERO))
        }
    }
}

fn follow(observed: &Observed, plan: &Plan, status: &mut BenchmarkRunStatus, now: Timestamp) -> Next {
    let run = &observed.run;
    let Some(job) = &observed.job else {
        if status::is_true(status, conditions::WORKERS_READY).is_some() {
            let message = "the run's Job was removed by somebody; another one could pay twice what the first one sent";
            status::finish(status, RunVerdict::Error, reasons::JOB_GONE, message, now);
            return (Vec::new(), None);
        }
        if run.spec.stop {
            status::finish(status, RunVerdict::Inconclusive, reasons::STOPPED, "stopped before it began", now);
            return (Vec::new(), None);
        }
        set(status, conditions::WORKERS_READY, Is::False, reasons::STARTING, "its Job is made", now);
        status.workers =
            Some(WorkersStatus { replicas: 1, ready: 0, restarts: 0, selector: build::selector(&run.name_any()) });
        say(status, reasons::STARTING, "the run's pod is asked for");
        return (vec![Act::CarryOut(Box::new(plan.clone()))], Some(FOLLOW_EVERY));
    };
    if over(job) {
        conclude(observed, job, status, now);
        return (Vec::new(), None);
    }
    workers(observed, status, now);
    if let Some(standing) = &observed.standing {
        progress(standing, status, now);
    }
    if run.spec.stop {
        say(status, reasons::STOPPED, "spec.stop ends the run: what was accepted is worked off and reported");
        let acts = if stopped(job) { Vec::new() } else { vec![Act::Stop] };
        return (acts, Some(FOLLOW_EVERY));
    }
    if let Some(trouble) = never_began(observed, plan, status, now) {
        status::finish(status, RunVerdict::Error, &trouble.reason, trouble.message, now);
        return (vec![Act::Stop], None);
    }
    (Vec::new(), Some(FOLLOW_EVERY))
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

fn workers(observed: &Observed, status: &mut BenchmarkRunStatus, now: Timestamp) {
    let ready = observed.pods.iter().filter(|pod| pods::ready(pod)).count();
    if let Some(workers) = &mut status.workers {
        workers.ready = i32::try_from(ready).unwrap_or(i32::MAX);
    }
    let trouble = observed.pods.iter().find_map(pods::trouble);
    match trouble {
        Some(Trouble { reason, message }) => {
            set(status, conditions::WORKERS_READY, Is::False, &reason, message.clone(), now);
            say(status, &reason, message);
        }
        None if ready > 0 => {
            set(status, conditions::WORKERS_READY, Is::True, reasons::READY, "the run's pod is ready", now);
        }
        None if status::is_true(status, conditions::WORKERS_READY) == Some(false) => {
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
    let past = [
        (Stage::Running, &[conditions::PROVISIONED, conditions::KEYS_READY, conditions::NONCES_SEEDED][..]),
        (Stage::Draining, &[conditions::LOAD_COMPLETED]),
        (Stage::Auditing, &[conditions::SETTLED]),
    ];
    for (after, reached) in past {
        for condition in reached {
            if *stage >= after && status::is_true(status, condition).is_none() {
                set(status, condition, Is::True, reasons::DONE, "", now);
            }
        }
    }
    let message = if phase.is_empty() {
        format!("{stage:?}")
    } else {
        format!("{stage:?}: {phase}, {percent} % of the load, {succeeded} of {offered} transfers succeeded")
    };
    say(status, &format!("{:?}", status::phase(*stage)), message);
}

/// Why the run's pod did not come to work in time.
fn never_began(observed: &Observed, plan: &Plan, status: &BenchmarkRunStatus, now: Timestamp) -> Option<Trouble> {
    let Time(started) = status.start_time.as_ref()?;
    let patience = SignedDuration::from_millis(i64::try_from(Deadlines::of(plan).provision_ms).unwrap_or(i64::MAX));
    let provisioned = status::is_true(status, conditions::PROVISIONED) == Some(true);
    if observed.standing.is_some() || provisioned || now.duration_since(*started) < patience {
        return None;
    }
    let minutes = patience.as_mins();
    let Trouble { reason, message } = observed
        .pods
        .iter()
        .find_map(pods::trouble)
        .unwrap_or_else(|| Trouble::new("NeverReady", "the run's pod did not become ready"));
    Some(Trouble { reason, message: format!("given up after {minutes} minutes: {message}") })
}

/// The Job is over: its report counts, or the reason why there is none.
fn conclude(observed: &Observed, job: &Job, status: &mut BenchmarkRunStatus, now: Timestamp) {
    match &observed.report {
        Ok(Some(report)) => status::finish_with(status, report.clone(), now),
        Err(error) => {
            status::finish(status, RunVerdict::Error, reasons::REPORT_UNREADABLE, error.to_string(), now);
        }
        Ok(None) if stopped(job) || observed.run.spec.stop => {
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
            let verdict = if reason == reasons::STOPPED { RunVerdict::Inconclusive } else { RunVerdict::Error };
            status::finish(status, verdict, &reason, message, now);
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
