//! Drives a run's life: feeds `core::lifecycle` with what happens and carries out one stage's work at a time.
//! What comes after what, and until when, is decided there and not here.

use crate::{exit::Failure, output};
use nearbench_core::{
    lifecycle::{Action, Deadlines, Event, Lifecycle, Stage},
    plan::Plan,
    verdict::Verdict,
};
use std::{future::Future, pin::pin, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A run's life and what it hears of.
pub(crate) struct Driver {
    life: Lifecycle,
    began: Instant,
    interrupt: CancellationToken,
    interrupted: bool,
    /// The first thing that went wrong: it explains the rest.
    error: Option<Failure>,
}

impl Driver {
    /// A run that begins now; `interrupt` is cancelled when somebody wants it to end.
    pub(crate) fn begin(plan: &Plan, interrupt: CancellationToken) -> Self {
        let life = Lifecycle::new(Deadlines::of(plan), plan.cleanup);
        let mut driver = Self { life, began: Instant::now(), interrupt, interrupted: false, error: None };
        driver.feed(Event::Admitted);
        driver
    }

    /// What is to be done now; `None` at the end.
    pub(crate) fn action(&self) -> Option<Action> {
        self.life.action()
    }

    /// Where the run stands.
    pub(crate) fn stage(&self) -> Stage {
        self.life.stage()
    }

    /// Whether the load was cut short, or never began.
    pub(crate) fn stopped_early(&self) -> bool {
        self.life.stopped_early()
    }

    /// The first thing that went wrong.
    pub(crate) fn into_error(self) -> Option<Failure> {
        self.error
    }

    /// The report is made.
    pub(crate) fn reported(&mut self, verdict: Verdict) {
        self.feed(Event::Reported(verdict));
    }

    /// Carries out `stage`'s work until it is done, fails, or its time is over. When the stage ends before its work,
    /// `cut` is cancelled, and the work has to come to its end by itself; without `cut` it is dropped.
    pub(crate) async fn during<T>(
        &mut self,
        stage: Stage,
        cut: Option<&CancellationToken>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let deadline = self.life.deadline_ms().map(|ms| self.began + Duration::from_millis(ms));
            tokio::select! {
                result = &mut work => return self.done(stage, result),
                () = self.interrupt.cancelled(), if !self.interrupted => {
                    self.interrupted = true;
                    output::note(leads_to(stage));
                    self.feed(Event::StopRequested);
                }
                () = until(deadline) => self.feed(Event::Tick),
            }
            if self.life.stage() != stage {
                let cut = cut?;
                cut.cancel();
                return self.done(stage, work.await);
            }
        }
    }

    fn done<T>(&mut self, stage: Stage, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => {
                self.feed(Event::Done(stage));
                Some(value)
            }
            Err(failure) => {
                self.feed(Event::Failed(stage, failure.error.to_string()));
                self.error.get_or_insert(failure);
                None
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let known = self.life.failures().len();
        let (life, _) = self.life.clone().step(event.clone(), now_ms);
        // A deadline is told by the life alone; other failures come with their own error.
        if matches!(event, Event::Tick)
            && let Some(failure) = life.failures().get(known)
        {
            let error = anyhow::anyhow!("{:?}: {}", failure.stage, failure.reason);
            self.error.get_or_insert(Failure::run(error));
        }
        self.life = life;
    }
}

/// What the first Ctrl-C in `stage` leads to.
pub(crate) fn leads_to(stage: Stage) -> &'static str {
    match stage {
        Stage::Pending | Stage::Provisioning | Stage::Held => {
            "stopping after the step under way; nothing was offered; Ctrl-C again ends at once"
        }
        Stage::Running => "stopping: what was accepted is worked off and reported; Ctrl-C again ends at once",
        Stage::Draining | Stage::Auditing | Stage::Reporting => {
            "the load is complete: the run goes on to its report; Ctrl-C again ends at once, without one"
        }
        Stage::CleaningUp | Stage::Finished => "the run's keys are being removed; Ctrl-C again ends at once",
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        // A moment later than the deadline, so that it has passed by a clock that counts whole milliseconds.
        Some(deadline) => tokio::time::sleep_until(deadline + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}
