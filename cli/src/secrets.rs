//! The Secrets that a plan names, read from their folders under `--secrets`. Every error names the field and the file.

use crate::exit::Failure;
use anyhow::{Context, anyhow};
use nearbench_core::{
    Account,
    plan::{Endpoint, Keys, Plan, Store},
};
use nearbench_near::{
    SecretText, Signer,
    http::HttpTransport,
    keyfile::{self, ACCOUNT_FILE, KEYS_FILE},
};
use std::path::{Path, PathBuf};

/// The fields that name key files.
pub(crate) const FUNDER: &str = "account.createFrom.secretRef";
pub(crate) const MASTER: &str = "account.masterKeySecretRef";
pub(crate) const KEYS: &str = "account.keys.secretRef";

/// The way to an endpoint, with its credentials.
pub(crate) fn transport(folder: &Path, endpoint: &Endpoint) -> Result<HttpTransport, Failure> {
    let read = |secret: &String| SecretText::read(&folder.join(secret).join("nearbench-rpc-auth"));
    let authorization = endpoint.auth_secret.as_ref().map(read).transpose();
    let authorization = authorization.context("spec.network.endpoints.authSecretRef").map_err(Failure::input)?;
    HttpTransport::new(&endpoint.url, authorization.as_ref()).map_err(Failure::input)
}

/// The key of `owner` in the Secret that `field` names.
pub(crate) fn account(folder: &Path, field: &str, secret: &str, owner: &Account) -> Result<Signer, Failure> {
    keyfile::read_account(&folder.join(secret).join(ACCOUNT_FILE), owner)
        .with_context(|| format!("spec.{field}"))
        .map_err(Failure::input)
}

/// The prepared keys of `owner`.
pub(crate) fn keys(folder: &Path, secret: &str, owner: &Account) -> Result<Vec<Signer>, Failure> {
    keyfile::read_keys(&folder.join(secret).join(KEYS_FILE), owner)
        .with_context(|| format!("spec.{KEYS}"))
        .map_err(Failure::input)
}

/// The key file that `field` leads to.
pub(crate) fn file_of(plan: &Plan, folder: &Path, field: &str) -> Option<PathBuf> {
    let account = &plan.account;
    let (secret, file) = match field {
        FUNDER => (account.create_from.as_ref()?.secret.as_ref()?, ACCOUNT_FILE),
        MASTER => (account.master_key_secret.as_ref()?, ACCOUNT_FILE),
        KEYS => match &account.keys {
            Keys::Prepared { secret } => (secret, KEYS_FILE),
            Keys::Generate { .. } => return None,
        },
        _ => return None,
    };
    Some(folder.join(secret).join(file))
}

/// Reads every Secret whose folder is there; the fields of those without one, which may be in a cluster.
pub(crate) fn check(plan: &Plan, folder: &Path) -> Result<Vec<String>, Failure> {
    let (mut absent, mut faults) = (Vec::new(), Vec::new());
    let mut look = |field: &str, secret: &String, read: &dyn Fn() -> Result<(), Failure>| {
        let folder = folder.join(secret);
        if !folder.is_dir() {
            absent.push(format!("spec.{field}: there is no folder {} here", folder.display()));
        } else if let Err(failure) = read() {
            faults.push(format!("\n  {:#}", failure.error));
        }
    };
    for endpoint in &plan.network.endpoints {
        if let Some(secret) = &endpoint.auth_secret {
            look("network.endpoints.authSecretRef", secret, &|| transport(folder, endpoint).map(drop));
        }
    }
    let payer = &plan.account;
    if let Some(from) = &payer.create_from
        && let Some(secret) = &from.secret
    {
        look(FUNDER, secret, &|| account(folder, FUNDER, secret, &from.account_id).map(drop));
    }
    if let Some(secret) = &payer.master_key_secret {
        look(MASTER, secret, &|| account(folder, MASTER, secret, &payer.account_id).map(drop));
    }
    if let Keys::Prepared { secret } = &payer.keys {
        look(KEYS, secret, &|| keys(folder, secret, &payer.account_id).map(drop));
    }
    if let Store::Redis { secret } = &plan.store {
        look("store.redis.secretRef", secret, &|| {
            SecretText::read(&folder.join(secret).join("nearbench-redis-url"))
                .context("spec.store.redis.secretRef")
                .map(drop)
                .map_err(Failure::input)
        });
    }
    if faults.is_empty() {
        Ok(absent)
    } else {
        Err(Failure::input(anyhow!("Secrets cannot be used:{}", faults.concat())))
    }
}
