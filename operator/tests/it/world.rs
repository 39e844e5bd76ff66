//! What tests observe: runs, Jobs and pods as an API server would give them.

pub(crate) mod fleet;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use nearbench_core::{Plan, lifecycle::Stage, standing::Standing};
use nearbench_crds::{BenchmarkRun, Resolve};
use nearbench_operator::decisions::{Decision, Observed, decide};
use serde_json::{Value, json};
use std::sync::Arc;

/// The quickstart without workers, as a cluster knows it.
pub(crate) fn run() -> BenchmarkRun {
    let text = include_str!("../../../examples/quickstart.yaml");
    let mut run = nearbench_crds::parse(text).unwrap();
    run.metadata.namespace = Some("bench".into());
    run.metadata.uid = Some("8b5e6f7a-0000-4000-8000-000000000001".into());
    run.metadata.generation = Some(3);
    run.spec.workers.replicas = 0;
    run
}

pub(crate) fn plan(run: &BenchmarkRun) -> Plan {
    nearbench_crds::plan(run, &Resolve { on_devnet: false, config_map: &|_| None }).unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// A run and its surroundings, that live on from decision to decision.
pub(crate) struct World {
    pub(crate) observed: Observed,
}

impl World {
    pub(crate) fn new(run: BenchmarkRun) -> Self {
        let plan = plan(&run);
        Self { observed: Observed::waiting(Arc::new(run), Ok(plan)) }
    }

    /// Decides, and keeps the status as the API server would.
    pub(crate) fn decide(&mut self, seconds: i64) -> Decision {
        let decision = decide(&self.observed, at(seconds));
        self.change(|run| run.status = Some(decision.status.clone()));
        decision
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut BenchmarkRun)) {
        change(Arc::make_mut(&mut self.observed.run));
    }

    /// Up to a pod that is asked for.
    pub(crate) fn begun() -> Self {
        let mut world = Self::new(run());
        world.decide(0);
        world.decide(1);
        world.observed.job = Some(job(json!({"active": 1})));
        world.observed.report_has_place = true;
        world
    }

    pub(crate) fn stands(&mut self, stage: Stage, phase: &str, percent: u32) {
        self.observed.standing =
            Some(Standing { phase: phase.into(), percent, offered: 200, succeeded: 150, ..Standing::at(stage) });
    }

    pub(crate) fn condition(&self, type_: &str) -> Option<(String, String, String)> {
        let status = self.observed.run.status.as_ref()?;
        let found = status.conditions.iter().find(|condition| condition.type_ == type_)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }
}

pub(crate) fn job(status: Value) -> Job {
    let metadata = json!({"name": "quickstart", "uid": "job", "creationTimestamp": at(1).to_string()});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"template": {}}, "status": status})).unwrap()
}

pub(crate) fn job_over(how: &str) -> Job {
    job(
        json!({"conditions": [{"type": how, "status": "True", "reason": "BackoffLimitExceeded", "message": "no more"}]}),
    )
}

pub(crate) fn pod(status: Value) -> Pod {
    let spec = json!({"containers": [{"name": "run", "resources": {"limits": {"memory": "16Mi"}}}]});
    serde_json::from_value(json!({"metadata": {"name": "quickstart-x"}, "spec": spec, "status": status})).unwrap()
}

pub(crate) fn container(state: Value) -> Value {
    json!({"containerStatuses": [{"name": "run", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
}
