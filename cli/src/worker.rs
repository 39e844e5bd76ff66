//! `nearbench worker`: one of the processes that carry a run's transfers to the chain.

use crate::{
    args, chain, environment,
    exit::{self, Failure},
    fleet::{self, Brief},
    heal::Healer,
    manifest,
    signal::Ended,
};
use anyhow::Context;
use axum::{Json, Router, extract::State as With, http::StatusCode, routing::get};
use nearbench_core::{Plan, measure::Recorder, schedule::Schedule};
use nearbench_near::keyfile::{self, KEYS_FILE};
use nearbench_store::{RedisOptions, RedisStore};
use nearbench_worker::{
    Engine, Finality, Setup, Tally,
    fleet::{LEASE, Measured, Member, State},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks for what is not there yet.
const LOOK: Duration = Duration::from_millis(200);
/// A store that was not heard for so long is told of by /ready.
const SILENT: Duration = Duration::from_secs(5);

/// What /ready tells.
#[derive(Clone)]
enum Readiness {
    /// Not at work yet.
    WaitsFor(&'static str),
    /// At work.
    Works(watch::Receiver<State>),
}

pub(crate) async fn run(args: args::Worker) -> Result<u8, Failure> {
    let stop = ended(args.while_stdin)?;
    let (readiness, ready) = watch::channel(Readiness::WaitsFor("its run's store"));
    if let Some(address) = args.listen {
        serve(address, ready).await?;
    }
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
    let signers = keyfile::read_keys(&args.keys.join(KEYS_FILE), &plan.account.account_id).map_err(Failure::input)?;
    let client = chain::client(&plan, &args.secrets)?;
    let url = fleet::read_url(&args.redis_url_file)?;
    let store = RedisStore::open(&url, RedisOptions::new(plan.name.as_str())).await.map_err(Failure::run)?;
    let store = Arc::new(store);
    readiness.send_replace(Readiness::WaitsFor("the chain"));
    client.check_chain_id(&plan.network.chain_id).await.map_err(Failure::run)?;
    let following = CancellationToken::new();
    let _follower = following.clone().drop_guard();
    let finality = Finality::follow(client.clone(), following).await.map_err(Failure::run)?;
    readiness.send_replace(Readiness::WaitsFor("its run's brief: the account is being provisioned"));
    let brief: Brief = wait_for(&store, fleet::BRIEF).await?;
    let tally = Arc::new(tally(&plan));
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
    let engine = Engine::start(Setup {
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
    let member = Member::new(store, client, tally, Arc::new(engine), signers);
    readiness.send_replace(Readiness::Works(member.follow()));
    let machine = |measured: &mut Measured| measured.peak_rss_bytes = environment::peak_rss_bytes();
    tokio::select! {
        ended = member.take_part(stop, machine) => ended.map_err(Failure::run),
        never = healer.watch() => match never {},
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
        if let Some(text) = store.meta(name).await.map_err(Failure::run)? {
            let read = serde_json::from_slice(&text);
            return read
                .with_context(|| format!("{}: its {name} is not what this nearbench writes", store.name()))
                .map_err(Failure::run);
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

async fn serve(address: SocketAddr, ready: watch::Receiver<Readiness>) -> Result<(), Failure> {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "/health and /ready can be read from elsewhere");
    }
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("--listen {address}: cannot serve there"))
        .map_err(Failure::input)?;
    let router = Router::new()
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .route("/ready", get(async |With(ready): With<watch::Receiver<Readiness>>| tell(&ready.borrow())))
        .with_state(ready);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "cannot say any more how this worker stands");
        }
    });
    Ok(())
}

fn tell(readiness: &Readiness) -> (StatusCode, Json<Value>) {
    let waits = |what: &str| (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "waitsFor": what})));
    let Readiness::Works(state) = readiness else {
        let Readiness::WaitsFor(what) = readiness else { return waits("nothing") };
        return waits(what);
    };
    let state = state.borrow();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let heard = state.heard_unix_ms.map(|ms| now.saturating_sub(Duration::from_millis(ms)));
    match heard {
        None => waits("the store"),
        Some(ago) if ago > SILENT => waits("the store, which does not answer"),
        Some(_) => (StatusCode::OK, Json(json!({"ready": true, "workers": state.workers, "lanes": state.lanes}))),
    }
}
