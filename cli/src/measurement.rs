//! The stages of a run's load: offering it, and working off what was accepted. What it comes to is for `findings`.

use crate::{
    api::{self, Access},
    chain::Chain,
    environment::CpuPressure,
    exit::Failure,
    findings::Outcome,
    fleet::{self, Crew},
    kept::{Kept, Opening},
    metrics::{Metrics, Sources},
    progress::Progress,
    way::{Due, Way, latest_ns},
};
use anyhow::anyhow;
use jiff::Timestamp;
use nearbench_core::{
    Plan,
    evidence::Evidence,
    measure::{Live, Recorder},
    plan::Via,
    report::Restarts,
    schedule::{self, Schedule},
};
use nearbench_load::Offer;
use nearbench_near::{Traffic, provision::Provisioned};
use nearbench_store::{Depth, FileStore, Store};
use nearbench_worker::{Engine, Finality, LEASE, Setup, Tally, Tokens};
use rand::Rng;
use std::{
    net::SocketAddr,
    path::Path,
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
    pub(crate) secrets: &'a Path,
    pub(crate) provisioned: &'a Provisioned,
    pub(crate) kept: &'a Kept,
    /// Where those who send in place of the load reach the API.
    pub(crate) access: Option<&'a Access>,
    pub(crate) metrics: &'a Metrics,
    /// Where this process serves its metrics, if it does, and then each of its workers.
    pub(crate) metrics_addresses: &'a [SocketAddr],
}

/// A load that is over, its transfers still under way.
pub(crate) struct Load {
    carriers: Carriers,
    finality: Finality,
    outcome: Outcome,
    /// What had been asked of the endpoints before the load.
    traffic_before: Traffic,
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
    halted: Option<String>,
    workers: Option<(usize, usize)>,
}

impl Carriers {
    fn look(&self, tally: &Tally) -> Look {
        let mut live = tally.recorder().live(tally.now_ns());
        match self {
            Self::Engine(engine) => {
                engine.look();
                Look { live, halted: engine.halted().map(|fault| format!("{fault:?}")), workers: None }
            }
            Self::Crew(crew) => {
                let sight = crew.sight();
                sight.complete(&mut live, &sight.depth);
                tally.recorder().queue_depth(tally.now_ns(), sight.depth.queued);
                Look { live, halted: crew.halted(), workers: Some((sight.ready, crew.workers())) }
            }
        }
    }

    /// Where the time of this process went so far. Workers leave theirs.
    fn evidence(&self) -> Evidence {
        match self {
            Self::Engine(engine) => engine.evidence(),
            Self::Crew(_) => Evidence::default(),
        }
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
        self.tell_of(&carriers, &tally);
        let offer = Offer {
            namespace: opening.namespace,
            receivers: plan.receivers.as_slice().into(),
            amount: plan.transfer_amount,
            max_queue_depth: plan.engine.max_queue_depth,
            max_under_way: plan.load.phases.iter().map(|phase| phase.max_vusers).collect(),
        };

        let (traffic_before, evidence_before) = (chain.client.traffic(), carriers.evidence());
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
                let settings = api::settings(plan, namespace, Some(tokens), tally.clone(), self.metrics.clone());
                api::serve(listener, kept.store.clone(), settings, shutdown);
                Way::Http(api::target(plan, vec![address], authorization))
            }
            (Via::External, Carriers::Engine(_), _) => {
                let access = access.ok_or_else(|| Failure::input(anyhow!("--api is needed: others send the load")))?;
                let settings = api::settings(plan, namespace, access.tokens()?, tally.clone(), self.metrics.clone());
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
            async move {
                let due = Due { schedule: &schedule, share: (0, 1), since_start_ns };
                way.drive(due, &offer, start, tally, &cut).await
            }
        });
        let mut unanswered = Vec::new();
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
            let Look { mut live, halted, workers } = carriers.look(&tally);
            if others_send {
                // Workers tell it themselves, whether Redis answers now or not.
                if let Carriers::Engine(_) = &carriers {
                    live.in_flight = kept.store.depth().await.map_err(Failure::run)?.unsettled();
                }
                live.accepted = live.succeeded + live.failed + live.in_flight;
                live.sent += live.accepted;
                live.offered = live.sent;
            }
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
        let outcome = Outcome {
            tally,
            offer,
            started,
            block_time: finality.block_interval(),
            polling_error: finality.polling_error(),
            evidence: carriers.evidence().since(&evidence_before),
            throttled_ms: after.throttled_ms_since(before),
            steal_percent: after.steal_percent_since(before),
            until: finality.head().height,
            restarts: Restarts { run: Some(kept.resumes), ..Restarts::default() },
            clocks_apart_ms: 0,
            unanswered,
        };
        Ok(Load { carriers, finality, outcome, traffic_before, _follower: follower })
    }

    /// What the metrics are of from now on. Workers have their own.
    fn tell_of(&self, carriers: &Carriers, tally: &Arc<Tally>) {
        let others_send = self.plan.load.via == Via::External;
        let sources = Sources { sends: (!others_send).then_some(1), ..Sources::of(tally.clone()) };
        self.metrics.tell_of(match carriers {
            Carriers::Engine(engine) => Sources {
                carries: true,
                takes: others_send,
                client: Some(self.chain.client.clone()),
                keys: Some(engine.keys()),
                ..sources
            },
            Carriers::Crew(_) => {
                Sources { store: self.kept.shared.as_ref().map(|shared| (*shared.store).clone()), ..sources }
            }
        });
        self.metrics.watch_balance(self.chain.client.clone(), self.plan);
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
        let Load { carriers, finality, mut outcome, traffic_before, _follower } = load;
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
        self.kept.books().find_accepted(self.plan, &outcome).await.map_err(Failure::run)?;
        let traffic = self.chain.client.traffic().since(&traffic_before);
        for (label, times) in traffic.errors {
            tally.recorder().errors(label, times);
        }
        outcome.block_time = finality.block_interval();
        outcome.until = outcome.until.max(finality.head().height);
        Ok(outcome)
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
            let mut live = tally.recorder().live(tally.now_ns());
            crew.sight().complete(&mut live, depth);
            progress.drain(&live);
        };
        crew.drain(patience, tell).await.map_err(Failure::run)?;
        if let Some(shared) = &self.kept.shared {
            let measured = fleet::count(self.plan, &shared.store, tally).await.map_err(Failure::run)?;
            outcome.until = measured.final_height;
            outcome.evidence = measured.evidence;
        }
        outcome.restarts.workers = Some(crew.restarts());
        Ok(())
    }
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

fn unix_ns() -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::run)?;
    u64::try_from(now.as_nanos()).map_err(Failure::run)
}
