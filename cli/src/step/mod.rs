//! The steps of a run whose worker processes somebody else keeps: provision, load, conclude, clean up. A process each.
//!
//! What one leaves to the next is in the run's Redis and nowhere else, so every step can be killed at any moment and done
//! again. What comes after what, and until when, is for whoever starts them.

mod clean_up;
mod conclude;
mod load;
mod provision;

use crate::{
    args::{self, StepName},
    exit::{self, Failure},
    fleet, follower, log, manifest,
    metrics::Metrics,
    progress::Progress,
    signal::Ended,
};
use anyhow::anyhow;
use nearbench_core::{
    Height, Plan,
    audit::Balances,
    lifecycle::Stage,
    measure::Recorded,
    plan::{ChainLimits, Keys},
};
use nearbench_near::{
    Signer,
    keyfile::{self, KEYS_FILE},
};
use nearbench_store::{RedisError, RedisOptions, RedisStore};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The name in the store of what the load starts from.
const GROUND: &str = "ground";
/// How long a Redis that was only just started may take to answer.
const REDIS_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks for it.
const LOOK: Duration = Duration::from_secs(1);

/// What provisioning brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ground {
    /// When provisioning began.
    run_started: String,
    /// The public keys that transfers are signed with, in their order.
    public_keys: Vec<String>,
    limits: ChainLimits,
    /// The final block before the load.
    height: Height,
    /// Token balances there.
    balances: Balances,
}

/// What a generator did of its share.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Account {
    /// Whether it came to its end; one that was told to end leaves the rest to the next process.
    complete: bool,
    /// Whether the next process went on from here: by then there is more than this says.
    continued: bool,
    /// Until when, in nanoseconds since the load's start.
    until_ns: u64,
    recorded: Recorded,
    /// The numbers of those of which nobody said whether they were accepted.
    unanswered: Vec<u64>,
    throttled_ms: Option<u64>,
    steal_percent: Option<f64>,
    /// How often it was started again.
    restarts: u64,
}

fn account_of(generator: u32) -> String {
    format!("generator-{generator}")
}

/// What every step has.
struct Scene {
    args: args::Step,
    plan: Plan,
    progress: Progress,
    metrics: Metrics,
    /// Cancelled by the first SIGTERM.
    stop: CancellationToken,
}

pub(crate) async fn run(args: args::Step) -> Result<u8, Failure> {
    let plan = manifest::load_plan(&args.plan)?;
    log::of_run(&plan);
    let progress = Progress::new();
    let stage = match args.step {
        StepName::Provision => Stage::Provisioning,
        StepName::Load => Stage::Running,
        StepName::Conclude => Stage::Draining,
        StepName::CleanUp => Stage::CleaningUp,
    };
    progress.enter(stage);
    let metrics = Metrics::of(&plan);
    if let Some(address) = args.listen {
        follower::serve(address, progress.follow(), &metrics).await?;
    }
    let step = args.step;
    let scene = Scene { args, plan, progress, metrics, stop: told_to_end()? };
    // What is not sent yet needs no farewell; the load and provisioning end in their own way.
    let unless_stopped = async |work: &mut (dyn Future<Output = Result<(), Failure>> + Unpin)| {
        tokio::select! {
            done = work => done,
            () = scene.stop.cancelled() => Err(ended_early()),
        }
    };
    match step {
        StepName::Provision => provision::run(&scene).await,
        StepName::Load => load::run(&scene).await,
        StepName::Conclude => unless_stopped(&mut Box::pin(conclude::run(&scene))).await,
        StepName::CleanUp => unless_stopped(&mut Box::pin(clean_up::run(&scene))).await,
    }?;
    scene.progress.finish();
    Ok(exit::PASSED)
}

fn told_to_end() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let mut ended = Ended::listen().map_err(Failure::run)?;
    tokio::spawn(async move {
        ended.next().await;
        stopping.cancel();
        ended.next().await;
        std::process::exit(exit::INCONCLUSIVE.into());
    });
    Ok(stop)
}

fn ended_early() -> Failure {
    Failure { code: exit::INCONCLUSIVE, error: anyhow!("it was told to end; the same step goes on from there") }
}

impl Scene {
    /// The keys that transfers are signed with.
    fn lanes(&self) -> Result<Vec<Signer>, Failure> {
        let account = &self.plan.account;
        let folder = match &account.keys {
            Keys::Generate { .. } => self.args.keys.clone(),
            Keys::Prepared { secret } => self.args.secrets.join(secret),
        };
        keyfile::read_keys(&folder.join(KEYS_FILE), &account.account_id).map_err(Failure::input)
    }

    /// The run's store, made where it is not there.
    async fn made_store(&self) -> Result<RedisStore, Failure> {
        self.reach(async || match self.create().await {
            Err(RedisError::Exists { .. }) => self.open().await,
            made => made,
        })
        .await
    }

    /// The run's store.
    async fn store(&self) -> Result<RedisStore, Failure> {
        self.reach(async || self.open().await).await
    }

    async fn create(&self) -> Result<RedisStore, RedisError> {
        RedisStore::create(&self.url()?, self.options()).await
    }

    async fn open(&self) -> Result<RedisStore, RedisError> {
        RedisStore::open(&self.url()?, self.options()).await
    }

    fn url(&self) -> Result<nearbench_store::RedisUrl, RedisError> {
        // What is wrong with the file was told before.
        fleet::read_url(&self.args.redis_url_file).map_err(|_| RedisError::Url("cannot be read"))
    }

    fn options(&self) -> RedisOptions {
        RedisOptions::new(self.args.run_id.as_deref().unwrap_or(&self.plan.name))
    }

    /// A Redis that starts at the same time is waited for; what stands in the way is told meanwhile.
    async fn reach(&self, connect: impl AsyncFn() -> Result<RedisStore, RedisError>) -> Result<RedisStore, Failure> {
        fleet::read_url(&self.args.redis_url_file)?;
        let deadline = Instant::now() + REDIS_PATIENCE;
        loop {
            match connect().await {
                Err(error @ RedisError::Refused { .. }) if Instant::now() < deadline && !self.stop.is_cancelled() => {
                    self.progress.trouble(Some(error.to_string()));
                }
                connected => {
                    self.progress.trouble(None);
                    return connected.map_err(Failure::run);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What stands in the way of a store's steps now, and the way out where Redis says what it is.
fn trouble(store: &RedisStore) -> Option<String> {
    let trouble = store.trouble()?;
    let way_out = if trouble.contains("maxmemory") { "; raise its maxmemory, or give it more memory" } else { "" };
    Some(format!("the run's Redis: {trouble}{way_out}"))
}

async fn leave(store: &RedisStore, name: &str, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec(value).map_err(Failure::run)?;
    store.put_meta(&[(name, &text)]).await.map_err(Failure::run)
}

/// What provisioning left.
async fn ground(store: &RedisStore) -> Result<Ground, Failure> {
    fleet::value(store, GROUND).await?.ok_or_else(|| {
        Failure::run(anyhow!("{} was not provisioned: `nearbench step provision` comes first", store.name()))
    })
}
