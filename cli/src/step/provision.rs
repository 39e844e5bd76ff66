//! Makes the chain what the plan needs, and leaves in the store what the load starts from.

use super::{GROUND, Ground, Scene, ended_early, leave};
use crate::{
    chain::Chain,
    exit::Failure,
    fleet,
    provision::{self, tell},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use nearbench_near::provision::{Journal, JournalError};
use nearbench_store::RedisStore;

/// What was signed, in the run's store: a step that is done again sends it again.
struct Kept<'a>(&'a RedisStore);

fn entry(step: &str) -> String {
    format!("signed-{step}")
}

impl Journal for Kept<'_> {
    fn load<'a>(&'a self, step: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, JournalError>> {
        Box::pin(async move { Ok(self.0.meta(&entry(step)).await?) })
    }

    fn store<'a>(&'a self, step: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move { Ok(self.0.put_meta(&[(&entry(step), &bytes)]).await?) })
    }
}

pub(super) async fn run(scene: &Scene) -> Result<(), Failure> {
    let Scene { args, plan, progress, stop, .. } = scene;
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
    let journal = Kept(&store);
    let done = provision::provision(&chain, plan, &args.secrets, Some(&journal), stop, &hear).await?;
    let done = done.ok_or_else(ended_early)?;
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
