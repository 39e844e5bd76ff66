//! What the operator counts of its own work.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{fmt, time::Duration};

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Done,
    Conflict,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// The operator's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reconciliations: Family<Labels, Counter>,
    seconds: Histogram,
    under_way: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("nearbench_operator");
        let reconciliations = Family::<Labels, Counter>::default();
        for outcome in [Outcome::Done, Outcome::Conflict, Outcome::Error] {
            // A counter that is there at zero can be rated from the start.
            drop(reconciliations.get_or_create(&Labels { outcome }));
        }
        let seconds = Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]);
        let under_way = Gauge::default();
        registry.register("reconciliations", "Reconciliations by how they ended", reconciliations.clone());
        registry.register_with_unit("reconcile", "How long a reconciliation took", Unit::Seconds, seconds.clone());
        registry.register("runs_under_way", "Runs that began and are not over", under_way.clone());
        Self { registry, reconciliations, seconds, under_way }
    }

    pub(crate) fn reconciled(&self, outcome: Outcome, took: Duration) {
        self.reconciliations.get_or_create(&Labels { outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn under_way(&self, runs: usize) {
        self.under_way.set(i64::try_from(runs).unwrap_or(i64::MAX));
    }

    /// The text format.
    ///
    /// # Errors
    /// Never in practice: it is written to memory.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
