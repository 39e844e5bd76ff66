//! A BenchmarkRun of the cluster, watched: read from its status, by the rights of whoever watches.

use super::{View, Watched, Workers};
use crate::{
    exit::Failure,
    wait::{self, End},
};
use kube::{Api, Client};
use nearbench_core::{Plan, lifecycle::Stage, plan::Phase, standing::Standing};
use nearbench_crds::{BenchmarkRun, BenchmarkRunStatus, RunPhase};

/// A run that is there.
pub(crate) struct Run {
    client: Client,
    namespace: String,
    name: String,
}

impl Run {
    /// Finds `run/NAME`.
    pub(crate) async fn find(run: &str, namespace: Option<String>) -> Result<Self, Failure> {
        let name = wait::name(run)?.to_owned();
        let client = wait::client().await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let run = Self { client, namespace, name };
        wait::found(&run.runs(), &run.namespace, &run.name).await?;
        Ok(run)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn runs(&self) -> Api<BenchmarkRun> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Follows it to its end; `show` sees it whenever it stands otherwise.
    pub(crate) async fn follow(&self, mut show: impl FnMut(&View<'_>)) -> Result<End, Failure> {
        let mut watched = Watched::new(&self.name, &format!("namespace {}", self.namespace));
        let mut plan_read = None;
        wait::each(self.runs(), &self.name, async |status| {
            if let Some(plan) = &status.plan_ref
                && plan_read.as_ref() != Some(&plan.name)
            {
                watched.load(self.phases(&plan.name).await);
                plan_read = Some(plan.name.clone());
            }
            show(&see(&mut watched, status));
        })
        .await
    }

    /// The phases of its plan; none where the viewer may not read it.
    async fn phases(&self, config_map: &str) -> Vec<Phase> {
        let stored = nearbench_operator::stored_plan(self.client.clone(), &self.namespace, config_map).await;
        let plan = stored.map_err(anyhow::Error::from);
        match plan.and_then(|text| Ok(serde_json::from_str::<Plan>(&text.unwrap_or_default())?)) {
            Ok(plan) => plan.load.phases,
            Err(error) => {
                tracing::debug!(%error, config_map, "the plan cannot be read; the run is shown without its phases");
                Vec::new()
            }
        }
    }
}

fn see<'a>(watched: &'a mut Watched, status: &BenchmarkRunStatus) -> View<'a> {
    let stage = match status.phase {
        Some(RunPhase::Running) => Stage::Running,
        Some(RunPhase::Draining) => Stage::Draining,
        Some(RunPhase::Auditing) => Stage::Auditing,
        Some(RunPhase::CleaningUp) => Stage::CleaningUp,
        Some(RunPhase::Finished) => Stage::Finished,
        Some(RunPhase::Provisioning) => Stage::Provisioning,
        Some(RunPhase::Pending) | None => Stage::Pending,
    };
    let progress = status.progress.clone().unwrap_or_default();
    let standing = Standing {
        phase: progress.phase,
        percent: progress.percent,
        offered: progress.offered,
        succeeded: progress.succeeded,
        figures: progress.figures,
        ..Standing::at(stage)
    };
    let workers = status.workers.as_ref().map(|workers| Workers {
        ready: workers.ready,
        replicas: workers.replicas,
        restarts: workers.restarts,
    });
    watched.see(wait::word(status), status.message.clone(), standing, workers)
}
