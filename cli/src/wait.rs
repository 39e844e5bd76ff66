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
use nearbench_operator::decisions::reasons;

pub(crate) async fn run(args: args::Wait) -> Result<u8, Failure> {
    let name = name(&args.run)?.to_owned();
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
    match tokio::time::timeout(args.timeout, follow(runs.clone(), &name)).await {
        Ok(ended) => ended,
        Err(_) => {
            let taken_up = runs.get(&name).await.is_ok_and(|run| run.status.is_some());
            let way_out = if taken_up {
                "it goes on, wait for it with a longer --timeout".to_owned()
            } else {
                format!("no operator has taken it up: is nearbench installed, and does it watch namespace {namespace}?")
            };
            let waited = humantime::format_duration(args.timeout);
            Err(Failure::run(anyhow!("run/{name} is not over after {waited}; {way_out}")))
        }
    }
}

/// The name in `run/NAME`, or as kubectl prints it, `benchmarkrun.nearbench.dev/NAME`.
fn name(run: &str) -> Result<&str, Failure> {
    let (kind, name) = run.split_once('/').unwrap_or(("run", run));
    let kinds = ["run", "bench", "benchmarkrun", "benchmarkruns", "benchmarkrun.nearbench.dev"];
    if !kinds.contains(&kind) || name.is_empty() || name.contains('/') {
        return Err(Failure::input(anyhow!("{run:?} names no BenchmarkRun: write run/NAME")));
    }
    Ok(name)
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
        if status.reason.as_deref() == Some(reasons::INVALID_SPEC) {
            let faults = status.message.unwrap_or_default();
            return Err(Failure::input(anyhow!("run/{name} cannot be run: {faults}")));
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
