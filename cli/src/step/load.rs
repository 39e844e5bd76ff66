//! One generator: waits until all agree on the load's start, offers its share of the schedule, and leaves an account of it.

use super::{Account, Scene, account_of, ended_early, ground, leave, trouble};
use crate::{
    api,
    environment::CpuPressure,
    exit::Failure,
    fleet::{self, START, Sight},
    metrics::Sources,
    way::{Due, Way, latest_ns},
};
use anyhow::{Context, anyhow};
use nearbench_core::{
    Plan,
    measure::Recorder,
    plan::Via,
    schedule::{self, Schedule},
};
use nearbench_load::Offer;
use nearbench_near::SecretText;
use nearbench_store::{Fleet, Order, RedisStore};
use nearbench_worker::Tally;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// From the agreement to the first arrival: every generator has heard of it by then.
const LEAD: Duration = Duration::from_secs(3);
/// How long the first generator waits for the others, and for workers that hold every lane.
const PATIENCE: Duration = Duration::from_secs(300);
/// What takes longer is told.
const ORDINARY: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// The name in the store of how far apart the generators' clocks were when they agreed, in milliseconds.
pub(super) const CLOCKS: &str = "clocks-apart-ms";
/// The file with the load's token to the workers' API.
const TOKEN_FILE: &str = "nearbench-token";

fn presence_of(generator: u32) -> String {
    format!("present-{generator}")
}

pub(super) async fn run(scene: &Scene) -> Result<(), Failure> {
    let Scene { args, plan, progress, stop, metrics } = scene;
    let share = (args.generator, plan.load.generators);
    let name = account_of(share.0);
    let namespace = api::read_namespace(&args.keys)?;
    let store = Arc::new(scene.store().await?);
    let earlier: Option<Account> = fleet::value(&store, &name).await?;
    if earlier.as_ref().is_some_and(|earlier| earlier.complete) {
        progress.step("this generator's share is offered already");
        return Ok(());
    }
    let lanes = ground(&store).await?.public_keys.len() as u64;
    let way = way(scene, &store).await?;
    let (sight, _look) = fleet::follow(store.clone());

    progress.stage("Load");
    let known: Option<u64> = fleet::value(&store, START).await?;
    let start_unix_ns = match known {
        Some(start_unix_ns) => start_unix_ns,
        None => agree(scene, &store, share, sight.clone(), lanes).await?,
    };
    let schedule = Schedule::new(&plan.load.phases);
    let since_start_ns = match known {
        None => 0,
        Some(start_unix_ns) => {
            let known_ns = match &earlier {
                Some(earlier) if !earlier.continued => earlier.until_ns,
                _ => latest_ns(&*store).await.map_err(Failure::run)?,
            };
            schedule::resumed_at(start_unix_ns, unix_ns()?, known_ns)
        }
    };
    let start = instant_of(start_unix_ns)?;
    let others_send = plan.load.via == Via::External;
    let recorder = if others_send { Recorder::of_others(&schedule) } else { Recorder::new(&schedule) };
    let timeout_ns = plan.load.timeout_ms * 1_000_000;
    let tally = Arc::new(Tally::new(recorder, 0, start, start_unix_ns, timeout_ns));
    metrics.tell_of(Sources {
        sends: (!others_send).then_some(share.1),
        store: Some((*store).clone()),
        ..Sources::of(tally.clone())
    });
    let mut account = Account {
        complete: false,
        continued: false,
        until_ns: 0,
        recorded: tally.recorder().recorded(),
        unanswered: Vec::new(),
        throttled_ms: None,
        steal_percent: None,
        restarts: 0,
    };
    match (known, earlier) {
        (_, Some(earlier)) if !earlier.continued => {
            // What this process adds is in no account until it leaves its own: should it be killed, the store is asked instead.
            leave(&store, &name, &Account { continued: true, ..earlier.clone() }).await?;
            tally.recorder().merge(&earlier.recorded);
            account = Account { restarts: earlier.restarts + 1, ..earlier };
        }
        (Some(_), earlier) if !others_send => {
            tally.recall_share(&*store, share).await.map_err(Failure::run)?;
            account.restarts = earlier.map_or(0, |earlier| earlier.restarts + 1) + 1;
        }
        _ => {}
    }

    let before = CpuPressure::now();
    let cut = stop.child_token();
    let offer = offer(plan, namespace);
    let mut driver = tokio::spawn({
        let (schedule, tally, cut) = (schedule.clone(), tally.clone(), cut.clone());
        async move {
            let due = Due { schedule: &schedule, share, since_start_ns };
            way.drive(due, &offer, start, tally, &cut).await
        }
    });
    let duration = Duration::from_nanos(schedule.duration_ns());
    let mut halted = false;
    let mut tick = tokio::time::interval_at(start.max(Instant::now()), LOOK);
    let mut sent = None;
    while sent.is_none() || (Instant::now() < start + duration && !cut.is_cancelled()) {
        tick.tick().await;
        if sent.is_none() && driver.is_finished() {
            sent = Some((&mut driver).await.map_err(Failure::run)?.map_err(Failure::run)?);
        }
        halted |= tell(scene, &tally, &sight.borrow(), &store, lanes, &cut, start + duration);
    }
    if others_send {
        store.order(Order::Drain).await.map_err(Failure::run)?;
    }
    let after = CpuPressure::now();
    account.complete = halted || !stop.is_cancelled();
    account.until_ns = tally.now_ns().min(schedule.duration_ns());
    account.recorded = tally.recorder().recorded();
    account.unanswered.extend(sent.unwrap_or_default().iter().map(|arrival| arrival.n));
    let throttled_ms = after.throttled_ms_since(before);
    account.throttled_ms = throttled_ms.map(|ms| ms + account.throttled_ms.unwrap_or(0)).or(account.throttled_ms);
    account.steal_percent = after.steal_percent_since(before).or(account.steal_percent);
    leave(&store, &name, &account).await?;
    if account.complete { Ok(()) } else { Err(ended_early()) }
}

/// Says how it goes; whether no transfer can succeed any more, which ends the load.
fn tell(
    scene: &Scene,
    tally: &Tally,
    sight: &Sight,
    store: &RedisStore,
    lanes: u64,
    cut: &CancellationToken,
    end: Instant,
) -> bool {
    let Scene { plan, progress, .. } = scene;
    let mut live = tally.recorder().live(tally.now_ns());
    sight.complete(&mut live, &sight.depth);
    tally.recorder().queue_depth(tally.now_ns(), sight.depth.queued);
    if plan.load.via == Via::External {
        live.accepted = live.succeeded + live.failed + live.in_flight;
        live.sent = live.accepted;
        live.offered = live.accepted;
    }
    let phase = plan.load.phases.get(live.phase).map_or("", |phase| &phase.name);
    progress.load(&live, phase, end.saturating_duration_since(Instant::now()), None);
    progress.trouble(trouble(store));
    let Some(fault) = sight.halted(lanes) else { return false };
    if !cut.is_cancelled() {
        progress.step(&format!("no transfer can succeed any more: {fault}"));
        cut.cancel();
    }
    true
}

/// When the load starts: the first generator says so, once all are there and workers hold the lanes.
async fn agree(
    scene: &Scene,
    store: &RedisStore,
    (generator, generators): (u32, u32),
    mut sight: watch::Receiver<Sight>,
    lanes: u64,
) -> Result<u64, Failure> {
    let Scene { progress, stop, .. } = scene;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Its clock, at each look anew: the first generator compares it with its own.
        leave(store, &presence_of(generator), &unix_ns()?).await?;
        if let Some(start_unix_ns) = fleet::value(store, START).await? {
            return Ok(start_unix_ns);
        }
        if stop.is_cancelled() {
            return Err(ended_early());
        }
        if generator == 0 {
            let (mut missing, mut apart_ns) = (Vec::new(), 0);
            for other in 1..generators {
                match fleet::value::<u64>(store, &presence_of(other)).await? {
                    Some(clock_ns) => apart_ns = unix_ns()?.abs_diff(clock_ns).max(apart_ns),
                    None => missing.push(other.to_string()),
                }
            }
            let held = sight.borrow_and_update().lanes;
            let late = Instant::now() >= deadline;
            if missing.is_empty() && (held >= lanes || (late && held > 0)) {
                let start_unix_ns = unix_ns()? + LEAD.as_nanos() as u64;
                progress.step(&format!("{held} of {lanes} lanes are held; the load starts in {LEAD:?}"));
                leave(store, CLOCKS, &(apart_ns / 1_000_000)).await?;
                leave(store, START, &start_unix_ns).await?;
                return Ok(start_unix_ns);
            }
            let waits = if missing.is_empty() {
                format!("workers hold {held} of {lanes} lanes")
            } else {
                format!("generators {} are not there yet", missing.join(", "))
            };
            if late {
                return Err(Failure::run(anyhow!("given up after {PATIENCE:?}: {waits}")));
            }
            let is_long = Instant::now() + PATIENCE >= deadline + ORDINARY;
            progress.trouble(is_long.then(|| format!("the load has not begun: {waits}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How this generator reaches the workers.
async fn way(scene: &Scene, store: &Arc<RedisStore>) -> Result<Way, Failure> {
    let Scene { args, plan, .. } = scene;
    Ok(match plan.load.via {
        Via::Queue => Way::Shared(store.clone()),
        Via::External => Way::Others,
        Via::Http => {
            let api = args.api.as_deref().ok_or_else(|| {
                Failure::input(anyhow!("--api: spec.load.via is http: say where the workers' API is, as HOST:PORT"))
            })?;
            let token = SecretText::read(&args.keys.join(TOKEN_FILE)).map_err(Failure::input)?;
            let found = tokio::net::lookup_host(api).await.with_context(|| format!("--api {api}"));
            let addresses: Vec<SocketAddr> = found.map_err(Failure::run)?.collect();
            let authorization = format!("Bearer {}", token.expose().trim()).into();
            Way::Http(api::target(plan, addresses, authorization))
        }
    })
}

/// What each arrival asks for.
pub(super) fn offer(plan: &Plan, namespace: [u8; 32]) -> Offer {
    Offer {
        namespace,
        receivers: plan.receivers.as_slice().into(),
        amount: plan.transfer_amount,
        max_queue_depth: plan.engine.max_queue_depth,
        max_under_way: plan.load.phases.iter().map(|phase| phase.max_vusers).collect(),
    }
}

pub(super) fn unix_ns() -> Result<u64, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::run)?;
    u64::try_from(now.as_nanos()).map_err(Failure::run)
}

/// A moment of the wall clock on this process's own clock.
pub(super) fn instant_of(start_unix_ns: u64) -> Result<Instant, Failure> {
    let (start, now) = (Duration::from_nanos(start_unix_ns), Duration::from_nanos(unix_ns()?));
    let at = match start.checked_sub(now) {
        Some(ahead) => Some(Instant::now() + ahead),
        None => Instant::now().checked_sub(now - start),
    };
    at.ok_or_else(|| Failure::run(anyhow!("the load began before this machine's clock")))
}
