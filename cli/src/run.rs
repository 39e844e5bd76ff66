//! `nearbench run`: provision, load, drain, audit, report, in one process.

use crate::{
    api::Access,
    args,
    chain::Chain,
    driver::Driver,
    exit::{self, Failure},
    findings::{Findings, Outcome},
    fleet::Asked,
    follower::{self, Delivery},
    interrupt,
    kept::{self, Kept, Opening},
    live::{Watched, server::Server},
    log,
    manifest::{self, Manifest},
    measurement::{Load, Measurement},
    metrics::{self, Metrics},
    output, page,
    patience::patiently,
    progress::Progress,
    provision::{self, KeptKeys},
    summary, validate,
};
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nearbench_core::{
    Plan,
    lifecycle::{Action, Stage},
    plan::{Cleanup, Keys},
    report::BenchmarkReport,
    verdict::Verdict,
};
use nearbench_near::{
    chain::At,
    keyfile::KEYS_FILE,
    provision::{Lane, Progress as Event, ProvisionError, Provisioned, remove_keys},
};
use std::{fs, net::SocketAddr, path::Path};
use tokio_util::sync::CancellationToken;

/// Names the transactions whose end nobody could prove.
const REVIEW_FILE: &str = "needs-review.json";

/// What becomes of keys that a run left.
const KEYS_WAY_OUT: &str = "run again with the same --out, and they are used, and removed at the end; after its load began, \
                            with --resume";

pub(crate) async fn run(args: args::Run) -> Result<u8, Failure> {
    let Some(port) = args.ui else { return carry_out(args, None).await };
    let server = Server::start(port, "--ui").await?;
    let ended = carry_out(args, Some(&server)).await;
    if let Err(failure) = &ended {
        server.screen().ended(&output::in_a_line(&failure.error));
    }
    server.end().await;
    ended
}

async fn carry_out(args: args::Run, server: Option<&Server>) -> Result<u8, Failure> {
    output::is_folder("--out", &args.out)?;
    let (mut plan, remarks, mut kept) = what(&args).await?;
    let asked = Asked::of(&args, &plan, kept.fleet()?)?;
    let access = Access::of(&args, &plan, asked.as_ref().map_or(1, Asked::workers))?;
    let metrics_addresses = metrics_addresses(&args, asked.as_ref())?;
    if let Some(asked) = asked {
        plan.workers = asked.workers();
        if let Err(failure) = kept.share(asked, &plan).await {
            if !kept.load_began() {
                kept.forget().await;
            }
            return Err(failure);
        }
    }
    let interrupt = interrupt::watch(args.out.join(KEYS_FILE), KEYS_WAY_OUT, None)?;
    let progress = Progress::new();
    let delivery = match args.report_to {
        Some(config_map) => Some(Delivery::to(config_map).await?),
        None => None,
    };
    let metrics = Metrics::of(&plan);
    if let Some(address) = metrics_addresses.first() {
        metrics.serve(*address).await?;
    }
    if let Some(address) = args.listen {
        follower::serve(address, progress.follow(), &metrics).await?;
    }
    progress.stage(&format!("{}: {}", plan.name, validate::describe(&plan)));
    remarks.iter().for_each(|remark| progress.step(remark));
    if let Some(server) = server {
        let mut watched = Watched::new(&plan.name, "this machine");
        watched.load(plan.load.phases.clone());
        tokio::spawn(server.screen().clone().follow(watched, progress.follow()));
        progress.step(&format!("it is shown at {}", server.url()));
    }
    let mut chain = Chain::open(&plan, &args.references.secrets, &kept).await?;
    let mut keys = KeptKeys::keep(&mut chain, &plan, &args.out, Some(&kept)).await?;

    let started = Timestamp::now();
    let mut driver = Driver::begin(&plan, interrupt);
    let scene = Scene {
        plan: &plan,
        chain: &chain,
        secrets: &args.references.secrets,
        progress: &progress,
        kept: &kept,
        access: access.as_ref(),
        metrics: &metrics,
        metrics_addresses: &metrics_addresses,
    };
    let report = scene.stages(&mut driver, &mut keys, started).await;
    progress.finish();
    if let Some(keys) = keys.path().filter(|_| plan.cleanup != Cleanup::Never) {
        output::note(&interrupt::left_behind(keys, KEYS_WAY_OUT));
    }
    let stopped = driver.stopped_early();
    let error = driver.into_error();
    // Its process may hold the chain and the store: they end before they are removed.
    drop(chain);
    let over = report.is_some() || !kept.load_began();
    let Some(report) = report else {
        match over {
            true => kept.forget().await,
            false => output::note(&format!("{} is kept: {}", args.out.display(), kept::way_out(&args.out))),
        }
        let error =
            error.unwrap_or_else(|| Failure::run(anyhow!("it was stopped before its load; nothing was offered")));
        // A load that could not go on was not stopped by anybody.
        return Err(if stopped && over { Failure { code: exit::INCONCLUSIVE, ..error } } else { error });
    };
    if let Some(failure) = error {
        output::error(&failure.error);
    }
    let text = serde_json::to_string_pretty(&report).map_err(Failure::run)? + "\n";
    output::write_whole(&args.out, output::REPORT_FILE, &text)?;
    page::write(&args.out.join(page::FILE), &report)?;
    if let Some(server) = server {
        server.screen().report(&text);
    }
    let without_proof = kept.without_proof().await?;
    if !without_proof.is_empty() {
        let text = serde_json::to_string_pretty(&without_proof).map_err(Failure::run)? + "\n";
        let path = output::write_whole(&args.out, REVIEW_FILE, &text)?;
        let transactions = without_proof.len();
        output::note(&format!(
            "{} names {transactions} transactions of which nobody could tell how they ended, and their transfers: look for \
             them on chain before anybody pays again",
            path.display()
        ));
    }
    kept.forget().await;
    if let Some(delivery) = delivery {
        delivery.deliver(report.clone()).await?;
    }
    if args.json {
        output::print_json(&report)?
    } else {
        output::print(summary::table(&report))?
    }
    Ok(match report.verdict {
        Verdict::Passed => exit::PASSED,
        Verdict::Failed => exit::FAILED,
        Verdict::Inconclusive => exit::INCONCLUSIVE,
    })
}

/// What is to be run, what is to be said about it, and where it is kept: begun, or gone on with.
async fn what(args: &args::Run) -> Result<(Plan, Vec<String>, Kept), Failure> {
    let named = named(args)?;
    if args.resume {
        let (kept, plan) = Kept::resume(&args.out).await?;
        log::of_run(&plan);
        if named.is_some_and(|(named, _)| named != plan) {
            return Err(Failure::input(anyhow!(
                "--resume: {} holds a run of another plan: leave the manifest out, and it is finished as it began",
                args.out.display()
            )));
        }
        return Ok((plan, Vec::new(), kept));
    }
    let (plan, remarks) = named.ok_or_else(|| Failure::input(anyhow!("name a manifest")))?;
    log::of_run(&plan);
    // What is wrong with it is told before anything is made.
    let asked = Asked::of(args, &plan, None)?;
    Access::of(args, &plan, asked.as_ref().map_or(1, Asked::workers))?;
    metrics_addresses(args, asked.as_ref())?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make --out {}", args.out.display()))
        .map_err(Failure::input)?;
    let kept = Kept::begin(&args.out, &plan).await?;
    Ok((plan, remarks, kept))
}

/// Where metrics are served: by this process and then by each worker; nowhere unless it is asked for.
fn metrics_addresses(args: &args::Run, asked: Option<&Asked>) -> Result<Vec<SocketAddr>, Failure> {
    let workers = asked.map_or(0, Asked::workers);
    Ok(args.metrics_addr.map(|first| metrics::addresses(first, workers)).transpose()?.unwrap_or_default())
}

/// The plan that the command line names, if it does.
fn named(args: &args::Run) -> Result<Option<(Plan, Vec<String>)>, Failure> {
    if let Some(folder) = &args.plan {
        return Ok(Some((manifest::load_plan(folder)?, Vec::new())));
    }
    let Some(file) = &args.file else { return Ok(None) };
    let Manifest { plan, remarks, .. } =
        Manifest::load(file, &args.references, Some(args.elsewhere))?.for_one_process()?;
    Ok(Some((plan, remarks)))
}

/// What every stage works with.
struct Scene<'a> {
    plan: &'a Plan,
    chain: &'a Chain,
    secrets: &'a Path,
    progress: &'a Progress,
    kept: &'a Kept,
    access: Option<&'a Access>,
    metrics: &'a Metrics,
    metrics_addresses: &'a [SocketAddr],
}

impl Scene<'_> {
    /// Carries out stage after stage; the report, if it came to one.
    async fn stages(&self, driver: &mut Driver, keys: &mut KeptKeys, started: Timestamp) -> Option<BenchmarkReport> {
        let Self { plan, chain, secrets, progress, kept, access, metrics, metrics_addresses } = *self;
        let mut provisioned: Option<Provisioned> = None;
        let mut load: Option<Load> = None;
        let mut measured: Option<Outcome> = None;
        let (mut audit, mut report) = (None, None);
        let mut keys_are_known = false;
        let run_started =
            kept.opening.as_ref().map_or_else(|| started.to_string(), |opening| opening.run_started.clone());
        // What a stage needs and an earlier one failed to bring is not there; that failure is told already.
        let missing = || Failure::run(anyhow!("an earlier stage failed"));
        while let Some(action) = driver.action() {
            progress.enter(driver.stage());
            let measurement = provisioned.as_ref().map(|provisioned| Measurement {
                plan,
                chain,
                secrets,
                provisioned,
                kept,
                access,
                metrics,
                metrics_addresses,
            });
            let findings =
                provisioned.as_ref().map(|provisioned| Findings { plan, chain, provisioned, books: kept.books() });
            match action {
                Action::Provision if kept.opening.is_some() => {
                    progress.stage("Resuming");
                    let work = async { self.provisioned().await };
                    provisioned = driver.during(Stage::Provisioning, None, work).await;
                    keys_are_known = provisioned.is_some();
                }
                Action::Provision => {
                    progress.stage("Provisioning");
                    let cut = CancellationToken::new();
                    let tell = |event: Event<'_>| provision::tell(progress, event);
                    let work = provision::provision(chain, plan, secrets, None, &cut, &tell);
                    let ended = driver.during(Stage::Provisioning, Some(&cut), work).await;
                    // Provisioning that failed, or that went on where a broken one had stopped, may have keys on their
                    // way to the chain: their file stays, and the next run goes on with them.
                    keys_are_known = ended.as_ref().is_some_and(|ended| ended.is_some() || !keys.are_earlier());
                    provisioned = ended.flatten();
                }
                Action::StartLoad | Action::StopLoad => {
                    progress.stage("Load");
                    let cut = CancellationToken::new();
                    let work = async { measurement.ok_or_else(missing)?.load(started, &cut, progress).await };
                    load = driver.during(Stage::Running, Some(&cut), work).await;
                }
                Action::Drain => {
                    progress.stage("Draining");
                    let load = load.take();
                    let work =
                        async { measurement.ok_or_else(missing)?.drain(load.ok_or_else(missing)?, progress).await };
                    measured = driver.during(Stage::Draining, None, work).await;
                }
                Action::Audit => {
                    progress.stage("Auditing");
                    let work = async {
                        findings.ok_or_else(missing)?.audit(measured.as_ref().ok_or_else(missing)?, progress).await
                    };
                    audit = driver.during(Stage::Auditing, None, work).await;
                }
                Action::Report { stopped_early } => {
                    let work = async {
                        let measured = measured.as_ref().ok_or_else(missing)?;
                        findings.ok_or_else(missing)?.report(measured, audit, stopped_early, &run_started).await
                    };
                    report = driver.during(Stage::Reporting, None, work).await;
                    if let Some(report) = &report {
                        driver.reported(report.verdict);
                    }
                }
                Action::CleanUp => {
                    // A run that is to be resumed signs with its keys again.
                    let over = report.is_some() || !kept.load_began();
                    let work = async { if keys_are_known && over { self.clean_up().await } else { Ok(false) } };
                    if driver.during(Stage::CleaningUp, None, work).await == Some(true) {
                        keys.forget();
                    }
                }
            }
        }
        report
    }

    /// What the load of an earlier process began with; only the nonces of its keys have moved since.
    async fn provisioned(&self) -> Result<Provisioned, Failure> {
        let Self { plan, chain, kept, .. } = *self;
        let opening = kept.opening.as_ref().ok_or_else(|| Failure::run(anyhow!("the load has not begun")))?;
        chain.client.check_chain_id(&plan.network.chain_id).await.map_err(Failure::run)?;
        let mut lanes = Vec::with_capacity(opening.public_keys.len());
        for public_key in opening.public_keys.iter().cloned() {
            let key = chain.client.access_key(&plan.account.account_id, &public_key, At::Final).await;
            // A key that was taken off the account meanwhile stops its lane, by what its attempts show.
            let nonce = key.map_err(Failure::run)?.value.map_or(0, |key| key.nonce);
            lanes.push(Lane { public_key, nonce });
        }
        let Opening { limits, height, balances, .. } = opening.clone();
        Ok(Provisioned { lanes, limits, height, balances })
    }

    /// Takes the keys that this run made off the account; whether there were any.
    async fn clean_up(&self) -> Result<bool, Failure> {
        let Self { plan, chain, progress, .. } = *self;
        let (Keys::Generate { .. }, Some(master), false) = (&plan.account.keys, &chain.signers.master, chain.is_own())
        else {
            return Ok(false);
        };
        progress.stage("Cleaning up");
        let public_keys = provision::public_keys(&chain.signers.lanes);
        let tell = |event: Event<'_>| provision::tell(progress, event);
        let remove = || remove_keys(&chain.client, master, &public_keys, &tell);
        let may_pass = |error: &ProvisionError| !matches!(error, ProvisionError::Impossible { .. });
        patiently(progress, remove, may_pass)
            .await
            .context("the run's access keys were not removed from the account")
            .map_err(Failure::run)?;
        Ok(true)
    }
}
