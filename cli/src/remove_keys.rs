//! `nearbench remove-keys`: takes access keys off a manifest's account that a run could not remove, such as one that was
//! deleted before it came to its end. It takes the keys that are named, and no others.

use crate::{
    args,
    chain::{Chain, Signers},
    exit::{self, Failure},
    manifest::Manifest,
    output,
    patience::patiently,
    progress::Progress,
    provision::tell,
};
use anyhow::{Context, anyhow};
use nearbench_near::{
    chain::At,
    provision::{Progress as Event, ProvisionError, remove_keys},
    signer,
};

pub(crate) async fn run(args: args::RemoveKeys) -> Result<u8, Failure> {
    let wanted = public_keys(&args.keys)?;
    let plan = Manifest::load(&args.file, &args.references, None)?.plan;
    if plan.network.endpoints.is_empty() {
        return Err(Failure::input(anyhow!(
            "spec.network.endpoints: there is no chain to take keys off; a devnet of a run's own ends with the run, and its \
             keys with it"
        )));
    }
    let Chain { client, signers: Signers { master, .. }, .. } =
        Chain::through_endpoints(&plan, &args.references.secrets)?;
    let master = master.ok_or_else(|| {
        Failure::input(anyhow!(
            "spec.account.masterKeySecretRef: without a master key no key can be removed: name the Secret that holds one"
        ))
    })?;
    if wanted.iter().any(|key| key == master.public_key()) {
        return Err(Failure::input(anyhow!(
            "{} is the master key of {}: without it nobody could change the account any more; leave it out",
            master.public_key(),
            master.account()
        )));
    }
    client.check_chain_id(&plan.network.chain_id).await.map_err(Failure::run)?;
    let (mut there, mut absent) = (Vec::new(), Vec::new());
    for key in wanted {
        let found = client.access_key(master.account(), &key, At::Final).await.map_err(Failure::run)?;
        if found.value.is_some() { there.push(key) } else { absent.push(key) }
    }
    let progress = Progress::new();
    let hear = |event: Event<'_>| tell(&progress, event);
    let remove = || remove_keys(&client, &master, &there, &hear);
    let may_pass = |error: &ProvisionError| !matches!(error, ProvisionError::Impossible { .. });
    let removed = patiently(&progress, remove, may_pass).await;
    progress.finish();
    removed.with_context(|| format!("{} may still have these access keys", master.account())).map_err(Failure::run)?;

    let line = |what: &str, key: &String| format!("{what} {key}\n");
    let removed = there.iter().map(|key| line("removed", key));
    output::print(removed.chain(absent.iter().map(|key| line("was not there:", key))).collect::<String>())?;
    Ok(exit::PASSED)
}

/// Keys as the chain writes them, each once. What is none is not repeated: it might be a secret key.
fn public_keys(texts: &[String]) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::with_capacity(texts.len());
    for (number, text) in (1..).zip(texts) {
        let key = signer::public_key(text).ok_or_else(|| {
            Failure::input(anyhow!(
                "KEY {number} of {} is no public key: write it as ed25519: and base58; was it cut, or is it a secret key?",
                texts.len()
            ))
        })?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}
