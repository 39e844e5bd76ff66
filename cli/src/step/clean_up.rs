//! Takes the run's keys off the account, and what the run has out of a Redis that outlives it.

use super::Scene;
use crate::{
    chain::Chain,
    exit::Failure,
    patience::patiently,
    provision::{public_keys, tell},
};
use anyhow::{Context, anyhow};
use nearbench_core::plan::Keys;
use nearbench_near::provision::{ProvisionError, remove_keys};

pub(super) async fn run(scene: &Scene) -> Result<(), Failure> {
    let Scene { args, plan, progress, .. } = scene;
    if let Keys::Generate { .. } = plan.account.keys {
        let chain = Chain::through_endpoints(plan, &args.secrets)?;
        let keys = public_keys(&scene.lanes()?);
        let master = chain.signers.master.as_ref().ok_or_else(|| {
            Failure::input(anyhow!("spec.account.masterKeySecretRef: without a master key no key can be removed"))
        })?;
        progress.stage("Cleaning up");
        let hear = |event: nearbench_near::provision::Progress<'_>| tell(progress, event);
        let remove = || remove_keys(&chain.client, master, &keys, &hear);
        let may_pass = |error: &ProvisionError| !matches!(error, ProvisionError::Impossible { .. });
        patiently(progress, remove, may_pass)
            .await
            .context("the run's access keys were not removed from the account")
            .map_err(Failure::run)?;
    }
    if args.forget {
        scene.store().await?.forget().await.context("the run is left in its Redis").map_err(Failure::run)?;
    }
    Ok(())
}
