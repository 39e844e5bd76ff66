//! Makes the chain what the plan needs, and leaves in the store what the load starts from.

use super::{GROUND, Ground, Scene, ended_early, leave};
use crate::{
    chain::Chain,
    exit::Failure,
    fleet,
    provision::{self, tell},
};
use jiff::Timestamp;

pub(super) async fn run(scene: &Scene) -> Result<(), Failure> {
    let Scene { args, plan, progress, stop } = scene;
    let run_started = Timestamp::now().to_string();
    let mut chain = Chain::through_endpoints(plan, &args.secrets)?;
    chain.signers.lanes = scene.lanes()?;
    let store = scene.made_store().await?;
    if store.meta(fleet::START).await.map_err(Failure::run)?.is_some() {
        progress.step("the load has begun: nothing is made ready under it");
        return Ok(());
    }
    progress.stage("Provisioning");
    let hear = |event: nearbench_near::provision::Progress<'_>| tell(progress, event);
    let done = provision::provision(&chain, plan, &args.secrets, stop, &hear).await?.ok_or_else(ended_early)?;
    fleet::seed(&store, plan, &done).await?;
    let ground = Ground {
        run_started,
        public_keys: done.public_keys(),
        limits: done.limits,
        height: done.height,
        balances: done.balances,
    };
    leave(&store, GROUND, &ground).await?;
    progress.step(&format!("{} lanes are in {}", ground.public_keys.len(), store.name()));
    Ok(())
}
