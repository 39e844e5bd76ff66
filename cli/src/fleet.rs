//! A run's worker processes, as the run sees them: what they are given, how they are kept alive, and what they tell.

use crate::{
    api::{self, Access, NAMESPACE_FILE},
    args,
    chain::Chain,
    exit::{self, Failure},
    kept::Kept,
    manifest::PLAN,
    measurement::Measurement,
    output,
    progress::Progress,
};
use anyhow::{Context, anyhow};
use nearbench_core::{
    Height, Plan,
    histogram::Histogram,
    measure::{Lately, Live},
    plan::{ChainLimits, Store as StorePlan, Via},
};
use nearbench_load::Target;
use nearbench_near::{
    SecretText,
    keyfile::{self, KEYS_FILE},
    provision::Provisioned,
};
use nearbench_store::{
    Depth, Fleet, LaneKey, Order, RedisError, RedisOptions, RedisStore, RedisUrl, Store, StoreError,
};
use nearbench_worker::{
    Tally,
    fleet::{LEASE, Measured},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{process::Command, sync::watch, time::Instant};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// The name in the store of what the workers need besides the plan.
pub(crate) const BRIEF: &str = "brief";
/// The name in the store of the load's start, in nanoseconds since the Unix epoch.
pub(crate) const START: &str = "start";
/// The folder of what the workers read, in a run's folder.
const FOLDER: &str = "fleet";
/// The file in it with those who may use the workers' API.
const TOKENS_FILE: &str = "nearbench-tokens";
/// The file in it, and in a Secret, with the URL of the Redis.
const URL_FILE: &str = "nearbench-redis-url";

/// Between two looks at the fleet.
const LOOK: Duration = Duration::from_millis(500);
/// A worker that left nothing for so long is not at work.
const SILENT_MS: u64 = 5_000;
/// How long the workers have until they hold every lane.
const READY: Duration = Duration::from_secs(30);
/// How long a worker has to end in order.
const ENDING: Duration = Duration::from_secs(20);
/// Before a worker that died is started again; longer where it had only begun.
const PAUSE: Duration = Duration::from_millis(200);
const LONG_PAUSE: Duration = Duration::from_secs(2);
/// A worker that ends sooner had only begun.
const BEGINNING: Duration = Duration::from_secs(5);
/// Over so many looks the rate of the progress line is taken.
const RATE_LOOKS: usize = 20;

/// What a worker needs besides the plan and the keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Brief {
    /// The chain's limits.
    pub(crate) limits: ChainLimits,
    /// The height of a block before the first transfer was signed.
    pub(crate) height: Height,
}

/// A fleet as it was asked for; a resumed run finds it in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    workers: u32,
    redis: Redis,
}

/// Where the Redis is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Redis {
    /// A URL without a password.
    Url(String),
    /// A file with a URL.
    File(PathBuf),
}

/// Reads the URL of a Redis from a file that nobody else may read.
pub(crate) fn read_url(path: &Path) -> Result<RedisUrl, Failure> {
    let text = SecretText::read(path).map_err(Failure::input)?;
    RedisUrl::parse(text.expose()).with_context(|| path.display().to_string()).map_err(Failure::input)
}

impl Asked {
    /// The fleet that the command line or the plan asks for; `before` is what a resumed run had.
    pub(crate) fn of(args: &args::Run, plan: &Plan, before: Option<Self>) -> Result<Option<Self>, Failure> {
        let redis = match (&args.redis_url, &args.redis_url_file, &plan.store) {
            (Some(url), ..) => Some(Redis::Url(without_password(url)?)),
            (None, Some(file), _) => Some(Redis::File(std::path::absolute(file).map_err(Failure::input)?)),
            (None, None, StorePlan::Redis { secret }) => {
                let file = args.references.secrets.join(secret).join(URL_FILE);
                Some(Redis::File(std::path::absolute(file).map_err(Failure::input)?))
            }
            (None, None, StorePlan::Own) => None,
        };
        let (workers_before, redis_before) = before.map(|asked| (asked.workers, asked.redis)).unzip();
        let Some(redis) = redis.or(redis_before) else {
            return match args.workers {
                Some(workers) => Err(Failure::input(anyhow!(
                    "--workers {workers}: worker processes share a Redis: name it with --redis-url redis://HOST:PORT, or \
                     with --redis-url-file where it asks for a password"
                ))),
                None => Ok(None),
            };
        };
        let workers = args.workers.or(workers_before).unwrap_or(plan.workers).max(1);
        let asked = Self { workers, redis };
        asked.url().map_err(|failure| {
            match (&plan.store, args.redis_url.is_none() && args.redis_url_file.is_none()) {
                (StorePlan::Redis { .. }, true) => {
                    Failure { error: failure.error.context("spec.store.redis.secretRef"), ..failure }
                }
                _ => failure,
            }
        })?;
        Ok(Some(asked))
    }

    /// How many workers.
    pub(crate) fn workers(&self) -> u32 {
        self.workers
    }

    fn url(&self) -> Result<RedisUrl, Failure> {
        match &self.redis {
            Redis::Url(url) => RedisUrl::parse(url).context("--redis-url").map_err(Failure::input),
            Redis::File(file) => read_url(file),
        }
    }
}

/// A URL that may stand on the command line, where everybody on the machine can read it.
fn without_password(url: &str) -> Result<String, Failure> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let credentials = authority.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    if credentials.contains(':') {
        return Err(Failure::input(anyhow!(
            "--redis-url: a password on the command line can be read by everybody on this machine: write the URL into a \
             file of mode 0600 and name it with --redis-url-file"
        )));
    }
    Ok(url.to_owned())
}

/// The store that a run's workers share.
pub(crate) struct Shared {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) asked: Asked,
}

impl Shared {
    /// Makes the store of a run that begins, or finds that of one that goes on.
    pub(crate) async fn open(asked: Asked, plan: &Plan, load_began: bool) -> Result<Self, Failure> {
        let url = asked.url()?;
        let options = || RedisOptions::new(plan.name.as_str());
        let store = if load_began {
            RedisStore::open(&url, options()).await.map_err(Failure::input)?
        } else {
            match RedisStore::create(&url, options()).await {
                Err(RedisError::Exists { store }) => {
                    let left = RedisStore::open(&url, options()).await.map_err(Failure::input)?;
                    if left.meta(START).await.map_err(Failure::run)?.is_some() {
                        return Err(Failure::input(anyhow!(
                            "{store}: a run of that name began its load there and did not come to its report: finish it \
                             with --resume and its --out, give this run another name, or delete the keys {{nearbench:{}}}:*",
                            plan.name
                        )));
                    }
                    // Nothing was accepted there.
                    left.forget().await.map_err(Failure::run)?;
                    RedisStore::create(&url, options()).await.map_err(Failure::input)?
                }
                made => made.map_err(Failure::input)?,
            }
        };
        Ok(Self { store: Arc::new(store), asked })
    }
}

/// What the workers tell, at one look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    /// All that every worker measured, those that are gone included.
    pub(crate) all: Measured,
    /// Workers at work that hold a lane, and the lanes they hold.
    pub(crate) ready: usize,
    pub(crate) lanes: u64,
    /// Lanes that stopped for good.
    pub(crate) faults: Vec<String>,
    pub(crate) depth: Depth,
    pub(crate) lately: Lately,
}

impl Sight {
    /// What of a load's standing the workers know, and not whoever offers it. `depth` is that of its queue.
    pub(crate) fn complete(&self, live: &mut Live, depth: &Depth) {
        live.succeeded = self.all.succeeded;
        live.failed = self.all.failed;
        live.in_flight = depth.unsettled();
        live.transactions = self.all.transactions;
        live.settle = self.all.settle.summary();
        live.lately = self.lately;
        live.queue_depth = depth.queued;
    }

    /// What stopped every lane of so many for good, if something did.
    pub(crate) fn halted(&self, lanes: u64) -> Option<String> {
        (lanes > 0 && self.faults.len() as u64 >= lanes).then(|| self.faults.first().cloned()).flatten()
    }
}

/// The worker processes of a run.
pub(crate) struct Crew {
    store: Arc<RedisStore>,
    stop: CancellationToken,
    processes: TaskTracker,
    restarts: Arc<AtomicU64>,
    /// Cancelled when a worker says that what it was given cannot be used.
    refused: CancellationToken,
    doors: Doors,
    sight: watch::Receiver<Sight>,
    _look: DropGuard,
    lanes: u64,
    workers: u32,
}

impl Crew {
    /// Gives the workers what they need, starts them, and waits until they hold every lane.
    pub(crate) async fn start(
        measurement: &Measurement<'_>,
        namespace: &[u8; 32],
        shared: &Shared,
        progress: &Progress,
    ) -> Result<Self, Failure> {
        let Measurement { plan, chain, secrets, provisioned, kept, access, metrics_addresses: metrics, .. } =
            *measurement;
        let store = shared.store.clone();
        seed(&store, plan, provisioned).await?;
        store.order(Order::Work).await.map_err(Failure::run)?;
        let workers = shared.asked.workers;
        let doors = Doors::of(plan, access, workers)?;
        let folder = prepare(plan, chain, kept, &shared.asked).await?;
        doors.write(&folder, namespace)?;

        let (stop, refused) = (CancellationToken::new(), CancellationToken::new());
        let (processes, restarts) = (TaskTracker::new(), Arc::new(AtomicU64::new(0)));
        let secrets = std::path::absolute(secrets).map_err(Failure::run)?;
        let url_file = match &shared.asked.redis {
            Redis::File(file) => file.clone(),
            Redis::Url(_) => folder.join(URL_FILE),
        };
        for number in 0..workers {
            let worker = Worker {
                number,
                folder: folder.clone(),
                secrets: secrets.clone(),
                url_file: url_file.clone(),
                listen: doors.addresses.get(number as usize).copied(),
                metrics: metrics.get(number as usize + 1).copied(),
                has_tokens: doors.tokens.is_some(),
            };
            processes.spawn(worker.keep_alive(stop.clone(), restarts.clone(), refused.clone()));
        }
        let lanes = provisioned.lanes.len() as u64;
        let (sight, look) = follow(store.clone());
        let crew = Self { store, stop, processes, restarts, refused, doors, sight, _look: look, lanes, workers };
        crew.ready(progress).await?;
        Ok(crew)
    }

    async fn ready(&self, progress: &Progress) -> Result<(), Failure> {
        let mut sight = self.sight.clone();
        let all = sight.wait_for(|sight| sight.lanes >= self.lanes);
        tokio::select! {
            _ = tokio::time::timeout(READY, all) => {}
            () = self.refused.cancelled() => {
                return Err(Failure::run(anyhow!("a worker cannot use what it was given: it says above what is wrong")));
            }
        }
        let (ready, held) = (self.sight.borrow().ready, self.sight.borrow().lanes);
        if held == 0 {
            return Err(Failure::run(anyhow!(
                "no worker took a lane within {READY:?}: look at their log, with --log info"
            )));
        }
        progress.step(&format!("{ready} of {} workers hold {held} of {} lanes", self.workers, self.lanes));
        Ok(())
    }

    /// What the workers told last.
    pub(crate) fn sight(&self) -> Sight {
        self.sight.borrow().clone()
    }

    /// Workers that are to be at work.
    pub(crate) fn workers(&self) -> usize {
        self.workers as usize
    }

    /// How the run's own load reaches the workers' API, where it does.
    pub(crate) fn target(&self, plan: &Plan) -> Option<Target> {
        let authorization = self.doors.authorization.clone()?;
        Some(api::target(plan, self.doors.addresses.clone(), authorization))
    }

    /// Lets the API take nothing more.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.store.order(Order::Drain).await
    }

    /// How often a worker that died was started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// What stopped every lane for good, if something did.
    pub(crate) fn halted(&self) -> Option<String> {
        self.sight.borrow().halted(self.lanes)
    }

    /// Works off what was accepted, for `patience` at most, and ends the workers. `tell` hears how much is left.
    pub(crate) async fn drain(&self, patience: Duration, tell: impl Fn(&Depth)) -> Result<(), StoreError> {
        drain(&self.store, patience, || self.halted().is_some(), tell).await?;
        self.end().await;
        self.store.cancel_queued().await.map(drop)
    }

    /// Ends the workers in order.
    async fn end(&self) {
        self.stop.cancel();
        self.processes.close();
        self.processes.wait().await;
    }
}

/// Waits until all that was accepted has its end, for `patience` at most or until every lane has `halted`; then withdraws
/// what was not signed, and lets the workers leave what has no proof to a person. `tell` hears how much is left.
pub(crate) async fn drain(
    store: &RedisStore,
    patience: Duration,
    halted: impl Fn() -> bool,
    tell: impl Fn(&Depth),
) -> Result<(), StoreError> {
    let deadline = Instant::now() + patience;
    let left = loop {
        let depth = store.depth().await?;
        tell(&depth);
        let halted = halted() && depth.claimed + depth.open == 0;
        if depth.unsettled() == 0 || halted || Instant::now() >= deadline {
            break depth;
        }
        tokio::time::sleep(LOOK / 2).await;
    };
    if left.unsettled() == 0 {
        return Ok(());
    }
    store.order(Order::Abandon).await?;
    store.cancel_queued().await?;
    // What a dead worker left is another's once its lease ends.
    let deadline = Instant::now() + 2 * LEASE;
    loop {
        let depth = store.depth().await?;
        tell(&depth);
        if depth.claimed + depth.open == 0 || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    store.cancel_queued().await.map(drop)
}

/// Counts in `tally` what the workers left in their store: their results, and what no result tells.
pub(crate) async fn count(plan: &Plan, store: &RedisStore, tally: &Tally) -> Result<Measured, StoreError> {
    tally.recall_ends(store).await?;
    let measured = measured(store).await?;
    let mut recorder = tally.recorder();
    for (label, times) in &measured.errors {
        recorder.errors(label.clone(), *times);
    }
    recorder.nonce_conflicts(measured.nonce_conflicts);
    if plan.load.via == Via::External {
        for (phase, times) in (0..).zip(&measured.turned_away) {
            recorder.turned_away_elsewhere(phase, *times);
        }
    }
    drop(recorder);
    Ok(measured)
}

/// Waits until every worker at work has left what it measured up to now. How many of them all are gone and left lanes behind:
/// they were killed.
pub(crate) async fn last_words(store: &RedisStore) -> Result<u64, StoreError> {
    let now = unix_ms();
    loop {
        let all: Vec<_> = store.measured().await?.iter().map(|(_, bytes)| Measured::from_bytes(bytes)).collect();
        let silent = |measured: &&Measured| measured.unix_ms + SILENT_MS < unix_ms();
        if all.iter().all(|measured| measured.unix_ms > now || silent(&measured)) {
            return Ok(all.iter().filter(|measured| measured.unix_ms <= now && measured.lanes > 0).count() as u64);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// All that every worker measured.
async fn measured(store: &RedisStore) -> Result<Measured, StoreError> {
    let mut all = Measured::default();
    for (_, bytes) in store.measured().await? {
        all.merge(&Measured::from_bytes(&bytes));
    }
    Ok(all)
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Their standard input ends with this process at the latest; they then end in order.
        self.stop.cancel();
    }
}

/// A value that somebody put into the store under this name, if it is there.
pub(crate) async fn value<T: DeserializeOwned>(store: &RedisStore, name: &str) -> Result<Option<T>, Failure> {
    let Some(text) = store.meta(name).await.map_err(Failure::run)? else { return Ok(None) };
    let read = serde_json::from_slice(&text).map(Some);
    read.with_context(|| format!("{}: its {name} is not what this nearbench writes", store.name()))
        .map_err(Failure::run)
}

/// Tells the store what the chain says: the keys' nonces, and the brief.
pub(crate) async fn seed(store: &RedisStore, plan: &Plan, provisioned: &Provisioned) -> Result<(), Failure> {
    let key = |public_key: &str| LaneKey { account: plan.account.account_id.clone(), public_key: public_key.into() };
    let seeds: Vec<_> = provisioned.lanes.iter().map(|lane| (key(&lane.public_key), lane.nonce)).collect();
    store.seed(&seeds).await.map_err(Failure::run)?;
    if store.meta(BRIEF).await.map_err(Failure::run)?.is_some() {
        // What is looked for after a rollback goes back to the first one's height.
        return Ok(());
    }
    let brief = Brief { limits: provisioned.limits, height: provisioned.height };
    let brief = serde_json::to_vec(&brief).map_err(Failure::run)?;
    store.put_meta(&[(BRIEF, &brief)]).await.map_err(Failure::run)
}

/// The store of workers that no run starts, which stays where it is there.
pub(crate) async fn lasting_store(plan: &Plan, url: &RedisUrl) -> Result<RedisStore, Failure> {
    let options = || RedisOptions::new(plan.name.as_str());
    let store = match RedisStore::create(url, options()).await {
        Err(RedisError::Exists { .. }) => RedisStore::open(url, options()).await,
        made => made,
    };
    store.map_err(Failure::input)
}

/// What workers that no run starts are given besides: the nonces in `store`, the plan in `folder`, and in `keys`, beside their
/// keys, the secret that transfer ids are made with. What is there stays: workers that are at work notice nothing.
pub(crate) async fn equip(
    plan: &Plan,
    provisioned: &Provisioned,
    store: &RedisStore,
    folder: &Path,
    keys: &Path,
) -> Result<(), Failure> {
    seed(store, plan, provisioned).await?;
    if store.meta(START).await.map_err(Failure::run)?.is_none() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::run)?.as_nanos().to_string();
        store.put_meta(&[(START, now.as_bytes())]).await.map_err(Failure::run)?;
    }
    if !keys.join(NAMESPACE_FILE).exists() {
        write_private(&keys.join(NAMESPACE_FILE), hex::encode(rand::random::<[u8; 32]>()).as_bytes())?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display())).map_err(Failure::run)?;
    let beside = folder.join(format!(".{PLAN}"));
    let text = serde_json::to_vec_pretty(plan).map_err(Failure::run)?;
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, folder.join(PLAN)))
        .with_context(|| format!("cannot write {}", folder.join(PLAN).display()))
        .map_err(Failure::run)
}

/// Where the workers serve the transfer API, if they do, and to whom.
#[derive(Default)]
struct Doors {
    /// Each worker's.
    addresses: Vec<SocketAddr>,
    /// The lines of those who may ask.
    tokens: Option<SecretText>,
    /// How the run's own load is known there.
    authorization: Option<Arc<str>>,
}

impl Doors {
    fn of(plan: &Plan, access: Option<&Access>, workers: u32) -> Result<Self, Failure> {
        match (plan.load.via, access) {
            (Via::Http, _) => {
                let (authorization, line) = api::key_of_the_load()?;
                let addresses = free_addresses(workers).context("no port is free for the API of a worker");
                Ok(Self {
                    addresses: addresses.map_err(Failure::run)?,
                    tokens: Some(SecretText::new(line)),
                    authorization: Some(authorization),
                })
            }
            (_, Some(access)) => {
                Ok(Self { addresses: access.addresses(workers)?, tokens: access.token_lines()?, authorization: None })
            }
            (_, None) => Ok(Self::default()),
        }
    }

    /// Writes what the workers need for it.
    fn write(&self, folder: &Path, namespace: &[u8; 32]) -> Result<(), Failure> {
        if let Some(tokens) = &self.tokens {
            write_private(&folder.join(TOKENS_FILE), tokens.expose().as_bytes())?;
        }
        write_private(&folder.join(NAMESPACE_FILE), hex::encode(namespace).as_bytes())
    }
}

/// Ports of this machine that nothing listens on, all at one moment: a worker that is started again takes its own again.
fn free_addresses(count: u32) -> io::Result<Vec<SocketAddr>> {
    let taken = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    taken.iter().map(std::net::TcpListener::local_addr).collect()
}

/// Writes what the workers read.
async fn prepare(plan: &Plan, chain: &Chain, kept: &Kept, asked: &Asked) -> Result<PathBuf, Failure> {
    let folder = std::path::absolute(kept.folder().join(FOLDER)).map_err(Failure::run)?;
    forget(kept.folder())?;
    let mut plan = plan.clone();
    if let Some(endpoint) = chain.serve().await? {
        plan.network.endpoints = vec![endpoint];
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display())).map_err(Failure::run)?;
    let text = serde_json::to_vec(&plan).map_err(Failure::run)?;
    write_private(&folder.join(PLAN), &text)?;
    keyfile::write_keys(&folder.join(KEYS_FILE), &chain.signers.lanes).map_err(Failure::run)?;
    if let Redis::Url(url) = &asked.redis {
        write_private(&folder.join(URL_FILE), url.as_bytes())?;
    }
    Ok(folder)
}

/// Removes what the workers of the run in `folder` read.
pub(crate) fn forget(folder: &Path) -> Result<(), Failure> {
    let folder = folder.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::run(anyhow!("cannot remove {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Writes a file that nobody else may read.
fn write_private(path: &Path, text: &[u8]) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text))
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(Failure::run)
}

/// Looks at the fleet until the guard goes.
pub(crate) fn follow(store: Arc<RedisStore>) -> (watch::Receiver<Sight>, DropGuard) {
    let looking = CancellationToken::new();
    let (sender, sight) = watch::channel(Sight::default());
    tokio::spawn(looking.clone().run_until_cancelled_owned(look(store, sender)));
    (sight, looking.drop_guard())
}

async fn look(store: Arc<RedisStore>, sender: watch::Sender<Sight>) {
    let mut ended = VecDeque::new();
    loop {
        if let Ok(mut sight) = sight(&store).await {
            ended.push_back((Instant::now(), sight.all.settle.clone()));
            if ended.len() > RATE_LOOKS {
                ended.pop_front();
            }
            if let (Some((from, before)), Some((to, after))) = (ended.front(), ended.back()) {
                sight.lately = lately(before, after, *to - *from);
            }
            sender.send_replace(sight);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What became final between two looks.
fn lately(before: &Histogram, after: &Histogram, between: Duration) -> Lately {
    let settled = after.since(before);
    let seconds = between.as_secs_f64();
    let summary = settled.summary();
    Lately {
        tps: if seconds > 0.0 { settled.count() as f64 / seconds } else { 0.0 },
        settle_mean_ms: summary.map(|summary| summary.mean),
        settle_max_ms: summary.map(|summary| summary.max),
    }
}

async fn sight(store: &RedisStore) -> Result<Sight, StoreError> {
    let now = unix_ms();
    let mut sight = Sight { depth: store.depth().await?, ..Sight::default() };
    for (_, bytes) in store.measured().await? {
        let measured = Measured::from_bytes(&bytes);
        if measured.unix_ms + SILENT_MS >= now {
            sight.lanes += measured.lanes;
            sight.ready += usize::from(measured.lanes > 0);
            sight.faults.extend(measured.faults.values().map(|fault| format!("{fault:?}")));
        }
        sight.all.merge(&measured);
    }
    Ok(sight)
}

/// One worker process, again and again.
struct Worker {
    number: u32,
    folder: PathBuf,
    secrets: PathBuf,
    url_file: PathBuf,
    listen: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    has_tokens: bool,
}

impl Worker {
    async fn keep_alive(self, stop: CancellationToken, restarts: Arc<AtomicU64>, refused: CancellationToken) {
        let number = self.number;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let mut child = match self.command().and_then(|mut command| command.spawn()) {
                Ok(child) => child,
                Err(error) => {
                    output::note(&format!("worker {number} cannot be started: {error}"));
                    refused.cancel();
                    return;
                }
            };
            let lifeline = child.stdin.take();
            tracing::info!(number, pid = child.id(), "worker started");
            let status = tokio::select! {
                status = child.wait() => status,
                () = stop.cancelled() => {
                    drop(lifeline);
                    if tokio::time::timeout(ENDING, child.wait()).await.is_err() {
                        tracing::warn!(number, "the worker does not end; it is killed");
                        // It may have ended meanwhile.
                        let _ = child.kill().await;
                    }
                    return;
                }
            };
            let how = status.as_ref().map_or_else(ToString::to_string, ToString::to_string);
            if status.is_ok_and(|status| status.code() == Some(exit::BAD_INPUT.into())) {
                refused.cancel();
            }
            restarts.fetch_add(1, Ordering::Relaxed);
            output::note(&format!("worker {number} ended with {how}; it is started again"));
            let pause = if began.elapsed() < BEGINNING { LONG_PAUSE } else { PAUSE };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(output::as_arguments())
            .arg("worker")
            .arg("--plan")
            .arg(&self.folder)
            .arg("--keys")
            .arg(&self.folder)
            .arg("--secrets")
            .arg(&self.secrets)
            .arg("--redis-url-file")
            .arg(&self.url_file);
        if let Some(address) = self.listen {
            command.arg("--listen").arg(address.to_string());
        }
        if let Some(address) = self.metrics {
            command.arg("--metrics-addr").arg(address.to_string());
        }
        if self.has_tokens {
            command.arg("--tokens").arg(self.folder.join(TOKENS_FILE));
        }
        command
            .arg("--while-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C is the run's to answer, and reaches its process group.
            .process_group(0);
        Ok(command)
    }
}
