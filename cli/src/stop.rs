//! `nearbench stop`: ends runs of the cluster in order, and waits until they have. With `--all` it clears the way for what
//! comes next, such as taking nearbench out of the cluster: what does not end in time is not kept any longer.

use crate::{
    args,
    exit::{self, Failure},
    output,
    wait::{self, End},
};
use anyhow::{Context, anyhow};
use futures_util::future::join_all;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use nearbench_crds::{BenchmarkRun, RunPhase};
use nearbench_operator::FINALIZER;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// How often a finalizer is removed anew from a run that changed meanwhile.
const TRIES: usize = 5;

pub(crate) async fn run(args: args::Stop) -> Result<u8, Failure> {
    let client = wait::client().await?;
    let namespace = args.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    match args.run {
        Some(run) => one(&client, &namespace, wait::name(&run)?, args.timeout).await,
        None => all(&client, (!args.all_namespaces).then_some(&namespace), args.timeout).await,
    }
}

/// Stops a run, and ends as waiting for it would.
async fn one(client: &Client, namespace: &str, name: &str, patience: Duration) -> Result<u8, Failure> {
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), namespace);
    wait::found(&runs, namespace, name).await?;
    stop(&runs, name).await.with_context(|| format!("run/{name} cannot be stopped")).map_err(Failure::run)?;
    match timeout(patience, wait::follow(runs, name, output::note)).await {
        Ok(end) => wait::exit_code(end?, name),
        Err(_) => Err(Failure::run(anyhow!(
            "run/{name} is not over after {}; it is told to stop, wait for it with `nearbench wait run/{name} -n {namespace}`",
            humantime::format_duration(patience)
        ))),
    }
}

/// Stops every run that is not over; those that still are not when time is up, nothing keeps from being deleted any more.
async fn all(client: &Client, namespace: Option<&String>, patience: Duration) -> Result<u8, Failure> {
    let place = namespace.map_or_else(|| "any namespace".to_owned(), |namespace| format!("namespace {namespace}"));
    let runs: Api<BenchmarkRun> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let listed = runs.list(&ListParams::default()).await;
    let listed = listed.with_context(|| format!("the runs in {place} cannot be listed")).map_err(Failure::run)?;
    let unfinished: Vec<_> = listed.items.into_iter().filter(|run| !is_over(run)).collect();
    output::note(&format!("{} to stop in {place}", counted(unfinished.len())));
    let freed = join_all(unfinished.iter().map(|run| end(client, run, patience))).await;
    let failed: Vec<_> = freed.into_iter().filter_map(Result::err).map(|error| format!("\n  {error:#}")).collect();
    if failed.is_empty() {
        return Ok(exit::PASSED);
    }
    Err(Failure::run(anyhow!("{} would still be kept from being deleted:{}", counted(failed.len()), failed.concat())))
}

fn counted(runs: usize) -> String {
    format!("{runs} run{}", if runs == 1 { "" } else { "s" })
}

fn is_over(run: &BenchmarkRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.phase == Some(RunPhase::Finished))
}

/// Brings one run to its end, or frees it.
async fn end(client: &Client, run: &BenchmarkRun, patience: Duration) -> anyhow::Result<()> {
    let (namespace, name) = (run.namespace().unwrap_or_default(), run.name_any());
    let key = format!("{namespace}/{name}");
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let tell = |line: &str| output::note(&format!("{key}: {line}"));
    let orderly = async {
        stop(&runs, &name).await.map_err(|error| error.to_string())?;
        wait::follow(runs.clone(), &name, tell).await.map_err(|failure| failure.error.to_string())
    };
    let why = match timeout(patience, orderly).await {
        Ok(Ok(End::Finished(_) | End::Gone)) => return Ok(()),
        Ok(Ok(End::Refused(faults))) => format!("it cannot be run: {faults}"),
        Ok(Err(error)) => error,
        Err(_) => format!("it is not over after {}", humantime::format_duration(patience)),
    };
    let freed = free(&runs, &name).await.with_context(|| format!("{key}: {why}, and {FINALIZER} cannot be removed"))?;
    tell(&match freed {
        Some(keys) if keys.is_empty() => format!("{why}; {FINALIZER} is removed"),
        Some(keys) => format!(
            "{why}; {FINALIZER} is removed, and its access keys may still be on {}: `nearbench remove-keys MANIFEST {}` \
             takes them off",
            run.spec.account.account_id,
            keys.join(" ")
        ),
        None => why,
    });
    Ok(())
}

/// Ends a run's load. A run that is gone has none.
async fn stop(runs: &Api<BenchmarkRun>, name: &str) -> Result<(), kube::Error> {
    match runs.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"stop": true}}))).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        patched => patched.map(drop),
    }
}

/// Removes what keeps a run from being deleted before it cleaned up; the access keys that it may have left on chain.
/// `None`: nothing kept it.
async fn free(runs: &Api<BenchmarkRun>, name: &str) -> Result<Option<Vec<String>>, kube::Error> {
    let mut tries = 1;
    loop {
        let Some(run) = runs.get_opt(name).await? else { return Ok(None) };
        let rest: Vec<_> = run.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        if rest.len() == run.finalizers().len() {
            return Ok(None);
        }
        // With the version it replaces the list that was looked at, or none.
        let patch = json!({"metadata": {"finalizers": rest, "resourceVersion": run.resource_version()}});
        match runs.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(Some(run.status.map_or_else(Vec::new, |status| status.public_keys))),
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(None),
            Err(kube::Error::Api(status)) if status.is_conflict() && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}
