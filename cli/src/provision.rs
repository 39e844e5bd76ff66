//! Provisioning, as a stage of a run and as a command of its own.

use crate::{
    args,
    chain::Chain,
    driver::leads_to,
    exit::{self, Failure},
    fleet, interrupt,
    kept::Kept,
    log,
    manifest::Manifest,
    output,
    progress::Progress,
    secrets,
};
use anyhow::anyhow;
use bytes::Bytes;
use nearbench_core::{
    Amount, Plan,
    lifecycle::Stage,
    plan::{CreateFrom, Keys},
    schedule::Schedule,
};
use nearbench_near::{
    Signer,
    keyfile::{self, KEYS_FILE},
    provision::{self, Desired, Journal, Progress as Event, ProvisionError, Provisioned},
};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio_util::sync::CancellationToken;

/// nearbench's own token, built from `contracts/ft`.
const TOKEN: &[u8] = include_bytes!("../../contracts/ft/res/ft.wasm");

/// Makes the chain what the plan needs, and checks it. `None`: it was stopped, and nothing is under way. `tell` hears
/// how it goes; `secrets` is where the key files are, for errors to name them; `journal` keeps what must happen once.
pub(crate) async fn provision(
    chain: &Chain,
    plan: &Plan,
    secrets: &Path,
    journal: Option<&dyn Journal>,
    stop: &CancellationToken,
    tell: &(dyn Fn(Event<'_>) + Sync),
) -> Result<Option<Provisioned>, Failure> {
    let signers = &chain.signers;
    let create_from = match (&plan.account.create_from, &signers.create_from) {
        (Some(CreateFrom { initial_balance, .. }), Some(funder)) => Some((funder.clone(), *initial_balance)),
        _ => None,
    };
    let transfers = Schedule::new(&plan.load.phases).total();
    let desired = Desired {
        chain_id: plan.network.chain_id.clone(),
        account: plan.account.account_id.clone(),
        create_from,
        master: signers.master.clone(),
        lane_keys: public_keys(&signers.lanes),
        token: plan.token.contract_id.clone(),
        deploy: plan.token.deploy.map(|deploy| (deploy, Bytes::from_static(TOKEN))),
        receivers: plan.receivers.clone(),
        min_balance: plan.account.min_balance,
        tokens_needed: Amount(u128::from(transfers).saturating_mul(plan.transfer_amount.0)),
    };
    provision::provision(&chain.client, &desired, journal, stop, tell).await.map_err(|error| {
        let error = match &error {
            ProvisionError::Impossible { field, reason } => match secrets::file_of(plan, secrets, field) {
                Some(file) => format!("spec.{field} ({}): {reason}", file.display()),
                None => error.to_string(),
            },
            _ => error.to_string(),
        };
        Failure::run(anyhow!("provisioning failed: {error}"))
    })
}

/// The signers' public keys, in their order.
pub(crate) fn public_keys(signers: &[Signer]) -> Vec<String> {
    signers.iter().map(|signer| signer.public_key().to_owned()).collect()
}

/// Tells a person how it goes.
pub(crate) fn tell(progress: &Progress, event: Event<'_>) {
    match event {
        Event::Planned { steps: 1 } => progress.step("1 step to do"),
        Event::Planned { steps } => progress.step(&format!("{steps} steps to do")),
        Event::Done { step, number, of } => progress.step(&format!("done {number}/{of}: {step}")),
        Event::Verified => progress.step("verified: account, keys, token and receivers are as the plan needs them"),
    }
}

/// The run's own keys, kept in a file for as long as they may be on chain: a run that is killed leaves them to be
/// used or removed.
pub(crate) struct KeptKeys {
    path: Option<std::path::PathBuf>,
    /// Whether an earlier run left them: what it sent may still be on its way to the chain.
    earlier: bool,
}

impl KeptKeys {
    /// Writes the keys that this run made, unless the chain ends with it anyway. To be called before they go on chain.
    /// Where the folder holds the keys of a run that did not get to remove them, this run goes on with those. A run that is
    /// resumed signs with its own keys or, once they are removed, with none: that is done when nothing is left to sign.
    pub(crate) async fn keep(
        chain: &mut Chain,
        plan: &Plan,
        folder: &Path,
        kept: Option<&Kept>,
    ) -> Result<Self, Failure> {
        let Keys::Generate { count } = plan.account.keys else { return Ok(Self { path: None, earlier: false }) };
        if chain.is_own() {
            return Ok(Self { path: None, earlier: false });
        }
        let path = folder.join(KEYS_FILE);
        let resumed = kept.filter(|kept| kept.opening.is_some());
        let earlier = path.exists();
        if earlier {
            let left = keyfile::read_keys(&path, &plan.account.account_id).map_err(Failure::input)?;
            if left.len() != count as usize {
                return Err(Failure::input(anyhow!(
                    "{} holds {} keys of an earlier run that may still be on chain, and spec.account.keys.count is {count}: \
                     use the same count, or another --out",
                    path.display(),
                    left.len(),
                )));
            }
            chain.signers.lanes = left;
        } else if let Some(resumed) = resumed {
            let unsettled = resumed.unsettled().await.map_err(Failure::run)?;
            if unsettled > 0 {
                return Err(Failure::input(anyhow!(
                    "{} is missing: it holds the keys that {unsettled} transfers without an end are signed with; put it back",
                    path.display()
                )));
            }
            chain.signers.lanes.clear();
        } else {
            keyfile::write_keys(&path, &chain.signers.lanes).map_err(Failure::run)?;
        }
        Ok(Self { path: (earlier || resumed.is_none()).then_some(path), earlier })
    }

    /// The file, as long as its keys may be on chain.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether an earlier run left them.
    pub(crate) fn are_earlier(&self) -> bool {
        self.earlier
    }

    /// The keys are no longer on chain.
    pub(crate) fn forget(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove the file of keys that are no longer on chain");
        }
    }
}

/// `nearbench provision`.
pub(crate) async fn run(args: args::Provision) -> Result<u8, Failure> {
    let plan = Manifest::load(&args.file, &args.references, None)?.plan;
    log::of_run(&plan);
    if plan.network.endpoints.is_empty() {
        return Err(Failure::input(anyhow!(
            "spec.network.endpoints: there is no chain to provision; a devnet of a run's own is provisioned by the run. \
             Start one with `nearbench devnet` and name its URL"
        )));
    }
    // What is wrong with them is told before anything changes on chain.
    let workers = match (&args.redis_url_file, &args.plan) {
        (Some(file), Some(folder)) => {
            output::is_folder("--plan", folder)?;
            Some((fleet::lasting_store(&plan, &fleet::read_url(file)?).await?, folder))
        }
        _ => None,
    };
    let stop = interrupt::watch(
        args.keys.join(KEYS_FILE),
        "provision again with the same --keys, and they are used",
        Some(leads_to(Stage::Provisioning)),
    )?;
    let progress = Progress::new();
    let mut chain = Chain::through_endpoints(&plan, &args.references.secrets)?;
    output::is_folder("--keys", &args.keys)?;
    let kept = KeptKeys::keep(&mut chain, &plan, &args.keys, None).await?;
    progress.stage("Provisioning");
    let changed = AtomicBool::new(false);
    let hear = |event: Event<'_>| {
        changed.fetch_or(matches!(event, Event::Planned { .. }), Ordering::Relaxed);
        tell(&progress, event);
    };
    let done = provision(&chain, &plan, &args.references.secrets, None, &stop, &hear).await;
    progress.finish();
    let Some(done) = done? else {
        let error = anyhow!("it was stopped; what was done stays, and the same command goes on from there");
        return Err(Failure { code: exit::INCONCLUSIVE, error });
    };
    let mut equipped = String::new();
    if let Some((store, folder)) = workers {
        let keys = match &plan.account.keys {
            Keys::Generate { .. } => args.keys.clone(),
            Keys::Prepared { secret } => args.references.secrets.join(secret),
        };
        fleet::equip(&plan, &done, &store, folder, &keys).await?;
        equipped = format!(
            "\nworkers: nearbench worker --plan {} --keys {} --redis-url-file FILE --listen ADDR",
            folder.display(),
            keys.display()
        );
    }
    let keys = kept.path.map_or_else(String::new, |path| format!("; their keys are in {}", path.display()));
    let nothing = if changed.into_inner() { "" } else { "; nothing was to do" };
    output::print(format!(
        "{} is ready at height {}: {} lanes{keys}, {} receivers registered at {}{nothing}{equipped}\n",
        plan.account.account_id,
        done.height,
        done.lanes.len(),
        plan.receivers.len(),
        plan.token.contract_id,
    ))?;
    Ok(exit::PASSED)
}
