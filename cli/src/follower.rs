//! What a run owes to whoever follows it from elsewhere: how it stands, over HTTP, and its report, in a ConfigMap.

use crate::exit::Failure;
use anyhow::{Context, anyhow};
use axum::{Json, Router, routing::get};
use nearbench_core::standing::Standing;
use std::net::SocketAddr;
use tokio::{net::TcpListener, sync::watch};

/// Says how the run stands on `http://ADDRESS/standing`, for as long as the process lasts.
pub(crate) async fn serve(address: SocketAddr, standing: watch::Receiver<Standing>) -> Result<(), Failure> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("--listen {address}: cannot serve there"))
        .map_err(Failure::input)?;
    let answer = move || {
        let standing = standing.borrow().clone();
        async move { Json(standing) }
    };
    let router = Router::new().route("/standing", get(answer));
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

    /// Delivers `text`, a report.
    pub(crate) async fn deliver(&self, text: &str) -> Result<(), Failure> {
        let namespace = self.client.default_namespace();
        nearbench_operator::deliver(self.client.clone(), namespace, &self.config_map, text)
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
    let report = nearbench_operator::stored_report(client, &namespace, name).await;
    let report = report.with_context(|| format!("run/{name}")).map_err(Failure::input)?;
    report.ok_or_else(|| {
        Failure::input(anyhow!(
            "run/{name} in namespace {namespace} has no report yet: `kubectl wait --for=condition=Complete benchmarkrun/{name} -n {namespace}` waits for it"
        ))
    })
}
