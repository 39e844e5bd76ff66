//! `nearbench wait`: follows a BenchmarkRun of the cluster to its end, and ends as `nearbench run` would.

use crate::{
    args,
    exit::{self, Failure},
    output,
};
use anyhow::{Context, anyhow};
use futures_util::{StreamExt, pin_mut};
use kube::{Api, Client, runtime::watcher::watch_object};
use nearbench_crds::{BenchmarkRun, BenchmarkRunStatus, RunPhase, RunVerdict};

pub(crate) async fn run(args: args::Wait) -> Result<u8, Failure> {
    let name = args.run.strip_prefix("run/").unwrap_or(&args.run).to_owned();
    let client = Client::try_default()
        .await
        .context("no way to an API server; set KUBECONFIG, or run in a cluster")
        .map_err(Failure::input)?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let runs: Api<BenchmarkRun> = Api::namespaced(client, &namespace);
    let found = runs.get_opt(&name).await.with_context(|| format!("run/{name} in namespace {namespace}"));
    if found.map_err(Failure::run)?.is_none() {
        return Err(Failure::input(anyhow!(
            "there is no BenchmarkRun {name} in namespace {namespace}; `kubectl get benchmarkruns -A` lists them all"
        )));
    }
    match tokio::time::timeout(args.timeout, follow(runs, &name)).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::run(anyhow!(
            "run/{name} is not over after {}; it goes on, wait for it with a longer --timeout",
            humantime::format_duration(args.timeout)
        ))),
    }
}

async fn follow(runs: Api<BenchmarkRun>, name: &str) -> Result<u8, Failure> {
    let changes = watch_object(runs, name);
    pin_mut!(changes);
    let mut told = String::new();
    while let Some(change) = changes.next().await {
        let Ok(change) = change else {
            // The watch is begun anew, with patience of its own.
            continue;
        };
        let run = change.ok_or_else(|| Failure::run(anyhow!("run/{name} was deleted before it was over")))?;
        let status = run.status.unwrap_or_default();
        let line = line(&status);
        if line != told {
            output::note(&line);
            told = line;
        }
        if status.phase == Some(RunPhase::Finished) {
            return Ok(match status.verdict {
                Some(RunVerdict::Passed) => exit::PASSED,
                Some(RunVerdict::Failed) => exit::FAILED,
                Some(RunVerdict::Inconclusive) => exit::INCONCLUSIVE,
                Some(RunVerdict::Error) | None => exit::COULD_NOT_RUN,
            });
        }
    }
    Err(Failure::run(anyhow!("the watch on run/{name} ended")))
}

/// How the run stands, in a line.
fn line(status: &BenchmarkRunStatus) -> String {
    let stands = match (status.verdict, status.phase) {
        (Some(verdict), _) => format!("{verdict:?}"),
        (None, Some(phase)) => format!("{phase:?}"),
        (None, None) => "waiting for the operator".to_owned(),
    };
    match &status.message {
        Some(message) => format!("{stands}: {message}"),
        None => stands,
    }
}
