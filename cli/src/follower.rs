//! What a run owes to whoever follows it from elsewhere: how it stands, over HTTP, and its report, in a ConfigMap.

use crate::{exit::Failure, metrics::Metrics};
use anyhow::{Context, anyhow};
use axum::{Json, routing::get};
use kube::Api;
use nearbench_core::{report::BenchmarkReport, standing::Standing};
use nearbench_crds::BenchmarkRun;
use std::net::SocketAddr;
use tokio::{net::TcpListener, sync::watch};

/// Says how the run stands on `http://ADDRESS/standing`, and what it counts on `/metrics`, for as long as the process
/// lasts.
pub(crate) async fn serve(
    address: SocketAddr,
    standing: watch::Receiver<Standing>,
    metrics: &Metrics,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("--listen {address}: cannot serve there"))
        .map_err(Failure::input)?;
    let answer = move || {
        let standing = standing.borrow().clone();
        async move { Json(standing) }
    };
    let router = metrics.router().route("/standing", get(answer));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "cannot say how the run stands any more");
        }
    });
    Ok(())
}

/// Where a report goes besides its file.
pub(crate) struct Delivery {
    client: kube::Client,
    config_map: String,
}

impl Delivery {
    /// Finds the cluster that this process runs in; before anything is done, so that a run is not for nothing.
    pub(crate) async fn to(config_map: String) -> Result<Self, Failure> {
        let client = kube::Client::try_default()
            .await
            .with_context(|| format!("--report-to {config_map}: no way to an API server"))
            .map_err(Failure::input)?;
        Ok(Self { client, config_map })
    }

    /// Delivers a report, its series thinned: an object is small.
    pub(crate) async fn deliver(&self, report: BenchmarkReport) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&report.thinned()).map_err(Failure::run)? + "\n";
        let namespace = self.client.default_namespace();
        nearbench_operator::deliver(self.client.clone(), namespace, &self.config_map, &text)
            .await
            .context("the report was not delivered")
            .map_err(Failure::run)
    }
}

/// The text of the report of run `name`, from the cluster of the current kubeconfig.
pub(crate) async fn report_of(name: &str, namespace: Option<&str>) -> Result<String, Failure> {
    let client = kube::Client::try_default()
        .await
        .with_context(|| format!("run/{name}: no way to an API server; set KUBECONFIG, or name a report.json"))
        .map_err(Failure::input)?;
    let namespace = namespace.unwrap_or(client.default_namespace()).to_owned();
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let found = runs.get_opt(name).await.with_context(|| format!("run/{name} in namespace {namespace}"));
    let run = found.map_err(Failure::run)?.ok_or_else(|| {
        Failure::input(anyhow!(
            "there is no BenchmarkRun {name} in namespace {namespace}; `kubectl get benchmarkruns -A` lists them all"
        ))
    })?;
    let status = run.status.unwrap_or_default();
    if status.report_ref.is_some() {
        let report = nearbench_operator::stored_report(client, &namespace, name).await;
        if let Some(report) = report.with_context(|| format!("run/{name}")).map_err(Failure::input)? {
            return Ok(report);
        }
    }
    Err(Failure::input(match (status.verdict, status.message) {
        (Some(verdict), message) => {
            anyhow!("run/{name} ended without a report: {verdict:?}: {}", message.unwrap_or_default())
        }
        (None, _) => anyhow!(
            "run/{name} in namespace {namespace} has no report yet: `nearbench wait run/{name} -n {namespace}` waits for it"
        ),
    }))
}
