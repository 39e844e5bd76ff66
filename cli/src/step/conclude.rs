//! Works off what was accepted, searches the chain for every transfer, and reports.

use super::{Account, Scene, account_of, ground, leave, load, trouble};
use crate::{
    api,
    chain::Chain,
    exit::Failure,
    findings::{Books, Findings, Outcome},
    fleet::{self, START},
    follower::Delivery,
    output, page, summary,
};
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nearbench_core::{lifecycle::Stage, measure::Recorder, plan::Via, report::Restarts, schedule::Schedule};
use nearbench_near::provision::{Lane, Provisioned};
use nearbench_store::{Depth, Fleet, Order, RedisStore};
use nearbench_worker::{Finality, Tally};
use std::{fs, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

pub(super) async fn run(scene: &Scene) -> Result<(), Failure> {
    let Scene { args, plan, progress, .. } = scene;
    let delivery = match &args.report_to {
        Some(config_map) => Some(Delivery::to(config_map.clone()).await?),
        None => None,
    };
    let namespace = api::read_namespace(&args.keys)?;
    let chain = Chain::to_look_at(plan, &args.secrets)?;
    let store = Arc::new(scene.store().await?);
    let ground = ground(&store).await?;
    let start_unix_ns = match fleet::value(&store, START).await? {
        Some(start_unix_ns) => start_unix_ns,
        // It was ended before it began: that nothing was offered is what there is to report.
        None if args.stopped_early => {
            let now_unix_ns = load::unix_ns()?;
            leave(&store, START, &now_unix_ns).await?;
            now_unix_ns
        }
        None => return Err(Failure::run(anyhow!("its load never began; nothing was offered"))),
    };
    let schedule = Schedule::new(&plan.load.phases);
    let others_send = plan.load.via == Via::External;
    let recorder = if others_send { Recorder::of_others(&schedule) } else { Recorder::new(&schedule) };
    let start = load::instant_of(start_unix_ns)?;
    let timeout_ns = plan.load.timeout_ms * 1_000_000;
    let tally = Arc::new(Tally::new(recorder, schedule.total(), start, start_unix_ns, timeout_ns));
    let generators = generators(scene, &store, &tally).await?;

    progress.stage("Draining");
    let stop_following = CancellationToken::new();
    let _follower = stop_following.clone().drop_guard();
    let finality = Finality::follow(chain.client.clone(), stop_following).await.map_err(Failure::run)?;
    store.order(Order::Drain).await.map_err(Failure::run)?;
    drain(scene, &store, &tally, ground.public_keys.len() as u64).await?;
    let killed = fleet::last_words(&store).await.map_err(Failure::run)?;
    let measured = fleet::count(plan, &store, &tally).await.map_err(Failure::run)?;
    let largest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
    let outcome = Outcome {
        tally,
        offer: load::offer(plan, namespace),
        started: Timestamp::from_nanosecond(i128::from(start_unix_ns)).map_err(Failure::run)?,
        block_time: finality.block_interval(),
        polling_error: finality.polling_error(),
        evidence: measured.evidence,
        throttled_ms: generators.iter().filter_map(|generator| generator.throttled_ms).max(),
        steal_percent: largest(&mut generators.iter().filter_map(|generator| generator.steal_percent)),
        until: measured.final_height.max(finality.head().height),
        restarts: Restarts {
            run: None,
            workers: Some(killed),
            generators: Some(generators.iter().map(|generator| generator.restarts).sum()),
        },
        clocks_apart_ms: fleet::value(&store, load::CLOCKS).await?.unwrap_or(0),
        unanswered: generators
            .iter()
            .flat_map(|generator| &generator.unanswered)
            .filter_map(|n| schedule.arrival(*n))
            .collect(),
    };
    let books = Books::Shared(&store);
    books.find_accepted(plan, &outcome).await.map_err(Failure::run)?;

    let lanes = ground.public_keys.iter().map(|public_key| Lane { public_key: public_key.clone(), nonce: 0 });
    let provisioned = Provisioned {
        lanes: lanes.collect(),
        limits: ground.limits,
        height: ground.height,
        balances: ground.balances.clone(),
    };
    let findings = Findings { plan, chain: &chain, provisioned: &provisioned, books };
    progress.enter(Stage::Auditing);
    progress.stage("Auditing");
    let audited = findings.audit(&outcome, progress).await?;
    progress.enter(Stage::Reporting);
    let report = findings.report(&outcome, Some(audited), args.stopped_early, &ground.run_started).await?;
    let text = serde_json::to_string_pretty(&report).map_err(Failure::run)? + "\n";
    progress.finish();
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make --out {}", folder.display()))
            .map_err(Failure::input)?;
        output::write_whole(folder, output::REPORT_FILE, &text)?;
        page::write(&folder.join(page::FILE), &report)?;
    }
    if let Some(delivery) = delivery {
        delivery.deliver(report.clone()).await?;
    }
    output::print(summary::table(&report))
}

/// What the generators left, counted in `tally`. Of one that was killed and left nothing the store knows what was accepted.
async fn generators(scene: &Scene, store: &RedisStore, tally: &Tally) -> Result<Vec<Account>, Failure> {
    let plan = &scene.plan;
    let mut accounts = Vec::new();
    for generator in 0..plan.load.generators {
        match fleet::value::<Account>(store, &account_of(generator)).await? {
            Some(account) if !account.continued && account.recorded.phases() == plan.load.phases.len() => {
                tally.recorder().merge(&account.recorded);
                accounts.push(account);
            }
            _ if plan.load.via == Via::External => {}
            _ => tally.recall_share(store, (generator, plan.load.generators)).await.map_err(Failure::run)?,
        }
    }
    Ok(accounts)
}

async fn drain(scene: &Scene, store: &Arc<RedisStore>, tally: &Tally, lanes: u64) -> Result<(), Failure> {
    let Scene { plan, progress, .. } = scene;
    let (sight, _look) = fleet::follow(store.clone());
    let tell = |depth: &Depth| {
        let mut live = tally.recorder().live(tally.now_ns());
        sight.borrow().complete(&mut live, depth);
        progress.drain(&live);
        progress.trouble(trouble(store));
    };
    let halted = || sight.borrow().halted(lanes).is_some();
    let patience = Duration::from_millis(plan.load.timeout_ms);
    fleet::drain(store, patience, halted, tell).await.map_err(Failure::run)
}
