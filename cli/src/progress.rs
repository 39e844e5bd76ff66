//! What a person sees while waiting: bars on a terminal, plain lines elsewhere. Always on standard error, so that
//! standard output holds results only.

use crate::output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nearbench_core::{lifecycle::Stage, measure::Live, standing::Standing};
use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Between two plain lines of the same stage.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last_line: Mutex<Option<Instant>>,
    standing: watch::Sender<Standing>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = (std::io::stderr().is_terminal() && !output::is_json()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, last_line: Mutex::default(), standing: watch::Sender::new(Standing::at(Stage::Pending)) }
    }

    /// The same for those who follow the run from elsewhere.
    pub(crate) fn follow(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// The run's life enters a stage.
    pub(crate) fn enter(&self, stage: Stage) {
        self.standing.send_modify(|standing| standing.stage = stage);
    }

    /// What keeps the run from going on just now, for those who follow it; `None`: nothing any more.
    pub(crate) fn trouble(&self, trouble: Option<String>) {
        self.standing.send_if_modified(|standing| {
            let changed = standing.trouble != trouble;
            standing.trouble = trouble;
            changed
        });
    }

    /// A new stage of the run begins.
    pub(crate) fn stage(&self, name: &str) {
        *self.last_line.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.print(&format!("==> {name}"));
        if let Some(bar) = &self.bar {
            bar.reset_elapsed();
            bar.set_style(spinner());
            bar.set_message(name.to_owned());
        }
    }

    /// Something worth a line was done.
    pub(crate) fn step(&self, text: &str) {
        self.print(&format!("    {text}"));
    }

    /// How the load stands in `phase`. `remaining` is the time until its schedule ends.
    /// `workers` are how many of how many processes are at work, where the run has some.
    pub(crate) fn load(&self, live: &Live, phase: &str, remaining: Duration, workers: Option<(usize, usize)>) {
        self.standing.send_modify(|standing| standing.under_load(phase, live));
        let left = humantime::format_duration(Duration::from_secs(remaining.as_secs()));
        let counts = format!(
            "offered {}  succeeded {}  failed {}  in flight {}  {:.0} TPS  p95 {}  queue {}",
            live.offered,
            live.succeeded,
            live.failed,
            live.in_flight,
            live.lately.tps,
            live.settle.map_or_else(|| "-".to_owned(), |settle| format!("{:.2} s", settle.p95 / 1000.0)),
            live.queue_depth,
        );
        let workers = workers.map_or_else(String::new, |(ready, all)| format!("  workers {ready}/{all}"));
        let counts = counts + &workers;
        if let Some(bar) = &self.bar {
            bar.set_style(load_bar());
            bar.set_position(live.percent as u64);
            bar.set_prefix(format!("{phase}  load ends in {left}"));
            bar.set_message(counts);
        } else {
            self.now_and_then(|| format!("{phase} {:>3.0} %  load ends in {left}  {counts}", live.percent));
        }
    }

    /// How the transfers that are still under way after the load stand.
    pub(crate) fn drain(&self, live: &Live) {
        let Live { succeeded, failed, in_flight, queue_depth, .. } = live;
        self.standing.send_modify(|standing| standing.working_off(live));
        self.status("Draining", || {
            format!("succeeded {succeeded}  failed {failed}  in flight {in_flight}  queue {queue_depth}")
        });
    }

    /// How far the audit has walked.
    pub(crate) fn audit(&self, reached: u64, last: u64) {
        self.status("Auditing", || format!("block {reached} of {last}"));
    }

    fn status(&self, stage: &str, text: impl Fn() -> String) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{stage}: {}", text())),
            None => self.now_and_then(text),
        }
    }

    /// A plain line: the first of a stage at once, the next ones not too close.
    fn now_and_then(&self, text: impl Fn() -> String) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            *last = Some(Instant::now());
            self.step(&text());
        }
    }

    /// No more is to come.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => output::note(line),
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn load_bar() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}  [{bar:24}] {percent} %\n{msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
