//! The stages that measure: load, drain, audit, report. Each takes what the one before it left behind.

use crate::{
    chain::Chain,
    environment::{self, CpuPressure},
    exit::Failure,
    progress::Progress,
    provision,
};
use anyhow::Context;
use jiff::Timestamp;
use nearbench_core::{
    Plan,
    audit::{Audit, Expected},
    ensure,
    ledger::{Final, Ledger},
    measure::Recorder,
    report::{self, BenchmarkReport, Observed, Results, Signals},
    schedule::Schedule,
    transfer::TransferState,
    verdict::{self, Conduct},
};
use nearbench_load::Offer;
use nearbench_near::{
    Traffic,
    audit::{self, Scope},
    provision::Provisioned,
};
use nearbench_store::MemoryStore;
use nearbench_worker::{Engine, Finality, Setup, Tally};
use rand::Rng;
use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Between two looks at a load under way.
const TICK: Duration = Duration::from_millis(200);
/// From the moment everything is ready to the first arrival.
const LEAD: Duration = Duration::from_millis(200);

/// A chain that is ready for its load.
#[derive(Clone, Copy)]
pub(crate) struct Measurement<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) chain: &'a Chain,
    pub(crate) provisioned: &'a Provisioned,
}

/// A load that is over, its transfers still under way.
pub(crate) struct Load {
    engine: Engine<MemoryStore>,
    finality: Finality,
    measured: Measured,
    _follower: DropGuard,
}

/// A load whose transfers all ended, or were given up.
pub(crate) struct Measured {
    tally: Arc<Tally>,
    offer: Offer,
    started: Timestamp,
    block_time: Duration,
    polling_error: Duration,
    lanes_full: Option<f64>,
    /// What had been asked of the endpoints before the load.
    traffic_before: Traffic,
    /// Of the requests during the load: those that an endpoint failed, in percent.
    endpoint_trouble: Option<f64>,
    throttled_ms: Option<u64>,
    steal_percent: Option<f64>,
}

impl Measurement<'_> {
    /// Offers the schedule until it ends, `cut` is cancelled, or nothing more can be signed.
    pub(crate) async fn load(&self, cut: &CancellationToken, progress: &Progress) -> Result<Load, Failure> {
        let Self { plan, chain, provisioned } = self;
        let schedule = Schedule::new(&plan.load.phases);
        let stop_following = CancellationToken::new();
        let follower = stop_following.clone().drop_guard();
        let finality = Finality::follow(chain.client.clone(), stop_following).await.map_err(Failure::run)?;
        let start = Instant::now() + LEAD;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::run)? + LEAD;
        let tally = Arc::new(Tally::new(
            Recorder::new(&schedule),
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
            max_under_way: plan.load.phases.iter().map(|phase| phase.max_vusers).collect(),
        };

        let traffic_before = chain.client.traffic();
        let before = CpuPressure::now();
        let started = Timestamp::now();
        let driver = tokio::spawn({
            let (schedule, offer, tally, cut) = (schedule.clone(), offer.clone(), tally.clone(), cut.clone());
            async move {
                nearbench_load::drive(&*store, schedule.arrivals(0, 1), &offer, start, &tally.recorder, &cut).await
            }
        });
        let (mut ticks, mut full) = (0u64, 0u64);
        let mut tick = tokio::time::interval_at(start, TICK);
        let duration = Duration::from_nanos(schedule.duration_ns());
        // The last arrival lies before the end of its phase, and the load lasts as long as its phases.
        while !driver.is_finished() || (Instant::now() < start + duration && !cut.is_cancelled()) {
            tick.tick().await;
            let live = tally.recorder().live(tally.now_ns());
            ticks += 1;
            full += u64::from(engine.lanes_full() && live.queue_depth > 0);
            let phase = plan.load.phases.get(live.phase).map_or("", |phase| &phase.name);
            progress.load(&live, phase, duration.saturating_sub(start.elapsed()));
            if let Some(fault) = engine.halted()
                && !cut.is_cancelled()
            {
                progress.step(&format!("no transfer can succeed any more: {fault:?}"));
                cut.cancel();
            }
        }
        driver.await.map_err(Failure::run)?.map_err(Failure::run)?;
        let after = CpuPressure::now();
        let measured = Measured {
            tally,
            offer,
            started,
            block_time: finality.block_interval(),
            polling_error: finality.polling_error(),
            endpoint_trouble: chain.client.traffic().since(&traffic_before).trouble_percent(),
            traffic_before,
            lanes_full: (ticks > 0).then(|| full as f64 * 100.0 / ticks as f64),
            throttled_ms: after.throttled_ms_since(before),
            steal_percent: after.steal_percent_since(before),
        };
        Ok(Load { engine, finality, measured, _follower: follower })
    }

    /// Works off what was accepted.
    pub(crate) async fn drain(&self, load: Load, progress: &Progress) -> Result<Measured, Failure> {
        let Load { engine, finality, mut measured, _follower } = load;
        let mut drain = pin!(engine.drain(Duration::from_millis(self.plan.load.timeout_ms)));
        let mut tick = tokio::time::interval(TICK);
        let drained = loop {
            tokio::select! {
                drained = &mut drain => break drained,
                _ = tick.tick() => progress.drain(&measured.tally.recorder().live(measured.tally.now_ns())),
            }
        };
        drained.map_err(Failure::run)?;
        let traffic = self.chain.client.traffic().since(&measured.traffic_before);
        for (label, times) in traffic.errors {
            measured.tally.recorder().errors(label, times);
        }
        measured.block_time = finality.block_interval();
        Ok(measured)
    }

    /// Looks for every transfer on chain.
    pub(crate) async fn audit(&self, measured: &Measured, progress: &Progress) -> Result<Audit, Failure> {
        let Self { plan, chain, provisioned } = self;
        let ledger = measured.tally.ledger().clone();
        let numbers: HashMap<_, _> = (0..ledger.total()).map(|n| (measured.offer.id(n), n)).collect();
        let expected = |id| numbers.get(&id).map(|n| expected(&measured.offer, &ledger, *n));
        let public_keys = provision::public_keys(&chain.signers.lanes);
        let scope = Scope {
            account: &plan.account.account_id,
            public_keys: &public_keys,
            token: &plan.token.contract_id,
            receivers: &plan.receivers,
            from: provisioned.height,
            before: &provisioned.balances,
        };
        let succeeded = measured.tally.recorder().counts().succeeded;
        audit::audit(&chain.client, &scope, &expected, succeeded, &|reached, last| progress.audit(reached, last))
            .await
            .context("the audit could not be done")
            .map_err(Failure::run)
    }

    /// Turns what was measured into a report.
    pub(crate) async fn report(
        &self,
        measured: &Measured,
        audit: Option<Audit>,
        stopped_early: bool,
        run_started: Timestamp,
    ) -> Result<BenchmarkReport, Failure> {
        let Self { plan, chain, provisioned } = self;
        let node = chain.client.status().await.map_err(Failure::run)?;
        let block_time_ms = measured.block_time.as_secs_f64() * 1000.0;
        let observed = Observed {
            block_time_ms,
            restarts: 0,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            signals: Signals {
                lanes_full: measured.lanes_full,
                endpoint_trouble: measured.endpoint_trouble,
                ..Signals::default()
            },
            audit,
        };
        let names = plan.load.phases.iter().map(|phase| phase.name.as_str());
        let results = Results::new(&measured.tally.recorder(), names, &observed).map_err(Failure::run)?;
        let checks = ensure::evaluate(&plan.ensure, &results);
        let conduct = Conduct {
            stopped_early,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            throttled_ms: measured.throttled_ms,
            load_ms: Schedule::new(&plan.load.phases).duration_ns() / 1_000_000,
        };
        let judgement = verdict::judge(&results, &checks, &conduct);
        Ok(BenchmarkReport {
            api_version: report::API_VERSION.to_owned(),
            kind: report::KIND.to_owned(),
            run: report::Run {
                name: plan.name.clone(),
                start_time: run_started.to_string(),
                load_start_time: Some(measured.started.to_string()),
                completion_time: Timestamp::now().to_string(),
            },
            environment: report::Environment {
                nearbench_version: env!("CARGO_PKG_VERSION").to_owned(),
                chain: report::Chain {
                    software: chain.software(&node.version).to_owned(),
                    version: node.version,
                    chain_id: node.chain_id,
                    protocol_version: node.protocol_version,
                    limits: provisioned.limits,
                    block_time_ms,
                },
                machine: environment::machine(),
                throttled_ms: measured.throttled_ms,
                steal_percent: measured.steal_percent,
                polling_error_ms: measured.polling_error.as_secs_f64() * 1000.0,
                peak_rss_bytes: environment::peak_rss_bytes(),
            },
            plan: Plan::clone(plan),
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
