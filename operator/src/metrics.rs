//! What the operator counts of its own work, and the last result of each run that the cluster keeps: runs outlive their pods.

use kube::{ResourceExt, runtime::reflector::Store};
use nearbench_crds::BenchmarkRun;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use std::{fmt, sync::Arc, time::Duration};

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
    leader: Gauge,
}

/// The runs that the cluster keeps, as the operator last saw them.
struct Kept(Store<BenchmarkRun>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Collector for Kept {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        of_runs(&self.0.state(), encoder)
    }
}

/// The labels of a run. That of its namespace is called so that no scraper's own takes its place.
fn labels(run: &BenchmarkRun) -> Vec<(&'static str, String)> {
    vec![("run_namespace", run.namespace().unwrap_or_default()), ("run", run.name_any())]
}

/// What each run's status says, as gauges; what it does not say is absent.
fn of_runs(runs: &[Arc<BenchmarkRun>], mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let mut gauges = |name: &str, help: &str, of: &dyn Fn(&BenchmarkRun) -> Option<f64>| {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for run in runs {
            if let Some(value) = of(run) {
                ConstGauge::new(value).encode(family.encode_family(&labels(run))?)?;
            }
        }
        Ok(())
    };
    let measures = |run: &BenchmarkRun| Some(run.status.as_ref()?.results.as_ref()?.measures);
    let help = "Transfers a second that succeeded in the longest phase of a run that is over";
    gauges("nearbench_run_tps", help, &|run| Some(measures(run)?.tps.mean))?;
    let help = "The highest steady arrival rate of a run, in transfers a second";
    gauges("nearbench_run_target_tps", help, &|run| run.status.as_ref()?.summary.as_ref()?.target.parse().ok())?;
    let help = "Of the transfers that a run offered, those that succeeded";
    gauges("nearbench_run_success_percent", help, &|run| measures(run)?.success_rate)?;
    let help = "95th percentile of a run's settle latency";
    gauges("nearbench_run_settle_p95_seconds", help, &|run| Some(measures(run)?.latency_ms.settle?.p95 / 1_000.0))?;
    let help = "When the time of the stage that a run is in is over, as a Unix time";
    gauges("nearbench_run_phase_deadline_seconds", help, &|run| {
        Some(run.status.as_ref()?.lifecycle.as_ref()?.deadline_ms()? as f64 / 1_000.0)
    })?;
    let help = "1 for every run that the cluster keeps";
    let mut family = encoder.encode_descriptor("nearbench_run_info", help, None, MetricType::Gauge)?;
    for run in runs {
        let (phase, verdict) = run.status.as_ref().map_or((None, None), |status| (status.phase, status.verdict));
        let mut labels = labels(run);
        labels.push(("phase", phase.map_or_else(|| "Pending".to_owned(), |phase| format!("{phase:?}"))));
        labels.push(("verdict", verdict.map_or_else(String::new, |verdict| format!("{verdict:?}"))));
        ConstGauge::new(1.0).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Metrics {
    /// Nothing done yet; `runs` are those that the cluster keeps.
    pub(crate) fn new(runs: Store<BenchmarkRun>) -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Kept(runs)));
        let registry = all.sub_registry_with_prefix("nearbench_operator");
        let reconciliations = Family::<Labels, Counter>::default();
        for outcome in [Outcome::Done, Outcome::Conflict, Outcome::Error] {
            // A counter that is there at zero can be rated from the start.
            drop(reconciliations.get_or_create(&Labels { outcome }));
        }
        let seconds = Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]);
        let (under_way, leader) = (Gauge::default(), Gauge::default());
        registry.register("reconciliations", "Reconciliations by how they ended", reconciliations.clone());
        registry.register_with_unit("reconcile", "How long a reconciliation took", Unit::Seconds, seconds.clone());
        registry.register("runs_under_way", "Runs that began and are not over", under_way.clone());
        registry.register("leader", "Whether this operator is the one that works", leader.clone());
        Self { registry: all, reconciliations, seconds, under_way, leader }
    }

    pub(crate) fn reconciled(&self, outcome: Outcome, took: Duration) {
        self.reconciliations.get_or_create(&Labels { outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn under_way(&self, runs: usize) {
        self.under_way.set(i64::try_from(runs).unwrap_or(i64::MAX));
    }

    /// OpenMetrics. `leads`: this operator is the one that works.
    ///
    /// # Errors
    /// Never in practice: it is written to memory.
    pub(crate) fn text(&self, leads: bool) -> Result<String, fmt::Error> {
        self.leader.set(i64::from(leads));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kube::runtime::{reflector::store, watcher::Event};

    #[test]
    fn the_last_result_of_a_run_is_told_and_what_it_does_not_have_is_not() {
        let run = |name: &str, status: serde_json::Value| -> BenchmarkRun {
            let spec = serde_json::json!({
                "network": {"profile": "devnet"}, "account": {"accountId": "bench.near"},
                "token": {"contractId": "ft.bench.near"}, "receivers": {"count": 1},
                "load": {"phases": [{"name": "steady", "duration": 1, "arrivalRate": 1}]},
            });
            let mut run = BenchmarkRun::new(name, serde_json::from_value(spec).unwrap());
            run.metadata.namespace = Some("team".into());
            run.status = serde_json::from_value(status).unwrap();
            run
        };
        let summary = serde_json::json!({
            "tps": "9.50", "target": "10", "success": "95.00%", "p95": "2.90s", "p99": "2.93s", "audit": "matches",
            "transfers": "19",
        });
        let over = run("over", serde_json::json!({"phase": "Finished", "verdict": "Passed", "summary": summary}));
        let (runs, mut writer) = store();
        writer.apply_watcher_event(&Event::Apply(over));
        writer.apply_watcher_event(&Event::Apply(run("new\"\n", serde_json::Value::Null)));
        let text = Metrics::new(runs).text(true).unwrap();
        let has = |line: &str| assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        has("nearbench_operator_leader 1");
        has("nearbench_run_target_tps{run_namespace=\"team\",run=\"over\"} 10.0");
        has("nearbench_run_info{run_namespace=\"team\",run=\"over\",phase=\"Finished\",verdict=\"Passed\"} 1.0");
        has("nearbench_run_info{run_namespace=\"team\",run=\"new\\\"\\n\",phase=\"Pending\",verdict=\"\"} 1.0");
        assert!(!text.contains("nearbench_run_tps{"), "{text}");
    }
}
