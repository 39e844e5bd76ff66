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

/// How it ended with a run.
pub(crate) enum End {
    /// It has a verdict.
    Finished(RunVerdict),
    /// It will not begin before its manifest is mended; what is wrong with it.
    Refused(String),
    /// It was deleted.
    Gone,
}

pub(crate) async fn run(args: args::Wait) -> Result<u8, Failure> {
    let name = name(&args.run)?;
    let client = client().await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let runs: Api<BenchmarkRun> = Api::namespaced(client, &namespace);
    found(&runs, &namespace, name).await?;
    match tokio::time::timeout(args.timeout, follow(runs.clone(), name, output::note)).await {
        Ok(end) => exit_code(end?, name),
        Err(_) => {
            let taken_up = runs.get(name).await.is_ok_and(|run| run.status.is_some());
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

/// The cluster of the current kubeconfig, or that of this pod.
pub(crate) async fn client() -> Result<Client, Failure> {
    let client = Client::try_default().await;
    client.context("no way to an API server; set KUBECONFIG, or run in a cluster").map_err(Failure::input)
}

/// That there is such a run.
pub(crate) async fn found(runs: &Api<BenchmarkRun>, namespace: &str, name: &str) -> Result<(), Failure> {
    let found = runs.get_opt(name).await.with_context(|| format!("run/{name} in namespace {namespace}"));
    match found.map_err(Failure::run)? {
        Some(_) => Ok(()),
        None => Err(Failure::input(anyhow!(
            "there is no BenchmarkRun {name} in namespace {namespace}; `kubectl get benchmarkruns -A` lists them all"
        ))),
    }
}

/// The name in `run/NAME`, or as kubectl prints it, `benchmarkrun.nearbench.dev/NAME`.
pub(crate) fn name(run: &str) -> Result<&str, Failure> {
    let (kind, name) = run.split_once('/').unwrap_or(("run", run));
    let kinds = ["run", "bench", "benchmarkrun", "benchmarkruns", "benchmarkrun.nearbench.dev"];
    if !kinds.contains(&kind) || name.is_empty() || name.contains('/') {
        return Err(Failure::input(anyhow!("{run:?} names no BenchmarkRun: write run/NAME")));
    }
    Ok(name)
}

/// Follows a run to its end; `tell` hears how it stands, whenever that is another.
pub(crate) async fn follow(runs: Api<BenchmarkRun>, name: &str, tell: impl Fn(&str)) -> Result<End, Failure> {
    let mut told = String::new();
    each(runs, name, async |status| {
        let line = line(status);
        if line != told {
            tell(&line);
            told = line;
        }
    })
    .await
}

/// Follows a run to its end; `see` is shown its status whenever that changed.
pub(crate) async fn each(
    runs: Api<BenchmarkRun>,
    name: &str,
    mut see: impl AsyncFnMut(&BenchmarkRunStatus),
) -> Result<End, Failure> {
    let changes = watch_object(runs, name);
    pin_mut!(changes);
    while let Some(change) = changes.next().await {
        let Ok(change) = change else {
            // The watch is begun anew, with patience of its own.
            continue;
        };
        let Some(run) = change else { return Ok(End::Gone) };
        let status = run.status.unwrap_or_default();
        see(&status).await;
        if status.reason.as_deref() == Some(reasons::INVALID_SPEC) {
            return Ok(End::Refused(status.message.unwrap_or_default()));
        }
        if status.phase == Some(RunPhase::Finished) {
            return Ok(End::Finished(status.verdict.unwrap_or(RunVerdict::Error)));
        }
    }
    Err(Failure::run(anyhow!("the watch on run/{name} ended")))
}

/// The exit code that `run` would have had.
pub(crate) fn exit_code(end: End, name: &str) -> Result<u8, Failure> {
    match end {
        End::Finished(RunVerdict::Passed) => Ok(exit::PASSED),
        End::Finished(RunVerdict::Failed) => Ok(exit::FAILED),
        End::Finished(RunVerdict::Inconclusive) => Ok(exit::INCONCLUSIVE),
        End::Finished(RunVerdict::Error) => Ok(exit::COULD_NOT_RUN),
        End::Refused(faults) => Err(Failure::input(anyhow!("run/{name} cannot be run: {faults}"))),
        End::Gone => Err(Failure::run(anyhow!("run/{name} was deleted before it was over"))),
    }
}

/// How the run stands, in a word or two.
pub(crate) fn word(status: &BenchmarkRunStatus) -> String {
    match (status.verdict, status.phase) {
        (Some(verdict), _) => format!("{verdict:?}"),
        (None, Some(phase)) => format!("{phase:?}"),
        (None, None) => "waiting for the operator".to_owned(),
    }
}

/// How the run stands, in a line.
fn line(status: &BenchmarkRunStatus) -> String {
    let stands = word(status);
    match &status.message {
        Some(message) => format!("{stands}: {message}"),
        None => stands,
    }
}
