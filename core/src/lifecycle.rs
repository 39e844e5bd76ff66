//! The life of a run: provision, run, drain, audit, report, clean up.
//!
//! One pure state machine for whoever drives a run. It says what to do next and until when; it does nothing
//! itself. Whatever goes wrong, a run that began its load is drained, audited and reported, and a run that began
//! provisioning is cleaned up, unless the plan says otherwise.

use crate::{
    plan::{Cleanup, Plan},
    verdict::Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Not begun.
    Pending,
    /// Account, keys, token and receivers are being made ready.
    Provisioning,
    /// Ready for its load, and held by `suspend`.
    Held,
    /// Under load.
    Running,
    /// The load is over; what is under way is being settled.
    Draining,
    /// The chain is being searched for every transfer.
    Auditing,
    /// The report is being made.
    Reporting,
    /// Keys are being removed.
    CleaningUp,
    /// Over.
    Finished,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The run may begin.
    Admitted,
    /// The work of this stage is done.
    Done(Stage),
    /// The report is made, with this verdict: the end of [`Stage::Reporting`].
    Reported(Verdict),
    /// The work of this stage failed, for this reason.
    Failed(Stage, String),
    /// Somebody wants the run to end.
    StopRequested,
    /// Hold the run before its load, or no longer.
    Suspend(bool),
    /// The plan was changed, and these are its bounds: what was made ready before is looked at again.
    Replanned(Deadlines),
    /// Time passed.
    Tick,
}

/// What to do now. The work of the stage before it, if any is left, ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Make account, keys, token and receivers ready.
    Provision,
    /// Start the load.
    StartLoad,
    /// Send nothing more. What was accepted is still carried to the chain.
    StopLoad,
    /// Settle what is under way.
    Drain,
    /// Search the chain for every transfer.
    Audit,
    /// Make the report. `stopped_early`: the load did not run to its end.
    Report {
        /// Whether the load was cut short.
        stopped_early: bool,
    },
    /// Remove the run's keys.
    CleanUp,
}

/// How long each stage may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deadlines {
    /// Provisioning.
    pub provision_ms: u64,
    /// The load.
    pub run_ms: u64,
    /// Settling what is under way at the load's end.
    pub drain_ms: u64,
    /// The audit.
    pub audit_ms: u64,
    /// The report.
    pub report_ms: u64,
    /// Removing the keys.
    pub clean_up_ms: u64,
    /// All until the load's end; `None`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_ms: Option<u64>,
}

const MINUTE_MS: u64 = 60_000;

impl Deadlines {
    /// Generous bounds for a plan: they end what hangs, and hurry nothing.
    pub fn of(plan: &Plan) -> Self {
        let load_ms: u64 = plan.load.phases.iter().map(|phase| phase.duration_ms).sum();
        Self {
            provision_ms: 15 * MINUTE_MS,
            run_ms: load_ms + MINUTE_MS,
            drain_ms: 5 * MINUTE_MS + plan.load.timeout_ms,
            // The audit walks the load's blocks, and reads them faster than they were made.
            audit_ms: 5 * MINUTE_MS + load_ms,
            report_ms: MINUTE_MS,
            clean_up_ms: 5 * MINUTE_MS,
            active_ms: plan.active_deadline_ms,
        }
    }

    /// The same where each stage is a process of its own, which has to be given a place and an image first.
    pub fn in_cluster(plan: &Plan) -> Self {
        const PLACED_MS: u64 = 10 * MINUTE_MS;
        let alone = Self::of(plan);
        Self {
            run_ms: alone.run_ms + PLACED_MS,
            drain_ms: alone.drain_ms + PLACED_MS,
            clean_up_ms: alone.clean_up_ms + PLACED_MS,
            ..alone
        }
    }
}

/// Why a run could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// In which stage.
    pub stage: Stage,
    /// Why.
    #[schemars(length(max = 32_768))]
    pub reason: String,
}

/// A run's life so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    stage: Stage,
    entered_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admitted_ms: Option<u64>,
    suspended: bool,
    stopped_early: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
    #[schemars(length(max = 32))]
    failures: Vec<Failure>,
    deadlines: Deadlines,
    cleanup: Cleanup,
}

impl Lifecycle {
    /// When the keys are to be removed, from now on.
    #[must_use]
    pub fn cleaning(mut self, cleanup: Cleanup) -> Self {
        self.cleanup = cleanup;
        self
    }

    /// A run that has not begun.
    pub fn new(deadlines: Deadlines, cleanup: Cleanup) -> Self {
        Self {
            stage: Stage::Pending,
            entered_ms: 0,
            admitted_ms: None,
            suspended: false,
            stopped_early: false,
            verdict: None,
            failures: Vec::new(),
            deadlines,
            cleanup,
        }
    }

    /// Where the run stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What the report says; `None` without one.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether the load was cut short, or never begun.
    pub fn stopped_early(&self) -> bool {
        self.stopped_early
    }

    /// What failed, in order. A failed cleanup is told, and takes nothing from the verdict.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// What is being done: an idempotent action can be begun again by a driver that was restarted.
    pub fn action(&self) -> Option<Action> {
        match self.stage {
            Stage::Pending | Stage::Held | Stage::Finished => None,
            Stage::Provisioning => Some(Action::Provision),
            Stage::Running => Some(Action::StartLoad),
            Stage::Draining => Some(Action::Drain),
            Stage::Auditing => Some(Action::Audit),
            Stage::Reporting => Some(Action::Report { stopped_early: self.stopped_early }),
            Stage::CleaningUp => Some(Action::CleanUp),
        }
    }

    /// When to send the next [`Event::Tick`], in milliseconds on the caller's clock.
    pub fn deadline_ms(&self) -> Option<u64> {
        let deadlines = &self.deadlines;
        let stage = match self.stage {
            Stage::Pending | Stage::Held | Stage::Finished => None,
            Stage::Provisioning => Some(deadlines.provision_ms),
            Stage::Running => Some(deadlines.run_ms),
            Stage::Draining => Some(deadlines.drain_ms),
            Stage::Auditing => Some(deadlines.audit_ms),
            Stage::Reporting => Some(deadlines.report_ms),
            Stage::CleaningUp => Some(deadlines.clean_up_ms),
        };
        let stage = stage.map(|ms| self.entered_ms.saturating_add(ms));
        [stage, self.active_deadline_ms()].into_iter().flatten().min()
    }

    fn active_deadline_ms(&self) -> Option<u64> {
        let until_load_ends = self.stage <= Stage::Running;
        until_load_ends.then(|| Some(self.admitted_ms?.saturating_add(self.deadlines.active_ms?))).flatten()
    }

    /// Takes an event at `now_ms` and says what to do now. An event of another stage changes nothing: it is late.
    #[must_use]
    pub fn step(mut self, event: Event, now_ms: u64) -> (Self, Vec<Action>) {
        let actions = match event {
            Event::Admitted if self.stage == Stage::Pending => {
                self.admitted_ms = Some(now_ms);
                self.enter(Stage::Provisioning, now_ms)
            }
            Event::Done(stage) if stage == self.stage && stage != Stage::Reporting => self.next(now_ms),
            Event::Reported(verdict) if self.stage == Stage::Reporting => {
                self.verdict = Some(verdict);
                self.next(now_ms)
            }
            Event::Failed(stage, reason) if stage == self.stage => self.fail(reason, now_ms),
            Event::StopRequested => self.stop(now_ms),
            Event::Suspend(suspended) => {
                self.suspended = suspended;
                if self.stage == Stage::Held && !suspended { self.enter(Stage::Running, now_ms) } else { Vec::new() }
            }
            Event::Replanned(deadlines) if self.stage <= Stage::Held => {
                self.deadlines = deadlines;
                if self.stage == Stage::Held { self.enter(Stage::Provisioning, now_ms) } else { Vec::new() }
            }
            Event::Tick => self.tick(now_ms),
            Event::Admitted | Event::Done(_) | Event::Reported(_) | Event::Failed(..) | Event::Replanned(_) => {
                Vec::new()
            }
        };
        (self, actions)
    }

    fn enter(&mut self, stage: Stage, now_ms: u64) -> Vec<Action> {
        self.stage = stage;
        self.entered_ms = now_ms;
        self.action().into_iter().collect()
    }

    /// The way after a stage's work, done or not.
    fn next(&mut self, now_ms: u64) -> Vec<Action> {
        let stage = match self.stage {
            Stage::Pending | Stage::Held | Stage::Finished => return Vec::new(),
            Stage::Provisioning if !self.failures.is_empty() || self.stopped_early => {
                return self.clean_up(now_ms);
            }
            Stage::Provisioning if self.suspended => Stage::Held,
            Stage::Provisioning => Stage::Running,
            Stage::Running => Stage::Draining,
            Stage::Draining => Stage::Auditing,
            Stage::Auditing => Stage::Reporting,
            Stage::Reporting => return self.clean_up(now_ms),
            Stage::CleaningUp => Stage::Finished,
        };
        self.enter(stage, now_ms)
    }

    fn clean_up(&mut self, now_ms: u64) -> Vec<Action> {
        let wanted = match self.cleanup {
            Cleanup::Always => true,
            Cleanup::OnSuccess => self.verdict == Some(Verdict::Passed),
            Cleanup::Never => false,
        };
        self.enter(if wanted { Stage::CleaningUp } else { Stage::Finished }, now_ms)
    }

    fn fail(&mut self, reason: String, now_ms: u64) -> Vec<Action> {
        let stage = self.stage;
        self.failures.push(Failure { stage, reason });
        if stage == Stage::Running {
            return self.stop(now_ms);
        }
        self.next(now_ms)
    }

    fn stop(&mut self, now_ms: u64) -> Vec<Action> {
        match self.stage {
            Stage::Pending => {
                self.stopped_early = true;
                self.enter(Stage::Finished, now_ms)
            }
            Stage::Provisioning | Stage::Held => {
                self.stopped_early = true;
                self.clean_up(now_ms)
            }
            Stage::Running => {
                self.stopped_early = true;
                let mut actions = vec![Action::StopLoad];
                actions.extend(self.next(now_ms));
                actions
            }
            // The load is over: what is left is brought to its end.
            Stage::Draining | Stage::Auditing | Stage::Reporting | Stage::CleaningUp | Stage::Finished => Vec::new(),
        }
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Action> {
        if self.active_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            let stage = self.stage;
            self.failures.push(Failure { stage, reason: "activeDeadlineSeconds is over".to_owned() });
            return self.stop(now_ms);
        }
        match self.deadline_ms() {
            Some(deadline_ms) if deadline_ms <= now_ms => {
                let seconds = (deadline_ms - self.entered_ms) / 1_000;
                self.fail(format!("not done within {seconds} s"), now_ms)
            }
            _ => Vec::new(),
        }
    }
}
