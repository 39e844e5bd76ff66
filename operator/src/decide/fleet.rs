//! The way of a run with workers: `core::lifecycle` says what comes after what and until when; here its events are read off
//! the cluster, and its actions become Jobs and Deployments.
//!
//! Every step is a Job that can be done again, so one that failed is begun anew until its stage's time is over: whoever mends
//! an endpoint or a Secret before the load sees the run go on.

use super::{Act, Next, Observed, release, say};
use crate::{
    build::fleet::{fingerprint, has_own_chain, plan_for},
    names::{self, PLAN_ANNOTATION, Part, conditions, reasons},
    pods::{self, Trouble},
    status::{self, Is, set},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;
use nearbench_core::{
    Plan,
    lifecycle::{Deadlines, Event, Failure, Lifecycle, Stage},
    plan::{Cleanup, Keys, Store},
    verdict::Verdict,
};
use nearbench_crds::{BenchmarkRunStatus, Frozen, Progress, RunPhase, RunVerdict, WorkersStatus};
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3);
/// Before a step that failed is begun anew.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// How long the load waits for workers that are not ready, when others are.
const WORKERS: SignedDuration = SignedDuration::from_secs(90);
/// How long a run that is ready but for its workers waits for the first of them.
const NO_WORKER: SignedDuration = SignedDuration::from_mins(15);
/// How long a run that was deleted under way is kept for its keys.
const FAREWELL: SignedDuration = SignedDuration::from_mins(5);
/// What is said of a step that failed and is begun anew.
const AGAIN: &str = "; it is tried again";
/// Public keys that an Event names; more do not fit.
const NAMED_KEYS: usize = 8;

/// The operator's clock in the words of `core::lifecycle`.
pub(super) fn ms(now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or(0)
}

/// What was learned, and what is to be done about it.
struct Way<'a> {
    observed: &'a Observed,
    plan: &'a Plan,
    life: Lifecycle,
    now: Timestamp,
    acts: Vec<Act>,
}

pub(super) fn follow(observed: &Observed, plan: &Plan, status: &mut BenchmarkRunStatus, now: Timestamp) -> Next {
    let Some(life) = status.lifecycle.clone() else { return (Vec::new(), None) };
    let spec = &observed.run.spec;
    let mut way = Way { observed, plan, life: life.cleaning(spec.cleanup), now, acts: Vec::new() };
    if !observed.report_has_place {
        way.acts.push(Act::PlaceReport);
    }
    way.count_workers(status);
    if spec.stop {
        way.feed(Event::StopRequested);
    }
    way.feed(Event::Tick);
    // A manifest that is in no order holds up neither.
    if let Some(changed) = way.replanned(status) {
        return changed;
    }
    // Each look takes one stage to its end at most; the next one follows at once.
    let before = way.life.stage();
    match before {
        Stage::Pending => way.feed(Event::Admitted),
        Stage::Provisioning => way.provision(status),
        Stage::Held => way.hold(status),
        Stage::Running => way.load(status),
        Stage::Draining | Stage::Auditing | Stage::Reporting => way.conclude(status),
        Stage::CleaningUp => way.clean_up(status),
        Stage::Finished => {}
    }
    let Way { life, mut acts, .. } = way;
    let after = life.stage();
    status.lifecycle = Some(life.clone());
    if after == Stage::Finished {
        acts.extend(finish(observed, &life, status, now));
        return (acts, Some(Duration::ZERO));
    }
    status.phase = Some(status::phase(after));
    (acts, Some(if before == after { LOOK } else { Duration::ZERO }))
}

impl Way<'_> {
    fn feed(&mut self, event: Event) {
        self.life = self.life.clone().step(event, ms(self.now)).0;
    }

    /// What changed in the manifest before the load began: a new plan, and what was made ready is looked at again.
    fn replanned(&mut self, status: &mut BenchmarkRunStatus) -> Option<Next> {
        let Self { observed, plan, now, .. } = *self;
        let (run, stage) = (&observed.run, self.life.stage());
        if status.frozen == Some(Frozen::Everything) || stage > Stage::Held {
            return None;
        }
        let wanted = match observed.wanted.as_ref()? {
            Ok(wanted) => wanted,
            Err(violations) => {
                let faults: Vec<_> = violations.iter().map(ToString::to_string).collect();
                let message = faults.join("; ");
                set(status, conditions::ADMITTED, Is::False, reasons::INVALID_SPEC, message.clone(), now);
                say(status, reasons::INVALID_SPEC, message);
                return Some((Vec::new(), Some(LOOK)));
            }
        };
        if status::is_true(status, conditions::ADMITTED) == Some(false) {
            set(status, conditions::ADMITTED, Is::True, reasons::VALID, "the manifest is in order", now);
        }
        let secret = status.secret_ref.as_ref().map_or("", |secret| &secret.name);
        // How many workers there are is no part of what is measured.
        let wanted = Plan { workers: plan.workers, ..plan_for(run, wanted.clone(), secret) };
        if wanted == *plan {
            return None;
        }
        self.feed(Event::Replanned(Deadlines::in_cluster(&wanted)));
        status.lifecycle = Some(self.life.clone());
        status.summary.get_or_insert_default().target = status::target(&wanted);
        let mut acts = vec![Act::Store(Box::new(wanted))];
        acts.extend(observed.fleet.steps.get(&Part::Provision).map(|job| drop_step(Part::Provision, job)));
        acts.extend(observed.fleet.workers.as_ref().map(|_| Act::Dismiss));
        say(status, reasons::UNDER_WAY, "the manifest changed before the load: all is made ready anew");
        Some((acts, Some(LOOK)))
    }

    fn count_workers(&mut self, status: &mut BenchmarkRunStatus) {
        let Self { observed, .. } = *self;
        let pods: Vec<_> = observed.pods_of(Part::Worker).collect();
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let restarts: i64 = pods.iter().map(|pod| pods::restarts(pod)).sum();
        status.workers = Some(WorkersStatus {
            replicas: count(pods.len()),
            ready: count(pods.iter().filter(|pod| pods::ready(pod)).count()),
            restarts: restarts.max(status.workers.as_ref().map_or(0, |workers| workers.restarts)),
            selector: format!(
                "{}={},{}={}",
                names::RUN_LABEL,
                observed.run.name_any(),
                names::PART_LABEL,
                Part::Worker.name()
            ),
        });
    }

    /// The run's own Redis and chain, and the ways to them.
    fn found(&mut self) {
        let Self { observed, plan, .. } = *self;
        let needed = usize::from(plan.store == Store::Own) + usize::from(has_own_chain(&observed.run));
        // Where there is neither, the first step stands for it.
        let there = needed > 0 || observed.fleet.steps.contains_key(&Part::Provision);
        if observed.fleet.stateful.len() < needed || !there {
            self.acts.push(Act::Found(Box::new(plan.clone())));
        }
    }

    fn begin(&mut self, part: Part) {
        let stopped_early = self.life.stopped_early();
        self.acts.push(Act::Begin { part, plan: Box::new(self.plan.clone()), stopped_early });
    }

    /// What keeps the pods of a part from their work.
    fn trouble(&self, parts: &[Part]) -> Option<Trouble> {
        parts.iter().find_map(|part| {
            self.observed
                .pods_of(*part)
                .find_map(pods::trouble)
                .map(|trouble| Trouble { message: format!("{}: {}", part.name(), trouble.message), ..trouble })
        })
    }

    /// A step on its way: begins it, and begins it anew where it failed. Its end, if it came to it; meanwhile `condition`
    /// says what stands in its way.
    fn step(&mut self, part: Part, condition: &str, what: &str, status: &mut BenchmarkRunStatus) -> bool {
        let Self { observed, now, .. } = *self;
        let Some(job) = observed.fleet.steps.get(&part) else {
            if observed.pods_of(part).next().is_none() {
                self.begin(part);
            }
            let known = status.conditions.iter().find(|known| known.type_ == condition && known.status == "False");
            if known.is_none_or(|known| known.reason == reasons::UNDER_WAY) {
                set(status, condition, Is::False, reasons::UNDER_WAY, what, now);
                say(status, reasons::UNDER_WAY, what);
            }
            return false;
        };
        if ended(job, "Complete") {
            return true;
        }
        if let Some(since) = failed_at(job) {
            let trouble = self
                .trouble(&[part])
                .or_else(|| super::job_trouble(job))
                .unwrap_or_else(|| Trouble::new(reasons::TROUBLE, format!("Job {} failed", job.name_any())));
            let message = trouble.message + AGAIN;
            set(status, condition, Is::False, &trouble.reason, message.clone(), now);
            say(status, &trouble.reason, message);
            if now.duration_since(since) >= RETRY {
                self.acts.push(drop_step(part, job));
            }
            return false;
        }
        let stuck = self.trouble(&[Part::Redis, Part::Devnet, part]);
        let told = observed.standing.as_ref().and_then(|standing| standing.trouble.clone());
        let no_pod = || {
            let made = job.metadata.creation_timestamp.as_ref().map(|Time(made)| *made)?;
            (observed.pods_of(part).next().is_none() && now.duration_since(made) >= super::POD_AFTER).then(|| {
                let name = job.name_any();
                let message =
                    format!("Job {name} makes no pod: `kubectl describe job {name}` says why (quota, admission)");
                Trouble::new(reasons::NO_POD, message)
            })
        };
        match stuck.or_else(|| told.map(|told| Trouble::new(reasons::TROUBLE, told))).or_else(no_pod) {
            Some(Trouble { reason, message }) => {
                set(status, condition, Is::False, &reason, message.clone(), now);
                say(status, &reason, message);
            }
            // What it failed of before stays to be read until it got past it.
            None if observed.pods_of(part).any(pods::ready) || status::is_true(status, condition).is_none() => {
                let known = status.conditions.iter().find(|known| known.type_ == condition);
                if known.is_none_or(|known| [reasons::UNDER_WAY, reasons::TROUBLE].contains(&known.reason.as_str())) {
                    set(status, condition, Is::False, reasons::UNDER_WAY, what, now);
                    say(status, reasons::UNDER_WAY, what);
                }
            }
            None => {}
        }
        false
    }

    fn provision(&mut self, status: &mut BenchmarkRunStatus) {
        self.found();
        let job = self.observed.fleet.steps.get(&Part::Provision);
        // One that was made for an earlier plan says nothing of this one.
        if let Some(job) = job.filter(|job| job.annotations().get(PLAN_ANNOTATION) != Some(&fingerprint(self.plan))) {
            self.acts.push(drop_step(Part::Provision, job));
            return;
        }
        let what = "account, keys, token and receivers are made ready";
        if self.step(Part::Provision, conditions::PROVISIONED, what, status) {
            for reached in [conditions::PROVISIONED, conditions::KEYS_READY, conditions::NONCES_SEEDED] {
                set(status, reached, Is::True, reasons::DONE, "", self.now);
            }
            // Held until its workers are there.
            self.feed(Event::Suspend(true));
            self.feed(Event::Done(Stage::Provisioning));
        }
    }

    /// All is ready but the workers, or somebody holds the run.
    fn hold(&mut self, status: &mut BenchmarkRunStatus) {
        let Self { observed, now, .. } = *self;
        let spec = &observed.run.spec;
        // A plan may have been stored by an operator that died before it said so.
        let provisioned = observed.fleet.steps.get(&Part::Provision);
        if provisioned.and_then(|job| job.annotations().get(PLAN_ANNOTATION)) != Some(&fingerprint(self.plan)) {
            self.acts.extend(observed.fleet.workers.as_ref().map(|_| Act::Dismiss));
            self.feed(Event::Replanned(Deadlines::in_cluster(self.plan)));
            return;
        }
        if spec.suspend {
            say(status, reasons::SUSPENDED, "ready for its load; spec.suspend holds it");
            return;
        }
        if self.workers_are_ready(status) {
            status.frozen = Some(Frozen::Everything);
            self.feed(Event::Suspend(false));
            return;
        }
        // A run that is held by somebody waits without end; this one does not.
        let since = status.conditions.iter().find(|known| known.type_ == conditions::PROVISIONED);
        let since = since.map(|known| now.duration_since(known.last_transition_time.0));
        let made = observed.fleet.workers.as_ref().and_then(|workers| workers.metadata.creation_timestamp.as_ref());
        let made = made.map(|Time(made)| now.duration_since(*made));
        if since.is_some_and(|since| since >= NO_WORKER) && made.is_some_and(|made| made >= NO_WORKER) {
            let known = status.conditions.iter().find(|known| known.type_ == conditions::WORKERS_READY);
            let why = known.map_or("no worker became ready", |known| &known.message).to_owned();
            let reason = format!("given up after {} minutes: {why}", NO_WORKER.as_mins());
            self.feed(Event::Failed(Stage::Held, reason));
            self.feed(Event::StopRequested);
        }
    }

    /// Keeps the workers; whether as many are ready as the load waits for.
    fn workers_are_ready(&mut self, status: &mut BenchmarkRunStatus) -> bool {
        let Self { observed, plan, now, .. } = *self;
        let wanted = i32::try_from(observed.run.spec.workers.replicas).unwrap_or(i32::MAX);
        let Some(workers) = &observed.fleet.workers else {
            self.acts.push(Act::Staff(Box::new(plan.clone())));
            set(status, conditions::WORKERS_READY, Is::False, reasons::STARTING, "the workers are asked for", now);
            say(status, reasons::STARTING, "the workers are asked for");
            return false;
        };
        if workers.spec.as_ref().and_then(|spec| spec.replicas) != Some(wanted) {
            self.acts.push(Act::Staff(Box::new(plan.clone())));
        }
        let ready = status.workers.as_ref().map_or(0, |workers| workers.ready);
        let told = format!("{ready} of {wanted} workers are ready");
        if ready >= wanted {
            set(status, conditions::WORKERS_READY, Is::True, reasons::READY, told, now);
            return wanted > 0;
        }
        let trouble = self
            .trouble(&[Part::Redis, Part::Devnet, Part::Worker])
            .unwrap_or_else(|| Trouble::new(reasons::WORKERS_NOT_READY, told));
        let Trouble { reason, message } = trouble;
        set(status, conditions::WORKERS_READY, Is::False, &reason, message.clone(), now);
        say(status, &reason, message);
        let since = workers.metadata.creation_timestamp.as_ref().map(|Time(made)| now.duration_since(*made));
        ready > 0 && since.is_some_and(|since| since >= WORKERS)
    }

    fn load(&mut self, status: &mut BenchmarkRunStatus) {
        let now = self.now;
        self.workers_are_ready(status);
        let Some(job) = self.observed.fleet.steps.get(&Part::Load) else {
            self.begin(Part::Load);
            say(status, reasons::UNDER_WAY, "the generators are asked for");
            return;
        };
        self.progress(status);
        if ended(job, "Complete") {
            self.feed(Event::Done(Stage::Running));
        } else if ended(job, "Failed") {
            let trouble = self.trouble(&[Part::Load]).or_else(|| super::job_trouble(job));
            let Trouble { reason, message } =
                trouble.unwrap_or_else(|| Trouble::new(reasons::TROUBLE, "the generators failed"));
            set(status, conditions::LOAD_COMPLETED, Is::False, &reason, message.clone(), now);
            self.feed(Event::Failed(Stage::Running, message));
        } else {
            let told = self.observed.standing.as_ref().and_then(|standing| standing.trouble.clone());
            let told = told.map(|told| Trouble::new(reasons::TROUBLE, told));
            let trouble = self.trouble(&[Part::Load, Part::Redis, Part::Devnet]).or(told);
            if let Some(Trouble { reason, message }) = trouble {
                set(status, conditions::LOAD_COMPLETED, Is::False, &reason, message.clone(), now);
                say(status, &reason, message);
            } else if status::is_true(status, conditions::LOAD_COMPLETED) == Some(false)
                && self.observed.standing.is_some()
            {
                set(status, conditions::LOAD_COMPLETED, Is::False, reasons::UNDER_WAY, "the load is on its way", now);
            }
        }
    }

    fn progress(&self, status: &mut BenchmarkRunStatus) {
        let Some(progress) = self.observed.standing.as_ref().and_then(Progress::of) else { return };
        let Progress { phase, percent, offered, succeeded, .. } = &progress;
        say(
            status,
            "Running",
            format!("{phase}, {percent} % of the load, {succeeded} of {offered} transfers succeeded"),
        );
        status.progress = Some(progress);
    }

    fn conclude(&mut self, status: &mut BenchmarkRunStatus) {
        let Self { observed, now, .. } = *self;
        self.workers_are_ready(status);
        // A load that was cut short ends in order before it is counted.
        match observed.fleet.steps.get(&Part::Load) {
            Some(job) if !ended(job, "Complete") && !ended(job, "Failed") => {
                if !super::stopped(job) {
                    self.acts.push(Act::EndStep(Part::Load));
                }
                if !super::stopped(job) || observed.pods_of(Part::Load).any(|pod| !pods::is_over(pod)) {
                    say(status, reasons::STOPPED, "the load is told to end");
                    return;
                }
            }
            _ => {}
        }
        if let Some(standing) = &observed.standing {
            // Who concludes tells nothing of it before it has looked.
            let later = |progress: &&mut Progress| standing.figures.elapsed_ms > progress.figures.elapsed_ms;
            if let Some(progress) = status.progress.as_mut().filter(later) {
                progress.succeeded = progress.succeeded.max(standing.succeeded);
                progress.figures = standing.figures.clone();
            }
            for stage in [Stage::Draining, Stage::Auditing] {
                if standing.stage > stage && standing.stage <= Stage::Reporting {
                    self.feed(Event::Done(stage));
                }
            }
        }
        let what = match self.life.stage() {
            Stage::Draining => "what was accepted is worked off",
            Stage::Auditing => "the chain is searched for every transfer",
            _ => "the report is made",
        };
        if !self.step(Part::Audit, conditions::AUDITED, what, status) {
            return;
        }
        for stage in [Stage::Draining, Stage::Auditing] {
            self.feed(Event::Done(stage));
        }
        match &observed.report {
            Ok(Some(report)) => self.feed(Event::Reported(report.verdict)),
            Ok(None) => {
                let message = "no report was delivered";
                set(status, conditions::AUDITED, Is::False, reasons::NO_REPORT, message, now);
                self.feed(Event::Failed(Stage::Reporting, message.to_owned()));
            }
            Err(error) => {
                set(status, conditions::AUDITED, Is::False, reasons::REPORT_UNREADABLE, error.to_string(), now);
                self.feed(Event::Failed(Stage::Reporting, error.to_string()));
            }
        }
    }

    fn clean_up(&mut self, status: &mut BenchmarkRunStatus) {
        let Self { observed, plan, .. } = *self;
        let ends = told_to_end(observed);
        // Nobody signs any more when the keys go, and nobody adds one that is gone.
        if !ends.is_empty() || is_at_work(observed) {
            self.acts.extend(ends);
            say(status, reasons::UNDER_WAY, "the run's processes end");
            return;
        }
        if !has_something_to_clean(observed, plan) {
            self.feed(Event::Done(Stage::CleaningUp));
            return;
        }
        let what = "the run's keys are removed";
        if self.step(Part::CleanUp, conditions::KEYS_READY, what, status) {
            set(status, conditions::KEYS_READY, Is::False, reasons::DONE, "they are off the account", self.now);
            self.feed(Event::Done(Stage::CleaningUp));
        }
    }
}

/// What ends the steps and the workers that were not told yet.
fn told_to_end(observed: &Observed) -> Vec<Act> {
    let steps = [Part::Provision, Part::Load, Part::Audit].into_iter().filter(|part| {
        let job = observed.fleet.steps.get(part);
        job.is_some_and(|job| !ended(job, "Complete") && !ended(job, "Failed") && !super::stopped(job))
    });
    steps.map(Act::EndStep).chain(observed.fleet.workers.as_ref().map(|_| Act::Dismiss)).collect()
}

/// Whether one of their processes is left.
fn is_at_work(observed: &Observed) -> bool {
    let parts = [Part::Worker, Part::Provision, Part::Load, Part::Audit];
    parts.iter().any(|part| observed.pods_of(*part).any(|pod| !pods::is_over(pod)))
}

/// A run that cannot go on: its processes end, and its keys are told.
pub(super) fn abandon(observed: &Observed, why: &str) -> Vec<Act> {
    told_to_end(observed).into_iter().chain(keys_left(observed, why)).collect()
}

/// Keys on a chain of the run's own go with it; what is in a Redis of others would stay.
fn has_something_to_clean(observed: &Observed, plan: &Plan) -> bool {
    let keys = matches!(plan.account.keys, Keys::Generate { .. }) && !has_own_chain(&observed.run);
    keys || matches!(plan.store, Store::Redis { .. })
}

/// The run's life is over: what it was worth, and what goes with it.
fn finish(observed: &Observed, life: &Lifecycle, status: &mut BenchmarkRunStatus, now: Timestamp) -> Vec<Act> {
    let reached_load = status.frozen == Some(Frozen::Everything);
    match &observed.report {
        Ok(Some(report)) if life.verdict().is_some() => status::finish_with(status, report.clone(), now),
        // A cleanup that failed takes nothing from what came of the run.
        _ => match life.failures().iter().find(|failure| failure.stage != Stage::CleaningUp) {
            Some(failure) => {
                let Trouble { reason, message } = explained(failure, status);
                status::finish(status, RunVerdict::Error, &reason, message, now);
            }
            None if reached_load => {
                status::finish(status, RunVerdict::Error, reasons::NO_REPORT, "it ended without a report", now);
            }
            None => {
                let message = "stopped before its load; nothing was offered";
                status::finish(status, RunVerdict::Inconclusive, reasons::STOPPED, message, now);
            }
        },
    }
    let mut acts = Vec::new();
    let cleaned = match observed.run.spec.cleanup {
        Cleanup::Always => true,
        Cleanup::OnSuccess => life.verdict() == Some(Verdict::Passed),
        Cleanup::Never => false,
    };
    if cleaned {
        // A Deployment of that name that is not the run's stays.
        acts.extend(observed.fleet.workers.as_ref().map(|_| Act::Dismiss));
        acts.push(Act::TakeDown);
    }
    // It is told beside it.
    let left = life.failures().iter().find(|failure| failure.stage == Stage::CleaningUp);
    acts.extend(left.and_then(|failure| keys_left(observed, &explained(failure, status).message)));
    acts.extend(release(observed));
    acts
}

/// Why a stage failed: what stood in its way is in its condition.
fn explained(failure: &Failure, status: &BenchmarkRunStatus) -> Trouble {
    let condition = match failure.stage {
        Stage::Pending | Stage::Provisioning => conditions::PROVISIONED,
        Stage::Held => conditions::WORKERS_READY,
        Stage::Running => conditions::LOAD_COMPLETED,
        Stage::Draining | Stage::Auditing | Stage::Reporting => conditions::AUDITED,
        Stage::CleaningUp | Stage::Finished => conditions::KEYS_READY,
    };
    let ordinary = [reasons::UNDER_WAY, reasons::STARTING, reasons::DONE];
    let known = status.conditions.iter().find(|known| known.type_ == condition && known.status == "False");
    let said = format!("{:?}: {}", failure.stage, failure.reason);
    match known.filter(|known| !ordinary.contains(&known.reason.as_str())) {
        Some(known) if said.contains(&known.message) => Trouble::new(&known.reason, said),
        Some(known) => Trouble::new(&known.reason, format!("{said}: {}", known.message.trim_end_matches(AGAIN))),
        None => Trouble::new(reasons::DEADLINE_EXCEEDED, said),
    }
}

/// A run that is deleted under way: nothing is signed any more, its keys go off the account, and then it goes.
pub(super) fn farewell(observed: &Observed, status: &mut BenchmarkRunStatus, now: Timestamp) -> Next {
    let run = &observed.run;
    let gone: Vec<Act> = release(observed).into_iter().chain([Act::LetGo]).collect();
    if status.phase == Some(RunPhase::Finished) || status.secret_ref.is_none() {
        return (gone, None);
    }
    let leave = |why: String| {
        let acts = keys_left(observed, &why).into_iter().chain(release(observed)).chain([Act::LetGo]).collect();
        (acts, None)
    };
    let mut acts = told_to_end(observed);
    let Ok(plan) = &observed.plan else {
        return leave("its plan is gone".to_owned());
    };
    if !has_something_to_clean(observed, plan) {
        return (acts.into_iter().chain(gone).collect(), None);
    }
    if let Some(refused) = &observed.refused {
        return leave(refused.clone());
    }
    let deleted = run.metadata.deletion_timestamp.as_ref().map(|Time(deleted)| now.duration_since(*deleted));
    if deleted.is_some_and(|deleted| deleted >= FAREWELL) {
        let why = status.message.clone().unwrap_or_default();
        return leave(format!("not done within {} minutes: {why}", FAREWELL.as_mins()));
    }
    if is_at_work(observed) {
        say(status, reasons::UNDER_WAY, "deleted: its processes end, then its keys go off the account");
        return (acts, Some(LOOK));
    }
    match observed.fleet.steps.get(&Part::CleanUp) {
        None => acts.push(Act::Begin { part: Part::CleanUp, plan: Box::new(plan.clone()), stopped_early: true }),
        Some(job) if ended(job, "Complete") => return (gone, None),
        Some(job) if ended(job, "Failed") => {
            let trouble = observed.pods_of(Part::CleanUp).find_map(pods::trouble);
            let (reason, message) = trouble.map_or_else(
                || (reasons::TROUBLE.to_owned(), "its cleanup failed".to_owned()),
                |trouble| (trouble.reason, trouble.message),
            );
            // What it was given cannot be used: its Secrets went first.
            if reason == "BadInput" {
                return leave(message);
            }
            say(status, &reason, message);
            acts.push(drop_step(Part::CleanUp, job));
        }
        Some(_) => say(status, reasons::UNDER_WAY, "deleted: its keys go off the account"),
    }
    (acts, Some(LOOK))
}

/// What is told of keys that may be on chain, to whoever can still remove them.
fn keys_left(observed: &Observed, why: &str) -> Option<Act> {
    let status = observed.run.status.as_ref()?;
    let keys = &status.public_keys;
    if keys.is_empty() || has_own_chain(&observed.run) {
        return None;
    }
    let named: Vec<_> = keys.iter().take(NAMED_KEYS).map(String::as_str).collect();
    let more = keys.len().saturating_sub(NAMED_KEYS);
    let more = if more > 0 { format!(" and {more} more (`near account list-keys`)") } else { String::new() };
    let account = &observed.run.spec.account.account_id;
    Some(Act::TellKeys(format!(
        "{why}: access keys of {account} may be left on chain; remove them with `nearbench remove-keys MANIFEST {}`{more}",
        named.join(" ")
    )))
}

fn drop_step(part: Part, job: &Job) -> Act {
    Act::DropStep(part, job.uid().unwrap_or_default())
}

/// Whether a Job ended in this way.
fn ended(job: &Job, how: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| conditions.iter().any(|c| c.status == "True" && c.type_ == how))
}

/// When a Job failed.
fn failed_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions.iter().find(|condition| condition.status == "True" && condition.type_ == "Failed")?;
    failed.last_transition_time.as_ref().map(|Time(at)| *at)
}
