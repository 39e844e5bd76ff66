//! `nearbench run`: provision, load, drain, audit, report, in one process.

use crate::{
    args,
    chain::Chain,
    environment::{self, CpuPressure},
    exit::{self, Failure},
    manifest, output,
    progress::Progress,
    provision::{self, KeptKeys},
    summary, validate,
};
use anyhow::Context;
use jiff::Timestamp;
use nearbench_core::{
    Plan,
    audit::{Audit, Expected},
    ensure,
    ledger::{Final, Ledger},
    measure::Recorder,
    plan::{Cleanup, Keys},
    report::{self, BenchmarkReport, Observed, Results, Signals},
    schedule::Schedule,
    transfer::TransferState,
    verdict::{self, Conduct, Verdict},
};
use nearbench_load::Offer;
use nearbench_near::{
    audit::{self, Scope},
    provision::{Provisioned, remove_keys},
};
use nearbench_store::MemoryStore;
use nearbench_worker::{Engine, Finality, Setup, Tally};
use rand::Rng;
use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks at a run under way.
const TICK: Duration = Duration::from_millis(200);
/// From the moment everything is ready to the first arrival.
const LEAD: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: args::Run) -> Result<u8, Failure> {
    let plan = manifest::load(&args.file, &args.references)?;
    manifest::check_one_process(&plan)?;
    let stop = stop_on_interrupt();
    let mut progress = Progress::new();
    progress.stage(&format!("{}: {}", plan.name, validate::describe(&plan)));
    let chain = Chain::open(&plan, &args.references).await?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make --out {}", args.out.display()))
        .map_err(Failure::input)?;
    let kept = KeptKeys::keep(&chain, &plan, &args.out)?;

    let started = Timestamp::now();
    progress.stage("Provisioning");
    let provisioned = tokio::select! {
        done = provision::provision(&chain, &plan, &progress) => done,
        () = stop.cancelled() => Err(Failure { code: exit::INCONCLUSIVE, error: anyhow::anyhow!(
            "stopped while provisioning; nothing was offered. A second run goes on where this one ended") }),
    };
    let measured = match provisioned {
        Ok(provisioned) => {
            Measurement { plan: &plan, chain: &chain, provisioned, stop, started }.run(&mut progress).await
        }
        Err(failure) => Err(failure),
    };
    let passed = measured.as_ref().is_ok_and(|report| report.verdict == Verdict::Passed);
    if let Err(failure) = clean_up(&chain, &plan, kept, passed, &mut progress).await {
        output::error(&failure.error);
    }
    progress.finish();
    let report = measured?;
    write_report(&args.out, &report)?;
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

/// The first Ctrl-C ends the load and lets the run drain and report; the second ends the process.
fn stop_on_interrupt() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            token.cancel();
            output::note("stopping: what was accepted is worked off and reported; Ctrl-C again ends at once");
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(exit::INCONCLUSIVE.into());
            }
        }
    });
    stop
}

/// Everything between a provisioned chain and a report.
struct Measurement<'a> {
    plan: &'a Plan,
    chain: &'a Chain,
    provisioned: Provisioned,
    stop: CancellationToken,
    started: Timestamp,
}

/// What the load left behind.
struct Loaded {
    tally: Arc<Tally>,
    offer: Offer,
    block_time: Duration,
    polling_error: Duration,
    lanes_full: Option<f64>,
    load_started: Timestamp,
    stopped_early: bool,
    pressure: (CpuPressure, CpuPressure),
}

impl Measurement<'_> {
    async fn run(self, progress: &mut Progress) -> Result<BenchmarkReport, Failure> {
        let schedule = Schedule::new(&self.plan.load.phases);
        let loaded = self.load(&schedule, progress).await?;
        progress.stage("Auditing");
        let audit = self.audit(&loaded, progress).await?;
        self.report(&schedule, &loaded, audit).await
    }

    async fn load(&self, schedule: &Schedule, progress: &mut Progress) -> Result<Loaded, Failure> {
        let Self { plan, chain, provisioned, stop, .. } = self;
        let follower = CancellationToken::new();
        let _follower_ends = follower.clone().drop_guard();
        let finality = Finality::follow(chain.client.clone(), follower).await.map_err(Failure::run)?;
        let start = Instant::now() + LEAD;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::run)? + LEAD;
        let tally = Arc::new(Tally::new(
            Recorder::new(schedule),
            schedule.total(),
            start,
            u64::try_from(unix.as_nanos()).map_err(Failure::run)?,
            plan.load.timeout_ms * 1_000_000,
        ));
        let store = Arc::new(MemoryStore::default());
        let engine = Engine::start(Setup {
            store: store.clone(),
            client: chain.client.clone(),
            finality: finality.clone(),
            tally: tally.clone(),
            lanes: chain.signers.lanes.iter().cloned().zip(provisioned.lanes.iter().map(|lane| lane.nonce)).collect(),
            token: plan.token.contract_id.clone(),
            engine: plan.engine,
            limits: provisioned.limits,
        })
        .await
        .map_err(Failure::run)?;
        let offer = Offer {
            namespace: rand::rng().random(),
            receivers: plan.receivers.as_slice().into(),
            amount: plan.transfer_amount,
            max_queue_depth: plan.engine.max_queue_depth,
        };

        progress.stage("Load");
        let before = CpuPressure::now();
        let load_started = Timestamp::now();
        // The load ends early when somebody stops it, or when nothing more can be signed.
        let ended = stop.child_token();
        let driver = tokio::spawn({
            let (store, offer, tally) = (store.clone(), offer.clone(), tally.clone());
            let (schedule, ended) = (schedule.clone(), ended.clone());
            async move {
                nearbench_load::drive(&*store, schedule.arrivals(0, 1), &offer, start, &tally.recorder, &ended).await
            }
        });
        let (mut ticks, mut full) = (0u64, 0u64);
        let mut tick = tokio::time::interval_at(start, TICK);
        let duration = Duration::from_nanos(schedule.duration_ns());
        while !driver.is_finished() || (start.elapsed() < duration && !ended.is_cancelled()) {
            tick.tick().await;
            let live = tally.recorder().live(tally.now_ns());
            ticks += 1;
            full += u64::from(engine.lanes_full() && live.queue_depth > 0);
            let phase = plan.load.phases.get(live.phase).map_or("", |phase| &phase.name);
            progress.load(&live, phase, duration.saturating_sub(start.elapsed()));
            if engine.halted().is_some() {
                ended.cancel();
            }
        }
        driver.await.map_err(Failure::run)?.map_err(Failure::run)?;
        let after = CpuPressure::now();
        if let Some(fault) = engine.halted() {
            progress.step(&format!("the load ended: no transfer can succeed any more: {fault:?}"));
        }
        progress.stage("Draining");
        engine.drain(Duration::from_millis(plan.load.timeout_ms)).await.map_err(Failure::run)?;
        Ok(Loaded {
            tally,
            offer,
            block_time: finality.block_interval(),
            polling_error: finality.polling_error(),
            lanes_full: (ticks > 0).then(|| full as f64 * 100.0 / ticks as f64),
            load_started,
            stopped_early: ended.is_cancelled(),
            pressure: (before, after),
        })
    }

    async fn audit(&self, loaded: &Loaded, progress: &Progress) -> Result<Audit, Failure> {
        let Self { plan, chain, provisioned, .. } = self;
        let ledger = loaded.tally.ledger().clone();
        let numbers: HashMap<_, _> = (0..ledger.total()).map(|n| (loaded.offer.id(n), n)).collect();
        let expected = |id| numbers.get(&id).map(|n| expected(&loaded.offer, &ledger, *n));
        let public_keys = provision::public_keys(&chain.signers.lanes);
        let scope = Scope {
            account: &plan.account.account_id,
            public_keys: &public_keys,
            token: &plan.token.contract_id,
            receivers: &plan.receivers,
            from: provisioned.height,
            before: &provisioned.balances,
        };
        let succeeded = loaded.tally.recorder().counts().succeeded;
        audit::audit(&chain.client, &scope, &expected, succeeded, &|reached, last| progress.audit(reached, last))
            .await
            .context("the audit could not be done")
            .map_err(Failure::run)
    }

    async fn report(&self, schedule: &Schedule, loaded: &Loaded, audit: Audit) -> Result<BenchmarkReport, Failure> {
        let Self { plan, chain, provisioned, .. } = self;
        let node = chain.client.status().await.map_err(Failure::run)?;
        let (before, after) = loaded.pressure;
        let block_time_ms = loaded.block_time.as_secs_f64() * 1000.0;
        let observed = Observed {
            block_time_ms,
            restarts: 0,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            signals: Signals { lanes_full: loaded.lanes_full, ..Signals::default() },
            audit: Some(audit),
        };
        let names = plan.load.phases.iter().map(|phase| phase.name.as_str());
        let results = Results::new(&loaded.tally.recorder(), names, &observed).map_err(Failure::run)?;
        let checks = ensure::evaluate(&plan.ensure, &results);
        let throttled_ms = after.throttled_ms_since(before);
        let judgement = verdict::judge(
            &results,
            &checks,
            &Conduct {
                stopped_early: loaded.stopped_early,
                max_send_lag_ms: plan.load.max_send_lag_ms,
                throttled_ms,
                load_ms: schedule.duration_ns() / 1_000_000,
            },
        );
        Ok(BenchmarkReport {
            api_version: report::API_VERSION.to_owned(),
            kind: report::KIND.to_owned(),
            run: report::Run {
                name: plan.name.clone(),
                start_time: self.started.to_string(),
                load_start_time: Some(loaded.load_started.to_string()),
                completion_time: Timestamp::now().to_string(),
            },
            environment: report::Environment {
                nearbench_version: env!("CARGO_PKG_VERSION").to_owned(),
                chain: report::Chain {
                    software: chain.software().to_owned(),
                    version: node.version.clone(),
                    chain_id: node.chain_id.clone(),
                    protocol_version: node.protocol_version,
                    limits: provisioned.limits,
                    block_time_ms,
                },
                machine: environment::machine(),
                throttled_ms,
                steal_percent: after.steal_percent_since(before),
                polling_error_ms: loaded.polling_error.as_secs_f64() * 1000.0,
                peak_rss_bytes: environment::peak_rss_bytes(),
            },
            plan: plan.clone(),
            results,
            ensure: checks,
            verdict: judgement.verdict,
            reasons: judgement.reasons,
        })
    }
}

/// What transfer `n` must be on chain.
fn expected(offer: &Offer, ledger: &Ledger, n: u64) -> Expected {
    Expected {
        receiver: offer.receiver(n).clone(),
        amount: offer.amount,
        state: match ledger.get(n) {
            Final::Succeeded => TransferState::Finalized,
            Final::Failed => TransferState::Failed,
            Final::Open => TransferState::NeedsReview,
        },
    }
}

/// Takes the run's own keys off the account, where the plan says so.
async fn clean_up(
    chain: &Chain,
    plan: &Plan,
    kept: KeptKeys,
    passed: bool,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let wanted = match plan.cleanup {
        Cleanup::Always => true,
        Cleanup::OnSuccess => passed,
        Cleanup::Never => false,
    };
    let (true, Keys::Generate { .. }, Some(master), false) =
        (wanted, &plan.account.keys, &chain.signers.master, chain.is_own())
    else {
        return Ok(());
    };
    progress.stage("Cleaning up");
    let public_keys = provision::public_keys(&chain.signers.lanes);
    remove_keys(&chain.client, master, &public_keys, &|event| provision::tell(progress, event))
        .await
        .context("the run's access keys were not removed from the account")
        .map_err(Failure::run)?;
    kept.forget()
}

fn write_report(folder: &Path, report: &BenchmarkReport) -> Result<(), Failure> {
    let path = folder.join("report.json");
    let text = serde_json::to_string_pretty(report).map_err(Failure::run)?;
    // Written beside and renamed, so that nobody reads half a report.
    let beside = folder.join(".report.json");
    fs::write(&beside, text + "\n")
        .and_then(|()| fs::rename(&beside, &path))
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::run)
}
