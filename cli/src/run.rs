//! `nearbench run`: provision, load, drain, audit, report, in one process.

use crate::{
    args,
    chain::Chain,
    driver::Driver,
    exit::{self, Failure},
    follower::{self, Delivery},
    manifest,
    measurement::{Load, Measured, Measurement},
    output,
    progress::Progress,
    provision::{self, KeptKeys},
    signal::Ended,
    summary, validate,
};
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nearbench_core::{
    Plan,
    lifecycle::{Action, Stage},
    plan::Keys,
    report::BenchmarkReport,
    verdict::Verdict,
};
use nearbench_near::provision::{Provisioned, remove_keys};
use std::{fs, path::Path};
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(args: args::Run) -> Result<u8, Failure> {
    let plan = match (&args.plan, &args.file) {
        (Some(folder), _) => manifest::load_plan(folder)?,
        (None, file) => {
            let file = file.as_deref().ok_or_else(|| Failure::input(anyhow!("name a manifest")))?;
            manifest::load_for_one_process(file, &args.references)?
        }
    };
    let interrupt = on_interrupt()?;
    let mut progress = Progress::new();
    let delivery = match args.report_to {
        Some(config_map) => Some(Delivery::to(config_map).await?),
        None => None,
    };
    if let Some(address) = args.listen {
        follower::serve(address, progress.follow()).await?;
    }
    progress.stage(&format!("{}: {}", plan.name, validate::describe(&plan)));
    let mut chain = Chain::open(&plan, &args.references).await?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make --out {}", args.out.display()))
        .map_err(Failure::input)?;
    let kept = KeptKeys::keep(&mut chain, &plan, &args.out)?;

    let started = Timestamp::now();
    let mut driver = Driver::begin(&plan, interrupt);
    let report = stages(&mut driver, &plan, &chain, kept, started, &mut progress).await;
    progress.finish();
    let stopped = driver.stopped_early();
    let error = driver.into_error();
    let Some(report) = report else {
        let error =
            error.unwrap_or_else(|| Failure::run(anyhow!("it was stopped before its load; nothing was offered")));
        return Err(if stopped { Failure { code: exit::INCONCLUSIVE, ..error } } else { error });
    };
    if let Some(failure) = error {
        output::error(&failure.error);
    }
    let text = write_report(&args.out, &report)?;
    if let Some(delivery) = delivery {
        delivery.deliver(&text).await?;
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

/// Carries out stage after stage; the report, if it came to one.
async fn stages(
    driver: &mut Driver,
    plan: &Plan,
    chain: &Chain,
    mut kept: KeptKeys,
    started: Timestamp,
    progress: &mut Progress,
) -> Option<BenchmarkReport> {
    let mut provisioned: Option<Provisioned> = None;
    let mut load: Option<Load> = None;
    let mut measured: Option<Measured> = None;
    let (mut audit, mut report) = (None, None);
    // What a stage needs and an earlier one failed to bring is not there; that failure is told already.
    let missing = || Failure::run(anyhow!("an earlier stage failed"));
    while let Some(action) = driver.action() {
        progress.enter(driver.stage());
        let measurement = provisioned.as_ref().map(|provisioned| Measurement { plan, chain, provisioned });
        match action {
            Action::Provision => {
                progress.stage("Provisioning");
                let work = provision::provision(chain, plan, progress);
                provisioned = driver.during(Stage::Provisioning, None, work).await;
            }
            Action::StartLoad | Action::StopLoad => {
                progress.stage("Load");
                let cut = CancellationToken::new();
                let work = async { measurement.ok_or_else(missing)?.load(&cut, progress).await };
                load = driver.during(Stage::Running, Some(&cut), work).await;
            }
            Action::Drain => {
                progress.stage("Draining");
                let load = load.take();
                let work = async { measurement.ok_or_else(missing)?.drain(load.ok_or_else(missing)?).await };
                measured = driver.during(Stage::Draining, None, work).await;
            }
            Action::Audit => {
                progress.stage("Auditing");
                let work = async {
                    measurement.ok_or_else(missing)?.audit(measured.as_ref().ok_or_else(missing)?, progress).await
                };
                audit = driver.during(Stage::Auditing, None, work).await;
            }
            Action::Report { stopped_early } => {
                let work = async {
                    let measured = measured.as_ref().ok_or_else(missing)?;
                    measurement.ok_or_else(missing)?.report(measured, audit, stopped_early, started).await
                };
                report = driver.during(Stage::Reporting, None, work).await;
                if let Some(report) = &report {
                    driver.reported(report.verdict);
                }
            }
            Action::CleanUp => {
                // Provisioning that did not come to its end may have keys on their way to the chain: their file stays,
                // and the next run goes on with them.
                let complete = provisioned.is_some();
                let work = async { if complete { clean_up(chain, plan, progress).await } else { Ok(false) } };
                if driver.during(Stage::CleaningUp, None, work).await == Some(true) {
                    kept.forget();
                }
            }
        }
    }
    report
}

/// The first Ctrl-C or SIGTERM ends the load and lets the run drain and report; the second ends the process.
fn on_interrupt() -> Result<CancellationToken, Failure> {
    let interrupt = CancellationToken::new();
    let token = interrupt.clone();
    let mut ended = Ended::listen().map_err(Failure::run)?;
    tokio::spawn(async move {
        ended.next().await;
        token.cancel();
        output::note("stopping: what was accepted is worked off and reported; Ctrl-C again ends at once");
        ended.next().await;
        std::process::exit(exit::INCONCLUSIVE.into());
    });
    Ok(interrupt)
}

/// Takes the keys that this run made off the account; whether there were any.
async fn clean_up(chain: &Chain, plan: &Plan, progress: &mut Progress) -> Result<bool, Failure> {
    let (Keys::Generate { .. }, Some(master), false) = (&plan.account.keys, &chain.signers.master, chain.is_own())
    else {
        return Ok(false);
    };
    progress.stage("Cleaning up");
    let public_keys = provision::public_keys(&chain.signers.lanes);
    remove_keys(&chain.client, master, &public_keys, &|event| provision::tell(progress, event))
        .await
        .context("the run's access keys were not removed from the account")
        .map_err(Failure::run)?;
    Ok(true)
}

/// Writes report.json; its text.
fn write_report(folder: &Path, report: &BenchmarkReport) -> Result<String, Failure> {
    let path = folder.join("report.json");
    let text = serde_json::to_string_pretty(report).map_err(Failure::run)? + "\n";
    // Written beside and renamed, so that nobody reads half a report.
    let beside = folder.join(".report.json");
    fs::write(&beside, &text)
        .and_then(|()| fs::rename(&beside, &path))
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::run)?;
    Ok(text)
}
