//! `nearbench worker`: one of the processes that carry a run's transfers to the chain, and serve the API to those who ask
//! for them.

use crate::{
    api, args, chain, environment,
    exit::{self, Failure},
    fleet::{self, Brief},
    heal::Healer,
    log, manifest,
    metrics::{Metrics, Sources},
    signal::Ended,
};
use nearbench_core::{Plan, measure::Recorder, plan::Via, schedule::Schedule};
use nearbench_near::keyfile::{self, KEYS_FILE};
use nearbench_store::{Order, RedisOptions, RedisStore};
use nearbench_worker::{
    Engine, Finality, Keys, Settings, Setup, Spool, SpoolBounds, Tally, Tokens,
    fleet::{LEASE, Measured, Member, State},
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncReadExt, sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks for what is not there yet.
const LOOK: Duration = Duration::from_millis(200);
/// How long a client of the API waits for the store before it is told to come again.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// How far the process has come.
#[derive(Clone)]
enum Readiness {
    /// Not at work yet.
    WaitsFor(&'static str),
    /// At work.
    Works(watch::Receiver<State>),
}

pub(crate) async fn run(args: args::Worker) -> Result<u8, Failure> {
    let stop = ended(args.while_stdin)?;
    let (readiness, _) = watch::channel(Readiness::WaitsFor("its run's store"));
    let work = work(args, &stop, &readiness);
    // A worker that is told to end before it began has nothing to give back.
    let begun = readiness.subscribe();
    tokio::select! {
        ended = work => ended?,
        () = async {
            stop.cancelled().await;
            if matches!(*begun.borrow(), Readiness::Works(_)) {
                std::future::pending().await
            }
        } => {}
    }
    Ok(exit::PASSED)
}

async fn work(
    args: args::Worker,
    stop: &CancellationToken,
    readiness: &watch::Sender<Readiness>,
) -> Result<(), Failure> {
    let plan = manifest::load_plan(&args.plan)?;
    log::of_run(&plan);
    let signers = keyfile::read_keys(&args.keys.join(KEYS_FILE), &plan.account.account_id).map_err(Failure::input)?;
    let door = args.listen.map(|address| Door::find(address, &args)).transpose()?;
    let client = chain::client(&plan, &args.secrets)?;
    let url = fleet::read_url(&args.redis_url_file)?;
    let name = args.run_id.as_deref().unwrap_or(&plan.name);
    let store = RedisStore::open(&url, RedisOptions::new(name)).await.map_err(Failure::run)?;
    let store = Arc::new(store);
    let tally = Arc::new(tally(&plan));
    let metrics = Metrics::of(&plan);
    if let Some(address) = args.metrics_addr {
        metrics.serve(address).await?;
    }
    // One that is started again under load turns nobody away.
    if let Some(start_unix_ns) = fleet::value(&store, fleet::START).await? {
        begin(&tally, start_unix_ns);
    }
    let engine = Arc::new(OnceLock::new());
    let keys: Arc<dyn Fn() -> Keys + Send + Sync> = Arc::new(keys_of(signers.len(), engine.clone()));
    let mut sources = Sources {
        carries: true,
        takes: plan.load.via == Via::External,
        client: Some(client.clone()),
        keys: Some(keys.clone()),
        store: Some((*store).clone()),
        ..Sources::of(tally.clone())
    };
    let served = match door {
        Some(door) => {
            let waits = Waits { readiness: readiness.subscribe(), tally: tally.clone() };
            Some(door.open(&plan, &store, waits, &metrics, &mut sources, stop).await?)
        }
        None => None,
    };
    metrics.tell_of(sources);
    readiness.send_replace(Readiness::WaitsFor("the chain"));
    client.check_chain_id(&plan.network.chain_id).await.map_err(Failure::run)?;
    metrics.watch_balance(client.clone(), &plan);
    let following = CancellationToken::new();
    let _follower = following.clone().drop_guard();
    let finality = Finality::follow(client.clone(), following).await.map_err(Failure::run)?;
    readiness.send_replace(Readiness::WaitsFor("its run's brief: the account is being provisioned"));
    let brief: Brief = wait_for(&store, fleet::BRIEF).await?;
    tokio::spawn({
        let (store, tally) = (store.clone(), tally.clone());
        async move {
            match wait_for::<u64>(&store, fleet::START).await {
                Ok(start_unix_ns) => begin(&tally, start_unix_ns),
                Err(failure) => tracing::error!(error = %failure.error, "when the load began is not known"),
            }
        }
    });
    let healer = Healer {
        store: store.clone(),
        client: client.clone(),
        finality: finality.clone(),
        token: plan.token.contract_id.clone(),
        signers: signers.clone(),
        brief,
        tally: tally.clone(),
    };
    let started = Engine::start(Setup {
        store: store.clone(),
        client: client.clone(),
        finality,
        tally: tally.clone(),
        lanes: Vec::new(),
        lease: LEASE,
        token: plan.token.contract_id.clone(),
        engine: plan.engine,
        limits: brief.limits,
    })
    .await
    .map_err(Failure::run)?;
    let started = engine.get_or_init(|| Arc::new(started)).clone();
    let member = Member::new(store, client, tally, started, signers);
    readiness.send_replace(Readiness::Works(member.follow()));
    let machine = |measured: &mut Measured| measured.peak_rss_bytes = environment::peak_rss_bytes();
    let ended = tokio::select! {
        ended = member.take_part(stop, machine) => ended.map_err(Failure::run),
        never = healer.watch() => match never {},
    };
    if let Some(served) = served {
        // Requests under way are answered.
        served.await.map_err(Failure::run)?;
    }
    ended
}

/// Where a worker serves the API, to whom, and with which secret.
struct Door {
    address: SocketAddr,
    namespace: [u8; 32],
    tokens: Option<Tokens>,
    spool: Option<PathBuf>,
}

/// What a worker's API waits for before it takes transfers.
struct Waits {
    readiness: watch::Receiver<Readiness>,
    tally: Arc<Tally>,
}

impl Waits {
    /// Before it can do its work.
    fn for_work(&self) -> Vec<String> {
        let waits = |what: &str| vec![what.to_owned()];
        match &*self.readiness.borrow() {
            Readiness::WaitsFor(what) => waits(what),
            Readiness::Works(state) if state.borrow().heard_unix_ms.is_none() => waits("the other workers"),
            Readiness::Works(_) => Vec::new(),
        }
    }

    /// Before it takes anything.
    fn for_load(&self) -> Option<&'static str> {
        let over = matches!(&*self.readiness.borrow(), Readiness::Works(state) if state.borrow().order != Order::Work);
        if over {
            return Some("the run's load is over");
        }
        self.tally.start_unix_ns().is_none().then_some("the run's load has not begun")
    }
}

impl Door {
    fn find(address: SocketAddr, args: &args::Worker) -> Result<Self, Failure> {
        let tokens = api::read_tokens(args.tokens.as_deref(), address)?;
        Ok(Self { address, namespace: api::read_namespace(&args.keys)?, tokens, spool: args.spool.clone() })
    }

    /// Serves the API until `stop`.
    async fn open(
        self,
        plan: &Plan,
        store: &RedisStore,
        waits: Waits,
        metrics: &Metrics,
        sources: &mut Sources,
        stop: &CancellationToken,
    ) -> Result<JoinHandle<()>, Failure> {
        let Self { address, namespace, tokens, spool } = self;
        let listener = api::listen(address).await?;
        let waits = Arc::new(waits);
        let (work, load) = (waits.clone(), waits);
        let settings = Settings {
            waiting_for: Arc::new(move || work.for_work()),
            closed: Arc::new(move || load.for_load()),
            keys: sources.keys.clone().unwrap_or_else(|| Arc::new(Keys::default)),
            ..api::settings(plan, namespace, tokens, sources.tally.clone(), metrics.clone())
        };
        let store = Arc::new(store.with_patience(STORE_PATIENCE));
        let Some(folder) = spool else { return Ok(api::serve(listener, store, settings, stop.child_token())) };
        let spool = Spool::open(store, &folder, &plan.name, &namespace, SpoolBounds::default()).await;
        let spool = Arc::new(spool.map_err(Failure::input)?);
        let (draining, stopping, max_depth) = (spool.clone(), stop.clone(), settings.max_depth);
        tokio::spawn(async move {
            if let Err(error) = draining.drain(max_depth, stopping.child_token()).await {
                tracing::error!(%error, "nothing can be spooled any more: the worker ends");
                stopping.cancel();
            }
        });
        let noted = spool.clone();
        sources.spooled = Some(Arc::new(move || noted.note()));
        let settings = Settings { spooled: sources.spooled.clone(), ..settings };
        Ok(api::serve(listener, spool, settings, stop.child_token()))
    }
}

/// How the keys of this worker stand, of `total`.
fn keys_of(total: usize, engine: Arc<OnceLock<Arc<Engine<RedisStore>>>>) -> impl Fn() -> Keys + Send + Sync {
    move || {
        let keys = engine.get().map_or_else(Keys::default, |engine| engine.keys()());
        Keys { total: total as u64, ..keys }
    }
}

/// Counts for a load of which it is not known yet when it starts. What became of each transfer is in the store.
fn tally(plan: &Plan) -> Tally {
    let schedule = Schedule::new(&plan.load.phases);
    Tally::waiting(Recorder::new(&schedule), 0, plan.load.timeout_ms * 1_000_000)
}

/// The load's start on this process's clock.
fn begin(tally: &Tally, start_unix_ns: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Duration::from_nanos(start_unix_ns);
    let start = match start.checked_sub(now) {
        Some(ahead) => Some(Instant::now() + ahead),
        None => Instant::now().checked_sub(now - start),
    };
    match start {
        Some(start) => tally.begin(start, start_unix_ns),
        None => tracing::error!("the load began before this machine's clock"),
    }
}

/// A value that the run puts into the store, once it is there.
async fn wait_for<T: serde::de::DeserializeOwned>(store: &RedisStore, name: &str) -> Result<T, Failure> {
    loop {
        if let Some(value) = fleet::value(store, name).await? {
            return Ok(value);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Cancelled by SIGTERM or Ctrl-C; with `while_stdin` also by the end of standard input. The second signal ends the process.
fn ended(while_stdin: bool) -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let mut ended = Ended::listen().map_err(Failure::run)?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        ended.next().await;
        tracing::info!("stopping: the lanes are given back first");
        stopping.cancel();
        ended.next().await;
        std::process::exit(exit::INCONCLUSIVE.into());
    });
    if while_stdin {
        let stopping = stop.clone();
        tokio::spawn(async move {
            let mut nothing = [0; 64];
            while tokio::io::stdin().read(&mut nothing).await.is_ok_and(|read| read > 0) {}
            stopping.cancel();
        });
    }
    Ok(stop)
}
