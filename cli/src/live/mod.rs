//! What a run that is under way looks like to whoever watches it: made of how it says that it stands, on this machine and in
//! a cluster alike. Where it is drawn is not known here.

pub(crate) mod cluster;
pub(crate) mod server;

use nearbench_core::{
    history::{History, Point},
    lifecycle::Stage,
    plan::Phase,
    schedule::target_rate,
    standing::{Figures, Standing},
};
use serde::Serialize;

/// A run, and what was seen of it so far.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    name: String,
    place: String,
    phases: Vec<Phase>,
    history: History,
}

/// What there is to be seen at one moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View<'a> {
    /// The run's name.
    pub(crate) name: &'a str,
    /// Where it is.
    pub(crate) place: &'a str,
    /// The stage of its life, as `kubectl get` shows it.
    pub(crate) stage: String,
    /// What there is to say of it.
    pub(crate) message: Option<String>,
    /// The phases of its load; empty where they are not known.
    pub(crate) phases: &'a [Phase],
    /// Its highest steady rate, in transfers a second.
    pub(crate) target: Option<f64>,
    /// The load's phase; empty before the load.
    pub(crate) phase: String,
    /// How much of the load's time is over, 0 to 100.
    pub(crate) percent: u32,
    /// Until the load ends, in milliseconds; `null` where it is not under way.
    pub(crate) remaining_ms: Option<u64>,
    /// Transfers meant to have arrived by now.
    pub(crate) offered: u64,
    /// Transfers that succeeded.
    pub(crate) succeeded: u64,
    /// What else is counted.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// The worker processes, where the run has some.
    pub(crate) workers: Option<Workers>,
    /// What it did, from when it was first looked at.
    pub(crate) series: &'a [Point],
}

/// Worker processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workers {
    pub(crate) ready: i32,
    pub(crate) replicas: i32,
    pub(crate) restarts: i64,
}

impl Watched {
    /// A run of which nothing was seen yet. `place` says where it is.
    pub(crate) fn new(name: &str, place: &str) -> Self {
        Self { name: name.to_owned(), place: place.to_owned(), phases: Vec::new(), history: History::default() }
    }

    /// Its load has these phases.
    pub(crate) fn load(&mut self, phases: Vec<Phase>) {
        self.phases = phases;
    }

    /// Adds how the run stands now; what there is to be seen then. `stage` and `message` are in the words of whoever tells.
    pub(crate) fn see(
        &mut self,
        stage: String,
        message: Option<String>,
        standing: Standing,
        workers: Option<Workers>,
    ) -> View<'_> {
        self.history.add(&standing);
        let Standing { stage: known, phase, percent, offered, succeeded, figures, .. } = standing;
        let load_ms: u64 = self.phases.iter().map(|phase| phase.duration_ms).sum();
        let is_under_load = known == Stage::Running && !phase.is_empty() && load_ms > 0;
        View {
            name: &self.name,
            place: &self.place,
            stage,
            message,
            phases: &self.phases,
            target: Some(target_rate(&self.phases)).filter(|rate| *rate > 0.0),
            phase,
            percent,
            remaining_ms: is_under_load.then(|| load_ms.saturating_sub(figures.elapsed_ms)),
            offered,
            succeeded,
            figures,
            workers,
            series: self.history.points(),
        }
    }
}
