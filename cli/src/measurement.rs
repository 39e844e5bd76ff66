//! The stages that measure: load, drain, audit, report. Each takes what the one before it left behind.

use crate::{
    api::{self, Access},
    chain::Chain,
    environment::{self, CpuPressure},
    exit::Failure,
    fleet::Crew,
    kept::{Kept, Opening},
    patience::patiently,
    progress::Progress,
};
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nearbench_core::{
    Height, Plan, TransferId,
    audit::{Audit, Expected},
    ensure,
    ledger::{Final, Ledger},
    measure::{Live, Recorder},
    plan::Via,
    report::{self, BenchmarkReport, Observed, Results, Signals},
    schedule::{self, Arrival, Schedule},
    settle::Fate,
    transfer::TransferState,
    verdict::{self, Conduct},
};
use nearbench_load::{Offer, Target};
use nearbench_near::{
    Traffic,
    audit::{self, AuditError, Scope},
    chain::Block,
    provision::Provisioned,
};
use nearbench_store::{Depth, Details, FileStore, Recall, Records, RedisStore, ResultRow, Store, StoreError};
use nearbench_worker::{Engine, Finality, LEASE, Setup, Tally, Tokens, fleet::Measured};
use rand::Rng;
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Between two looks at a load under way.
const TICK: Duration = Duration::from_millis(200);
/// From the moment everything is ready to the first arrival.
const LEAD: Duration = Duration::from_millis(200);
/// Records that are read at once.
const RECORDS: usize = 1000;

/// A chain that is ready for its load.
#[derive(Clone, Copy)]
pub(crate) struct Measurement<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) chain: &'a Chain,
    pub(crate) secrets: &'a Path,
    pub(crate) provisioned: &'a Provisioned,
    pub(crate) kept: &'a Kept,
    /// Where those who send in place of the load reach the API.
    pub(crate) access: Option<&'a Access>,
}

/// A load that is over, its transfers still under way.
pub(crate) struct Load {
    carriers: Carriers,
    finality: Finality,
    outcome: Outcome,
    _follower: DropGuard,
}

/// Who carries transfers to the chain.
enum Carriers {
    /// This process.
    Engine(Engine<FileStore>),
    /// Worker processes.
    Crew(Crew),
}

/// How those stand.
struct Look {
    live: Live,
    /// Nothing more can be sent now, though something waits.
    full: bool,
    halted: Option<String>,
    workers: Option<(usize, usize)>,
}

impl Carriers {
    fn look(&self, tally: &Tally) -> Look {
        let mut live = tally.recorder().live(tally.now_ns());
        match self {
            Self::Engine(engine) => Look {
                live,
                full: engine.lanes_full() && live.queue_depth > 0,
                halted: engine.halted().map(|fault| format!("{fault:?}")),
                workers: None,
            },
            Self::Crew(crew) => {
                let sight = crew.sight();
                live.succeeded = sight.all.succeeded;
                live.failed = sight.all.failed;
                live.in_flight = sight.depth.unsettled();
                live.p95_settle_ms = sight.all.p95_settle_ms;
                live.tps_last_10s = sight.tps;
                live.queue_depth = sight.depth.queued;
                tally.recorder().queue_depth(tally.now_ns(), sight.depth.queued);
                // How full the lanes were, the workers tell.
                Look { live, full: false, halted: crew.halted(), workers: Some((sight.ready, crew.workers())) }
            }
        }
    }

    /// All that the workers measured.
    fn measured(&self) -> Option<Measured> {
        match self {
            Self::Engine(_) => None,
            Self::Crew(crew) => Some(crew.sight().all),
        }
    }
}

/// A load whose transfers all ended, or were given up.
pub(crate) struct Outcome {
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
    /// The highest block seen final.
    until: Height,
    /// Worker processes that were started again.
    restarts: u64,
    /// Sent over HTTP, and nobody said whether they were accepted.
    unanswered: Vec<Arrival>,
}

/// What the walk over the run's blocks brought.
#[derive(Clone, Copy)]
pub(crate) struct Audited {
    audit: Audit,
    /// Of the chunks' gas in the longest phase: burnt, in percent.
    chunk_fill: Option<f64>,
}

/// How full the chunks of a stretch of time were.
struct ChunkFill {
    /// In nanoseconds since the Unix epoch, by the blocks' own time.
    from_ns: i128,
    to_ns: i128,
    used: u128,
    limit: u128,
}

impl ChunkFill {
    /// Of the longest phase of a load that was about to start at `started`.
    fn during(schedule: &Schedule, started: Timestamp) -> Self {
        let (from, to) = schedule.phase_bounds().nth(schedule.longest_phase()).unwrap_or_default();
        let start_ns = started.as_nanosecond() + LEAD.as_nanos() as i128;
        Self { from_ns: start_ns + i128::from(from), to_ns: start_ns + i128::from(to), used: 0, limit: 0 }
    }

    fn count(&mut self, block: &Block) {
        if (self.from_ns..self.to_ns).contains(&i128::from(block.at.timestamp_ns)) {
            self.used += u128::from(block.gas_used);
            self.limit += u128::from(block.gas_limit);
        }
    }

    fn percent(&self) -> Option<f64> {
        (self.limit > 0).then(|| self.used as f64 * 100.0 / self.limit as f64)
    }
}

impl Measurement<'_> {
    /// Offers the schedule until it ends, `cut` is cancelled, or nothing more can be signed. The schedule of a run that
    /// is resumed went on meanwhile: what fell due then is not sent.
    pub(crate) async fn load(
        &self,
        run_started: Timestamp,
        cut: &CancellationToken,
        progress: &Progress,
    ) -> Result<Load, Failure> {
        let Self { plan, chain, provisioned, kept, access, .. } = self;
        let others_send = plan.load.via == Via::External;
        let schedule = Schedule::new(&plan.load.phases);
        let stop_following = CancellationToken::new();
        let follower = stop_following.clone().drop_guard();
        let finality = Finality::follow(chain.client.clone(), stop_following).await.map_err(Failure::run)?;
        let namespace = kept.opening.as_ref().map_or_else(|| rand::rng().random(), |opening| opening.namespace);
        let crew = match &kept.shared {
            Some(shared) => Some(Crew::start(self, &namespace, shared, progress).await?),
            None => None,
        };
        let now_unix_ns = unix_ns()?;
        let (opening, since_start_ns) = match &kept.opening {
            Some(opening) => {
                let known_ns = match &kept.shared {
                    Some(shared) => latest_ns(&*shared.store).await,
                    None => latest_ns(&*kept.store).await,
                };
                let known_ns = known_ns.map_err(Failure::run)?;
                (opening.clone(), schedule::resumed_at(opening.start_unix_ns, now_unix_ns, known_ns))
            }
            None => {
                let opening = Opening {
                    run_started: run_started.to_string(),
                    start_unix_ns: now_unix_ns + LEAD.as_nanos() as u64,
                    namespace,
                    public_keys: provisioned.public_keys(),
                    limits: provisioned.limits,
                    height: provisioned.height,
                    balances: provisioned.balances.clone(),
                };
                kept.open_load(&opening).await?;
                (opening, 0)
            }
        };
        let start = match (&kept.opening, Instant::now().checked_sub(Duration::from_nanos(since_start_ns))) {
            (Some(_), Some(start)) => start,
            (Some(_), None) => return Err(Failure::run(anyhow!("the load began before this machine's clock"))),
            (None, _) => Instant::now() + LEAD,
        };
        let tally = Arc::new(Tally::new(
            if others_send { Recorder::of_others(&schedule) } else { Recorder::new(&schedule) },
            schedule.total(),
            start,
            opening.start_unix_ns,
            plan.load.timeout_ms * 1_000_000,
        ));
        if kept.opening.is_some() {
            // What others sent is counted in the end, and so are the ends that workers leave.
            match &kept.shared {
                Some(_) if others_send => Ok(()),
                Some(shared) => tally.recall_accepted(&*shared.store).await,
                None if others_send => tally.recall_ends(&*kept.store).await,
                None => tally.recall(&*kept.store).await,
            }
            .map_err(Failure::run)?;
            if !others_send {
                progress.step(&resumed(&schedule, &tally, since_start_ns));
            }
        }
        let carriers = match crew {
            Some(crew) => Carriers::Crew(crew),
            None => Carriers::Engine(self.engine(finality.clone(), tally.clone()).await?),
        };
        let offer = Offer {
            namespace: opening.namespace,
            receivers: plan.receivers.as_slice().into(),
            amount: plan.transfer_amount,
            max_queue_depth: plan.engine.max_queue_depth,
            max_under_way: plan.load.phases.iter().map(|phase| phase.max_vusers).collect(),
        };

        let (traffic_before, measured_before) = (chain.client.traffic(), carriers.measured());
        let before = CpuPressure::now();
        let started = Timestamp::from_nanosecond(i128::from(opening.start_unix_ns)).map_err(Failure::run)?;
        let shutdown = CancellationToken::new();
        let serving = shutdown.clone().drop_guard();
        let way = match (plan.load.via, &carriers, &kept.shared) {
            (Via::Http, Carriers::Crew(crew), _) => {
                let target = crew.target(plan).ok_or_else(|| Failure::run(anyhow!("the workers serve no API")))?;
                Way::Http(target)
            }
            (Via::Http, Carriers::Engine(_), _) => {
                let (authorization, line) = api::key_of_the_load()?;
                let tokens = Tokens::parse(&line).map_err(Failure::run)?;
                let listener = api::listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
                let address = listener.local_addr().map_err(Failure::run)?;
                let settings = api::settings(plan, namespace, Some(tokens), tally.clone());
                api::serve(listener, kept.store.clone(), settings, shutdown);
                Way::Http(api::target(plan, vec![address], authorization))
            }
            (Via::External, Carriers::Engine(_), _) => {
                let access = access.ok_or_else(|| Failure::input(anyhow!("--api is needed: others send the load")))?;
                let settings = api::settings(plan, namespace, access.tokens()?, tally.clone());
                api::serve(api::listen(access.address()).await?, kept.store.clone(), settings, shutdown);
                Way::Others
            }
            (Via::External, Carriers::Crew(_), _) => Way::Others,
            (Via::Queue, _, Some(shared)) => Way::Shared(shared.store.clone()),
            (Via::Queue, _, None) => Way::Own(kept.store.clone()),
        };
        if let (Via::External, Some(access)) = (plan.load.via, access) {
            progress.step(&format!("others send: the transfer API is at http://{}", access.address()));
        }
        let mut driver = tokio::spawn({
            let (schedule, offer, tally, cut) = (schedule.clone(), offer.clone(), tally.clone(), cut.clone());
            async move { way.drive(&schedule, since_start_ns, &offer, start, tally, &cut).await }
        });
        let mut unanswered = Vec::new();
        let (mut ticks, mut full) = (0u64, 0u64);
        let mut tick = tokio::time::interval_at(start.max(Instant::now()), TICK);
        let duration = Duration::from_nanos(schedule.duration_ns());
        // The last arrival lies before the end of its phase, and the load lasts as long as its phases.
        let mut all_sent = false;
        while !all_sent || (Instant::now() < start + duration && !cut.is_cancelled()) {
            tick.tick().await;
            if !all_sent && driver.is_finished() {
                // A store that takes nothing more ends the load at once.
                unanswered = (&mut driver).await.map_err(Failure::run)?.map_err(Failure::run)?;
                all_sent = true;
            }
            let Look { mut live, full: is_full, halted, workers } = carriers.look(&tally);
            if others_send {
                // Workers tell it themselves, whether Redis answers now or not.
                if let Carriers::Engine(_) = &carriers {
                    live.in_flight = kept.store.depth().await.map_err(Failure::run)?.unsettled();
                }
                live.accepted = live.succeeded + live.failed + live.in_flight;
                live.sent += live.accepted;
                live.offered = live.sent;
            }
            ticks += 1;
            full += u64::from(is_full);
            let phase = plan.load.phases.get(live.phase).map_or("", |phase| &phase.name);
            progress.load(&live, phase, duration.saturating_sub(start.elapsed()), workers);
            if let Some(fault) = halted
                && !cut.is_cancelled()
            {
                progress.step(&format!("no transfer can succeed any more: {fault}"));
                cut.cancel();
            }
        }
        drop(serving);
        if let (true, Carriers::Crew(crew)) = (others_send, &carriers) {
            crew.close().await.map_err(Failure::run)?;
        }
        let after = CpuPressure::now();
        let percent = |part: u64, all: u64| (all > 0).then(|| part as f64 * 100.0 / all as f64);
        let (lanes_full, endpoint_trouble) = match (measured_before, carriers.measured()) {
            (Some(before), Some(after)) => (
                percent(after.full.saturating_sub(before.full), after.looks.saturating_sub(before.looks)),
                percent(
                    after.failed_requests.saturating_sub(before.failed_requests),
                    after.requests.saturating_sub(before.requests),
                ),
            ),
            _ => (percent(full, ticks), chain.client.traffic().since(&traffic_before).trouble_percent()),
        };
        let outcome = Outcome {
            tally,
            offer,
            started,
            block_time: finality.block_interval(),
            polling_error: finality.polling_error(),
            endpoint_trouble,
            traffic_before,
            lanes_full,
            throttled_ms: after.throttled_ms_since(before),
            steal_percent: after.steal_percent_since(before),
            until: finality.head().height,
            restarts: 0,
            unanswered,
        };
        Ok(Load { carriers, finality, outcome, _follower: follower })
    }

    /// The engine of a run in one process.
    async fn engine(&self, finality: Finality, tally: Arc<Tally>) -> Result<Engine<FileStore>, Failure> {
        let Self { plan, chain, provisioned, kept, .. } = self;
        let nonces = provisioned.lanes.iter().map(|lane| lane.nonce);
        Engine::start(Setup {
            store: kept.store.clone(),
            client: chain.client.clone(),
            finality,
            tally,
            lanes: chain.signers.lanes.iter().cloned().zip(nonces).collect(),
            lease: LEASE,
            token: plan.token.contract_id.clone(),
            engine: plan.engine,
            limits: provisioned.limits,
        })
        .await
        .map_err(Failure::run)
    }

    /// Works off what was accepted.
    pub(crate) async fn drain(&self, load: Load, progress: &Progress) -> Result<Outcome, Failure> {
        let Load { carriers, finality, mut outcome, _follower } = load;
        let patience = Duration::from_millis(self.plan.load.timeout_ms);
        let tally = outcome.tally.clone();
        match carriers {
            Carriers::Engine(engine) => {
                let mut drain = pin!(engine.drain(patience));
                let mut tick = tokio::time::interval(TICK);
                let drained = loop {
                    tokio::select! {
                        drained = &mut drain => break drained,
                        _ = tick.tick() => progress.drain(&tally.recorder().live(tally.now_ns())),
                    }
                };
                drained.map_err(Failure::run)?;
            }
            Carriers::Crew(crew) => self.drain_crew(&crew, patience, &mut outcome, progress).await?,
        }
        let found = match &self.kept.shared {
            Some(shared) => self.find_accepted(&outcome, &*shared.store).await,
            None => self.find_accepted(&outcome, &*self.kept.store).await,
        };
        found.map_err(Failure::run)?;
        let traffic = self.chain.client.traffic().since(&outcome.traffic_before);
        for (label, times) in traffic.errors {
            tally.recorder().errors(label, times);
        }
        outcome.block_time = finality.block_interval();
        outcome.until = outcome.until.max(finality.head().height);
        Ok(outcome)
    }

    /// Counts those that were accepted though nobody told the load so: the store has them.
    async fn find_accepted(&self, outcome: &Outcome, store: &impl Recall) -> Result<(), StoreError> {
        if self.plan.load.via == Via::External {
            return outcome.tally.recall_accepted(store).await;
        }
        if outcome.unanswered.is_empty() {
            return Ok(());
        }
        let mut open: HashMap<_, _> =
            outcome.unanswered.iter().map(|arrival| (outcome.offer.id(arrival.n), arrival.phase)).collect();
        let tally = &outcome.tally;
        let mut found = |id| {
            if let Some(phase) = open.remove(&id) {
                tally.recorder().accepted_without_answer(phase);
            }
        };
        store.unsettled().await?.into_iter().for_each(|transfer| found(transfer.id));
        store
            .results(&mut |row| match row {
                ResultRow::Settled { transfers, .. } | ResultRow::Cancelled { transfers } => {
                    transfers.into_iter().for_each(|transfer| found(transfer.id));
                }
            })
            .await
    }

    /// The same by worker processes, and what they left is counted: their results, and what no result tells.
    async fn drain_crew(
        &self,
        crew: &Crew,
        patience: Duration,
        outcome: &mut Outcome,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let tally = &outcome.tally;
        let tell = |depth: &Depth| {
            let sight = crew.sight();
            let live = tally.recorder().live(tally.now_ns());
            progress.drain(&Live {
                succeeded: sight.all.succeeded,
                failed: sight.all.failed,
                in_flight: depth.unsettled(),
                queue_depth: depth.queued,
                ..live
            });
        };
        crew.drain(patience, tell).await.map_err(Failure::run)?;
        if let Some(shared) = &self.kept.shared {
            tally.recall_ends(&*shared.store).await.map_err(Failure::run)?;
        }
        let measured = crew.measured().await.map_err(Failure::run)?;
        let mut recorder = tally.recorder();
        for (label, times) in measured.errors {
            recorder.errors(label, times);
        }
        recorder.nonce_conflicts(measured.nonce_conflicts);
        if self.plan.load.via == Via::External {
            for (phase, times) in (0..).zip(measured.turned_away) {
                recorder.turned_away_elsewhere(phase, times);
            }
        }
        drop(recorder);
        outcome.restarts = crew.restarts();
        outcome.until = measured.final_height;
        Ok(())
    }

    /// Looks for every transfer on chain.
    pub(crate) async fn audit(&self, measured: &Outcome, progress: &Progress) -> Result<Audited, Failure> {
        let Self { plan, chain, provisioned, kept, .. } = self;
        let ledger = measured.tally.ledger().clone();
        let others = match (plan.load.via, &kept.shared) {
            (Via::External, Some(shared)) => asked_by_others(&*shared.store).await,
            (Via::External, None) => asked_by_others(&*kept.store).await,
            _ => Ok(HashMap::new()),
        };
        let others = others.map_err(Failure::run)?;
        let numbers: HashMap<_, _> = match plan.load.via {
            Via::External => HashMap::new(),
            Via::Queue | Via::Http => (0..ledger.total()).map(|n| (measured.offer.id(n), n)).collect(),
        };
        let expected = |id| match numbers.get(&id) {
            Some(n) => Some(expected(&measured.offer, &ledger, *n)),
            None => others.get(&id).cloned(),
        };
        let public_keys = provisioned.public_keys();
        let scope = Scope {
            account: &plan.account.account_id,
            public_keys: &public_keys,
            token: &plan.token.contract_id,
            receivers: &plan.receivers,
            from: provisioned.height,
            before: &provisioned.balances,
            until: measured.until,
        };
        let succeeded = measured.tally.recorder().counts().succeeded;
        let walk = || async {
            let chunks = Mutex::new(ChunkFill::during(&Schedule::new(&plan.load.phases), measured.started));
            let walked = |block: &Block, last| {
                chunks.lock().unwrap_or_else(PoisonError::into_inner).count(block);
                progress.audit(block.at.height, last);
            };
            let audit = audit::audit(&chain.client, &scope, &expected, succeeded, &walked).await?;
            Ok((audit, chunks.into_inner().unwrap_or_else(PoisonError::into_inner).percent()))
        };
        let (audit, chunk_fill) = patiently(progress, walk, |error| !matches!(error, AuditError::Endless))
            .await
            .context("the audit could not be done")
            .map_err(Failure::run)?;
        Ok(Audited { audit, chunk_fill })
    }

    /// Turns what was measured into a report.
    pub(crate) async fn report(
        &self,
        measured: &Outcome,
        audited: Option<Audited>,
        stopped_early: bool,
        run_started: &str,
    ) -> Result<BenchmarkReport, Failure> {
        let Self { plan, chain, provisioned, kept, .. } = self;
        let node = chain.client.status().await.map_err(Failure::run)?;
        let block_time_ms = measured.block_time.as_secs_f64() * 1000.0;
        let observed = Observed {
            block_time_ms,
            restarts: kept.resumes + measured.restarts,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            signals: Signals {
                lanes_full: measured.lanes_full,
                endpoint_trouble: measured.endpoint_trouble,
                chunk_fill: audited.and_then(|audited| audited.chunk_fill),
                ..Signals::default()
            },
            audit: audited.map(|audited| audited.audit),
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
                start_time: run_started.to_owned(),
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

/// How the load reaches those who carry it.
enum Way {
    /// Into the queue of this process.
    Own(Arc<FileStore>),
    /// Into the queue that worker processes share.
    Shared(Arc<RedisStore>),
    /// Over HTTP.
    Http(Target),
    /// Somebody else sends it.
    Others,
}

impl Way {
    /// Offers the schedule. Returns those of which nobody said whether they were accepted.
    async fn drive(
        self,
        schedule: &Schedule,
        since_start_ns: u64,
        offer: &Offer,
        start: Instant,
        tally: Arc<Tally>,
        cut: &CancellationToken,
    ) -> Result<Vec<Arrival>, StoreError> {
        let arrivals = schedule.arrivals(0, 1).skip_while(|arrival| arrival.intended_ns < since_start_ns);
        match self {
            Self::Own(store) => nearbench_load::drive(&*store, arrivals, offer, start, &tally.recorder, cut).await?,
            Self::Shared(store) => nearbench_load::drive(&*store, arrivals, offer, start, &tally.recorder, cut).await?,
            Self::Http(target) => {
                return Ok(nearbench_load::drive_http(target, arrivals, offer, start, tally, cut).await);
            }
            Self::Others => {
                let end = start + Duration::from_nanos(schedule.duration_ns());
                // Whether it ended or was cut, there is nothing to say of it.
                let _ = cut.run_until_cancelled(tokio::time::sleep_until(end)).await;
            }
        }
        Ok(Vec::new())
    }
}

/// What became of all that others sent: of whom the plan says nothing.
async fn asked_by_others<S: Recall + Records>(store: &S) -> Result<HashMap<TransferId, Expected>, StoreError> {
    let mut ends: HashMap<TransferId, TransferState> = HashMap::new();
    store
        .results(&mut |row| match row {
            ResultRow::Settled { settled, transfers, .. } => {
                for (index, transfer) in transfers.iter().enumerate() {
                    let state = match settled.settlement.fate(index) {
                        Fate::Requeue => continue,
                        Fate::Finalized => TransferState::Finalized,
                        Fate::Failed => TransferState::Failed,
                        Fate::NeedsReview => TransferState::NeedsReview,
                    };
                    ends.insert(transfer.id, state);
                }
            }
            ResultRow::Cancelled { transfers } => {
                ends.extend(transfers.iter().map(|transfer| (transfer.id, TransferState::Cancelled)));
            }
        })
        .await?;
    let ids: Vec<_> = ends.keys().copied().collect();
    let mut expected = HashMap::with_capacity(ids.len());
    for some in ids.chunks(RECORDS) {
        for record in store.find(some).await?.into_iter().flatten() {
            let (Some(details), Some(state)) = (record.details, ends.get(&record.id)) else { continue };
            let Details { receiver, amount, .. } = *details;
            expected.insert(record.id, Expected { receiver, amount, state: *state });
        }
    }
    Ok(expected)
}

/// What there is to say of a load that goes on.
fn resumed(schedule: &Schedule, tally: &Tally, since_start_ns: u64) -> String {
    let counts = tally.recorder().counts();
    let missed = schedule.offered_before(since_start_ns).saturating_sub(counts.sent);
    format!(
        "{} transfers were accepted before, {} have no end yet; the schedule is at {}, and {missed} that fell due \
         meanwhile are not sent",
        counts.accepted,
        counts.accepted.saturating_sub(counts.ended()),
        humantime::format_duration(Duration::from_secs(since_start_ns / 1_000_000_000)),
    )
}

/// The latest moment that a run recorded, in nanoseconds since its load's start.
async fn latest_ns(store: &impl Recall) -> Result<u64, StoreError> {
    let mut latest_ns = store.unsettled().await?.iter().map(|transfer| transfer.sent_ns).max().unwrap_or(0);
    let mut look = |row| {
        latest_ns = latest_ns.max(match row {
            ResultRow::Settled { settled, .. } => settled.at_ns,
            ResultRow::Cancelled { transfers } => {
                transfers.iter().map(|transfer| transfer.sent_ns).max().unwrap_or_default()
            }
        });
    };
    store.results(&mut look).await?;
    Ok(latest_ns)
}

fn unix_ns() -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::run)?;
    u64::try_from(now.as_nanos()).map_err(Failure::run)
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
